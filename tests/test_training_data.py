"""Training data: what the manifest says, and nothing that it does not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builders import radiograph_file
from cxr_triage.model.findings import LOCATIONS
from cxr_triage.model.pose import Pose
from cxr_triage.model.radiograph import read_radiograph
from cxr_triage.training.data import (
    DataError,
    Region,
    fold_of,
    locations_of,
    official_splits,
    read_image,
    read_mask,
    read_samples,
    split_of,
)
from cxr_triage.training.targets import ABNORMAL_OUTPUT, outputs_of, targets_of
from evaluated import sample
from miniature import drawn_chest, miniature_folder


def test_split_is_stable() -> None:
    """The hash of these keys never changes, whatever is added to the data."""
    assert [split_of(f"nih/nih{number:05d}") for number in (1, 2, 3, 5, 8)] == [
        "validation",
        "train",
        "train",
        "validation",
        "train",
    ]


def test_split_shares() -> None:
    """About 70, 10 and 20 percent of the patients."""
    splits = [split_of(f"source/{number}") for number in range(5000)]
    shares = [splits.count(split) / 50 for split in ("train", "validation", "test")]
    assert np.allclose(shares, (70, 10, 20), atol=2)


def test_samples_carry_what_the_manifest_says(tmp_path: Path) -> None:
    """Labels, masks, regions and reference predictions, by source."""
    samples = {sample.id: sample for sample in read_samples(miniature_folder(tmp_path / "data"))}
    assert len(samples) == 4 * 24
    assert samples["nih0"].regions == (Region(label="Mass", x0=0.2, y0=0.2, x1=0.3, y1=0.3),)
    assert samples["nih0"].abnormal is True
    assert samples["wingspan3"].abnormal is None
    assert samples["wingspan3"].ctr == 0.4
    assert samples["kermany1"].labels == {"no_finding": True, "Pneumonia": False}
    assert samples["nih4"].patient == "nih/p4"
    assert samples["nih4"].reference is not None


def test_mask_bits_are_the_patients_sides(tmp_path: Path) -> None:
    """Bit 1 is the left lung, which lies on the image's right."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    assert np.array_equal(read_mask(folder / "masks" / "jsrt0.png"), drawn_chest()[1])


def test_unknown_labels_are_masked_not_zero(tmp_path: Path) -> None:
    """A source that does not carry a label says nothing of it."""
    samples = read_samples(miniature_folder(tmp_path / "data", patients=1))
    outputs = outputs_of(samples)
    assert outputs[-2:] == ("Nodule_jsrt", "Pneumonia_paediatric")
    targets = targets_of(samples, outputs)
    known = {sample.source: row for sample, row in zip(samples, ~np.isnan(targets.abnormality), strict=True)}
    assert {name for name, here in zip(outputs, known["jsrt"], strict=True) if here} == {"Nodule_jsrt"}
    assert {name for name, here in zip(outputs, known["kermany"], strict=True) if here} == {"Pneumonia_paediatric"}
    assert not known["wingspan"].any()
    assert known["nih"][outputs.index(ABNORMAL_OUTPUT)]


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([Region(label="Mass", x0=0.2, y0=0.1, x1=0.3, y1=0.2)], {"right", "fifth_1"}),
        ([Region(label="Mass", x0=0.7, y0=0.7, x1=0.8, y1=0.8)], {"left", "fifth_5"}),
        (
            [
                Region(label="Opacity", x0=0.1, y0=0.2, x1=0.45, y1=0.7),
                Region(label="Opacity", x0=0.55, y0=0.2, x1=0.9, y1=0.7),
            ],
            {"left", "right", "fifth_3", "diffuse", "multiple"},
        ),
    ],
)
def test_boxes_become_locations_in_the_patients_sense(regions: list[Region], expected: set[str]) -> None:
    """Left and right are the patient's; fifths count from the apex."""
    assert {name for name, here in locations_of(regions).items() if here} == expected
    assert set(expected) <= set(LOCATIONS)


def test_missing_manifest_says_what_to_do(tmp_path: Path) -> None:
    """A folder that is not one."""
    with pytest.raises(DataError, match=r"name a folder that has a manifest\.csv"):
        read_samples(tmp_path)


def test_missing_image_is_counted(tmp_path: Path) -> None:
    """Never skipped in silence."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    (folder / "images" / "nih0.png").unlink()
    with pytest.raises(DataError, match=r"1 images of .* do not exist"):
        read_samples(folder)


def test_missing_column_names_line_and_column(tmp_path: Path) -> None:
    """A manifest of another layout."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("Hernia", "Hiatus"))
    with pytest.raises(DataError, match=r"line 2: KeyError\('Hernia'\)"):
        read_samples(folder)


def edited(folder: Path, old: str, new: str) -> Path:
    """A miniature whose manifest says something else."""
    manifest = miniature_folder(folder, patients=2) / "manifest.csv"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    return folder


def test_several_folders_are_one_data_set(tmp_path: Path) -> None:
    """Each with its own regions, in the order of the folders; one id in two sources is two radiographs."""
    one = miniature_folder(tmp_path / "one", patients=1)
    other = miniature_folder(tmp_path / "other", patients=1)
    lines = (other / "manifest.csv").read_text().splitlines()
    (other / "manifest.csv").write_text("\n".join(lines[:2]).replace(",nih,", ",elsewhere,") + "\n")
    samples = read_samples(one, other)
    assert [sample.source for sample in samples] == ["nih", "jsrt", "wingspan", "kermany", "elsewhere"]
    assert samples[-1].id == samples[0].id
    assert samples[-1].patient == "elsewhere/p0"
    assert samples[-1].image.parent == other / "images"
    assert samples[-1].regions == samples[0].regions != ()


def test_radiograph_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """It would count double, or be trained on and tested."""
    folder = miniature_folder(tmp_path / "data", patients=1)
    with pytest.raises(
        DataError, match=r"4 radiographs stand in the manifests more than once, the first one is nih/nih0"
    ):
        read_samples(folder, folder)


def test_adding_data_never_moves_a_patient(tmp_path: Path) -> None:
    """Split, fold and official split of everybody who was there before."""
    few = read_samples(miniature_folder(tmp_path / "few", patients=6))
    many = read_samples(miniature_folder(tmp_path / "many", patients=24))
    before, after = official_splits(few), official_splits(many)
    assert before == {patient: after[patient] for patient in before}
    assert before == {sample.patient: split_of(sample.patient) for sample in few}


def test_folds_are_equal_shares_of_every_split() -> None:
    """A patient's fold says nothing of the split, and never changes."""
    patients = [f"source/{number}" for number in range(5000)]
    tested = [fold_of(patient, 5) for patient in patients if split_of(patient) == "test"]
    assert np.allclose([tested.count(fold) / len(tested) for fold in range(5)], 0.2, atol=0.04)
    assert [fold_of(f"nih/nih{number:05d}", 5) for number in (1, 2, 3, 5, 8)] == [0, 1, 4, 0, 1]


def test_official_splits_hold_a_patient_together() -> None:
    """A patient in two splits is held out, and an undivided training part is divided by hash."""
    by_hash = {split_of(f"nih/{number}"): f"nih/{number}" for number in range(100)}
    published = [
        *(("nih/a", "test"), ("nih/b", "train"), ("nih/b", "test"), ("nih/c", "train"), ("nih/c", "validation")),
        *((by_hash["test"], "train_val"), (by_hash["validation"], "train_val"), (by_hash["train"], "")),
        # The same patient's images in a set that publishes no split do not move the patient.
        (by_hash["test"], ""),
    ]
    found = official_splits([sample(patient=patient, official_split=split) for patient, split in published])
    assert found == {
        "nih/a": "test",
        "nih/b": "test",
        "nih/c": "validation",
        by_hash["test"]: "train",
        by_hash["validation"]: "validation",
        by_hash["train"]: "train",
    }


def test_further_label_columns_are_those_with_a_capital(tmp_path: Path) -> None:
    """Beside the fourteen and "no_finding"; other columns are no labels."""
    folder = edited(tmp_path / "data", "mask,ctr,reference\n", "mask,ctr,reference,COPD,note,split\n")
    manifest = folder / "manifest.csv"
    header, first, *others = manifest.read_text().splitlines()
    rows = [f"{first},1,1,test", *(f"{line},,,train_val" for line in others)]
    manifest.write_text("\n".join([header, *rows]) + "\n")
    samples = read_samples(folder)
    assert samples[0].labels["COPD"] is True
    assert "note" not in samples[0].labels
    assert "COPD" not in samples[1].labels
    assert [sample.official_split for sample in samples[:2]] == ["test", "train_val"]


@pytest.mark.parametrize(
    ("old", "new", "said"), [("PA,0,", "PA,-1,", "no_finding=-1"), ("PA,0,", "PA,yes,", "no_finding=yes")]
)
def test_label_that_is_neither_yes_nor_no_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """An uncertain label is left empty by whoever writes the manifest, never guessed at here."""
    with pytest.raises(DataError, match=said):
        read_samples(edited(tmp_path / "data", old, new))


def test_patients_of_another_source_keep_their_key(tmp_path: Path) -> None:
    """Images that one data set re-publishes from another stay in the split of their patient."""
    folder = edited(tmp_path / "data", "id,path,source,patient,", "id,path,source,patient,patient_source,")
    manifest = folder / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",p0,", ",p0,nih,").replace(",p1,", ",p1,,"))
    samples = {sample.id: sample.patient for sample in read_samples(folder)}
    assert samples["jsrt0"] == samples["nih0"] == "nih/p0"
    assert samples["jsrt1"] == "jsrt/p1"


def test_dicom_files_are_read_as_the_service_reads_them(tmp_path: Path) -> None:
    """MONOCHROME1, windows and all: the same pixels."""
    path = radiograph_file(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_image(path), read_radiograph(path).pixels_HW)


def test_mirrored_dicom_files_are_turned_with_their_masks(tmp_path: Path) -> None:
    """The patient's right on the image's right: the network never sees it so."""
    path = radiograph_file(tmp_path, PatientOrientation=["R", "F"])
    stored = read_radiograph(path).pixels_HW
    assert np.array_equal(read_image(path), stored[:, ::-1])
    masks = np.zeros((3, *stored.shape), dtype=np.bool_)
    masks[0, :, :10] = True
    shown = Pose.of(read_radiograph(path)).shown_masks(masks)
    assert shown[0, :, -10:].all()
    assert shown.sum() == masks.sum()


def test_images_of_more_than_eight_bits_are_scaled(tmp_path: Path) -> None:
    """PNG and TIFF of 16 bits of which a part is used."""
    pixels = np.array([[0, 1024], [2048, 4096]], dtype=np.uint16)
    for name in ("image.png", "image.tif"):
        Image.fromarray(pixels).save(tmp_path / name)
        assert read_image(tmp_path / name).tolist() == [[0.0, 0.25], [0.5, 1.0]]
    Image.fromarray(pixels).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    assert read_image(tmp_path / "negative.tif").tolist() == [[1.0, 0.75], [0.5, 0.0]]
    Image.fromarray(np.zeros((2, 2), dtype=np.uint16)).save(tmp_path / "black.png")
    assert read_image(tmp_path / "black.png").max() == 0
