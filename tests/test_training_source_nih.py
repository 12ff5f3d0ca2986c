"""ChestX-ray14 in its own layout -> a manifest, and each of its faults counted."""

from pathlib import Path

import pytest

from cxr_triage.training.data import NIH_LABELS, Region, read_samples
from cxr_triage.training.sources.nih import NOISE, SOURCE, patient_of
from published_sets import grey_image, nih_folder, problems_of, replace_in, written

#: A row's labels when all that is not named is absent.
ABSENT = dict.fromkeys(("no_finding", *NIH_LABELS), "0")


@pytest.mark.parametrize("release", ["2017", "2020"])
def test_both_releases_give_the_same_rows(tmp_path: Path, release: str) -> None:
    """Header variants, ages with and without a unit, and a comma at the end of each line."""
    folder = nih_folder(tmp_path / "nih", release=release)
    rows, summary = written(SOURCE, folder)
    images = folder.resolve()
    one = {"source": "nih", "patient": "nih00001", "sex": "M", "age": "58", "split": "train_val", "reference": "0"}
    assert rows == [
        one
        | ABSENT
        | {
            "id": "00000001_000",
            "path": f"{images}/images_001/images/00000001_000.png",
            "view": "PA",
            "Cardiomegaly": "1",
            "Emphysema": "1",
        },
        one
        | ABSENT
        | {
            "id": "00000001_001",
            "path": f"{images}/images_001/images/00000001_001.png",
            "view": "AP",
            "no_finding": "1",
        },
        one
        | ABSENT
        | {
            "id": "00013118_008",
            "path": f"{images}/images_006/images/00013118_008.png",
            "patient": "nih13118",
            "sex": "F",
            "age": "69",
            "view": "PA",
            "split": "test",
            "Infiltration": "1",
        },
    ]
    assert summary["problems"] == {}
    assert (summary["images"], summary["patients"], summary["boxes"]) == (3, 2, 1)
    assert summary["labels"]["Cardiomegaly"] == {"positive": 1, "negative": 2}


def test_boxes_are_fractions_under_the_labels_own_name(tmp_path: Path) -> None:
    """What the table calls Infiltrate is Infiltration; 1024 pixels are the whole side."""
    written(SOURCE, nih_folder(tmp_path / "nih"))
    (sample,) = [sample for sample in read_samples(tmp_path / "manifest") if sample.regions]
    assert sample.regions == (Region(label="Infiltration", x0=0.2198, y0=0.5342, x1=0.3046, y1=0.6115),)
    assert sample.patient == "nih/nih13118"


def test_images_may_lie_in_one_folder(tmp_path: Path) -> None:
    """As after all archives were unpacked into one place."""
    folder = nih_folder(tmp_path / "nih")
    for archive in ("images_001", "images_006"):
        for path in sorted((folder / archive / "images").iterdir()):
            (folder / "images").mkdir(exist_ok=True)
            path.rename(folder / "images" / path.name)
    rows, summary = written(SOURCE, folder)
    assert [row["path"] for row in rows] == [str(path.resolve()) for path in sorted((folder / "images").iterdir())]
    assert summary["problems"] == {}


FAULTS = {
    "implausible age": ("Data_Entry_2017.csv", "058Y,M,PA", "411Y,M,PA", "implausible_age", "00000001_000.png: 411Y"),
    "age without number": ("Data_Entry_2017.csv", "069Y", "old", "unreadable_age", "00013118_008.png: old"),
    "unknown label": (
        *("Data_Entry_2017.csv", "Infiltration,", "Infiltration|Wet Lung,"),
        *("unknown_label", "00013118_008.png: Wet Lung"),
    ),
    "no finding beside one": (
        *("Data_Entry_2017.csv", "No Finding", "No Finding|Mass", "contradicting_labels", "00000001_001.png"),
    ),
    "image listed twice": (
        *("Data_Entry_2017.csv", "00000001_001.png", "00000001_000.png", "duplicate_id", "00000001_000"),
    ),
    "missing image": ("Data_Entry_2017.csv", "00013118_008", "00013118_009", "missing_image", "00013118_009.png"),
    "cut line": (
        "Data_Entry_2017.csv",
        ",PA,2500,2048,0.168,0.168,",
        "",
        "unreadable_row",
        "Data_Entry_2017.csv line 4",
    ),
    "odd name": (
        *("Data_Entry_2017.csv", "00000001_001.png", "scan1.png", "unreadable_row", "Data_Entry_2017.csv: scan1.png"),
    ),
    "box of no label": ("BBox_List_2017.csv", "Infiltrate", "Wet Lung", "unreadable_box", "00013118_008.png Wet Lung"),
    "box outside": (*("BBox_List_2017.csv", "225.08", "1000.08", "unreadable_box", "00013118_008.png Infiltration"),),
    "box without numbers": (
        *("BBox_List_2017.csv", "225.084745762712,", "", "unreadable_box", "00013118_008.png Infiltration"),
    ),
    "box of no image": ("BBox_List_2017.csv", "00013118", "00013119", "box_without_image", "00013119_008.png"),
    "split twice": ("test_list.txt", "00013118_008.png", "00000001_001.png", "two_splits", "00000001_001.png"),
    "split nowhere": ("test_list.txt", "00013118_008.png", "", "unlisted_split", "00013118_008.png"),
    "patient in both": ("test_list.txt", "00013118_008", "00000001_000", "patient_in_several_splits", "nih00001"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted_and_named(tmp_path: Path, fault: str) -> None:
    """And the rest is used."""
    table, old, new, kind, name = FAULTS[fault]
    folder = nih_folder(tmp_path / "nih")
    replace_in(folder / table, old, new)
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary)[kind] == (1, [name])
    assert len(rows) >= 2


def test_what_a_fault_leaves_unknown_is_empty(tmp_path: Path) -> None:
    """Not labelled is not the same as absent."""
    folder = nih_folder(tmp_path / "nih")
    replace_in(folder / "Data_Entry_2017.csv", "Infiltration,", "Infiltration|Wet Lung,")
    replace_in(folder / "Data_Entry_2017.csv", "No Finding", "No Finding|Mass")
    replace_in(folder / "Data_Entry_2017.csv", "069Y", "690Y")
    rows, _ = written(SOURCE, folder)
    assert {name for name in rows[2] if name in ABSENT} == {"Infiltration"}
    assert {name for name in rows[1] if name in ABSENT} == set()
    assert "age" not in rows[2]


def test_missing_lists_and_boxes_are_said(tmp_path: Path) -> None:
    """They can be done without."""
    folder = nih_folder(tmp_path / "nih")
    for name in ("BBox_List_2017.csv", "test_list.txt", "train_val_list.txt"):
        (folder / name).unlink()
    rows, summary = written(SOURCE, folder)
    count, first = problems_of(summary)["missing_file"]
    assert (count, set(first)) == (3, {"BBox_List_2017.csv", "test_list.txt", "train_val_list.txt"})
    assert problems_of(summary)["unlisted_split"][0] == len(rows) == 3


def test_surplus_images_are_counted(tmp_path: Path) -> None:
    """Not listed, or there twice."""
    folder = nih_folder(tmp_path / "nih")
    grey_image(folder / "images_002" / "images" / "00000002_000.png")
    grey_image(folder / "images_002" / "images" / "00000001_000.png")
    grey_image(folder / "images_002" / "images" / "._00000001_000.png")
    _, summary = written(SOURCE, folder)
    assert problems_of(summary) == {
        "duplicate_image": (1, ["images_002/images/00000001_000.png"]),
        "unlisted_image": (1, ["00000002_000.png"]),
    }


def test_noise_of_a_union_is_shared_out_by_frequency() -> None:
    """A rare label has no more false positives than it has positives."""
    assert (NOISE["Pneumothorax"].sensitivity, NOISE["Pneumothorax"].specificity) == (0.458, 0.969)
    opacities = ("Infiltration", "Consolidation", "Pneumonia", "Edema")
    assert sum(1 - NOISE[label].specificity for label in opacities) == pytest.approx(1 - 0.861)
    assert 1 - NOISE["Pneumonia"].specificity < 1_431 / 112_120
    assert {NOISE[label].sensitivity for label in opacities} == {0.443}
    assert set(NOISE) <= set(NIH_LABELS)


def test_patient_of_another_name_is_refused() -> None:
    """Rather than made up."""
    assert patient_of("00001234_005.png") == "nih01234"
    with pytest.raises(ValueError, match="not a name of ChestX-ray14's images"):
        patient_of("scan.png")
