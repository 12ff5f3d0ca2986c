"""RSNA's pneumonia challenge in its own layout -> a manifest, and each of its faults counted."""

from pathlib import Path

import pytest

from cxr_triage.training.data import DataError, Region, read_samples
from cxr_triage.training.sources.rsna import SOURCE
from published_sets import RSNA_NORMAL, RSNA_OPACITY, RSNA_OTHER, problems_of, replace_in, rsna_folder, written

MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"


def test_rows_join_tables_headers_and_the_mapping(tmp_path: Path) -> None:
    """Labels from the class, age and view from the header, the patient from ChestX-ray14's name."""
    folder = rsna_folder(tmp_path / "rsna")
    rows, summary = written(SOURCE, folder)
    common = {"source": "rsna", "patient_source": "nih", "sex": "F", "reference": "0"}
    images = folder.resolve() / "stage_2_train_images"
    assert rows == [
        common
        | {"id": name, "path": f"{images}/{name}.dcm", "patient": patient, "age": age, "view": view}
        | {"no_finding": no_finding, "Lung_Opacity": opacity}
        for name, patient, age, view, no_finding, opacity in (
            (RSNA_OTHER, "nih00002", "51", "PA", "0", "0"),
            (RSNA_NORMAL, "nih00003", "48", "PA", "1", "0"),
            (RSNA_OPACITY, "nih00001", "32", "AP", "0", "1"),
        )
    ]
    assert (summary["problems"], summary["boxes"]) == ({}, 2)


def test_patients_are_those_of_chestxray14(tmp_path: Path) -> None:
    """One who is in both sets has one key, and so one split; boxes are fractions."""
    written(SOURCE, rsna_folder(tmp_path / "rsna"))
    sample = read_samples(tmp_path / "manifest")[2]
    assert sample.patient == "nih/nih00001"
    assert sample.regions[0] == Region(label="Lung_Opacity", x0=0.2578, y0=0.1484, x1=0.4658, y1=0.5186)


def test_without_the_mapping_every_image_is_a_warning(tmp_path: Path) -> None:
    """The same patients may then be trained on here and tested on there."""
    folder = rsna_folder(tmp_path / "rsna")
    (folder / MAPPING).unlink()
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {
        "missing_file": (1, [MAPPING]),
        "patients_of_another_source": (3, [RSNA_OTHER, RSNA_NORMAL, RSNA_OPACITY]),
    }
    assert rows[0]["patient"] == RSNA_OTHER
    assert "patient_source" not in rows[0]


LABELS, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
FAULTS = {
    "missing image": (LABELS, f"{RSNA_OTHER},,,,,0", "ffff,,,,,0", "missing_image", "ffff"),
    "unlisted image": (LABELS, f"{RSNA_OTHER},,,,,0\n", "", "unlisted_image", f"{RSNA_OTHER}.dcm"),
    "box without numbers": (LABELS, "264.0,152.0", ",", "unreadable_box", f"{RSNA_OPACITY} Lung_Opacity"),
    "unknown class": (CLASSES, ",Normal", ",Healthy", "unknown_label", f"{RSNA_NORMAL}: Healthy"),
    "class against boxes": (CLASSES, ",Normal", ",Lung Opacity", "contradicting_labels", RSNA_NORMAL),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted_and_named(tmp_path: Path, fault: str) -> None:
    """And the rest is used."""
    table, old, new, kind, name = FAULTS[fault]
    folder = rsna_folder(tmp_path / "rsna")
    replace_in(folder / table, old, new)
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary)[kind] == (1, [name])
    assert len(rows) >= 2


def test_labels_without_classes_are_the_boxes_alone(tmp_path: Path) -> None:
    """Who is normal is then unknown."""
    folder = rsna_folder(tmp_path / "rsna")
    (folder / CLASSES).unlink()
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {"missing_file": (1, [CLASSES])}
    assert [row["Lung_Opacity"] for row in rows] == ["0", "0", "1"]
    assert all("no_finding" not in row for row in rows)


def test_mapping_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Silence would cost the patients' splits."""
    folder = rsna_folder(tmp_path / "rsna")
    replace_in(folder / MAPPING, "img_id", "image")
    with pytest.raises(DataError, match="is not RSNA's list of subset_img_id and img_id"):
        written(SOURCE, folder)


def test_broken_image_is_counted(tmp_path: Path) -> None:
    """Cut off in its pixels, and not a DICOM file at all."""
    folder = rsna_folder(tmp_path / "rsna")
    cut = folder / "stage_2_train_images" / f"{RSNA_NORMAL}.dcm"
    cut.write_bytes(cut.read_bytes()[:-4000])
    (folder / "stage_2_train_images" / f"{RSNA_OTHER}.dcm").write_bytes(b"moved")
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {"broken_image": (2, [RSNA_OTHER, RSNA_NORMAL])}
    assert [row["id"] for row in rows] == [RSNA_OPACITY]
