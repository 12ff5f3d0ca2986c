"""Paediatric pneumonia in its own layout -> a manifest, and each of its faults counted."""

from pathlib import Path

from cxr_triage.training.sources.kermany import SOURCE
from published_sets import grey_image, kermany_folder, problems_of, written


def test_rows_are_read_from_folders_and_names(tmp_path: Path) -> None:
    """Class and split from the folders, the child from the name."""
    folder = kermany_folder(tmp_path / "kermany")
    rows, summary = written(SOURCE, folder)
    assert [(row["id"], row["patient"], row["split"], row["no_finding"], row["Pneumonia"]) for row in rows] == [
        ("kermany-IM-0115-0001", "kermany-IM-0115", "train", "1", "0"),
        ("kermany-NORMAL2-IM-0927-0001", "kermany-IM-0927", "train", "1", "0"),
        ("kermany-person3_bacteria_10", "kermany-person3", "train", "0", "1"),
        ("kermany-person3_virus_16", "kermany-person3", "train", "0", "1"),
        ("kermany-person1946_bacteria_4874", "kermany-person1946", "validation", "0", "1"),
    ]
    assert rows[0] == {
        "id": "kermany-IM-0115-0001",
        "path": str(folder.resolve() / "chest_xray" / "train" / "NORMAL" / "IM-0115-0001.jpeg"),
        "source": "kermany",
        "patient": "kermany-IM-0115",
        "age": "paediatric",
        "view": "AP",
        "split": "train",
        "no_finding": "1",
        "Pneumonia": "0",
        "reference": "0",
    }
    assert (summary["patients"], summary["problems"]) == (4, {})


def test_faults_are_counted(tmp_path: Path) -> None:
    """A child in two splits, a name that tells no child, an image outside the classes, a broken one, one twice."""
    folder = kermany_folder(tmp_path / "kermany")
    grey_image(folder / "chest_xray" / "test" / "PNEUMONIA" / "person3_virus_15.jpeg")
    grey_image(folder / "chest_xray" / "test" / "NORMAL" / "scan.jpeg")
    grey_image(folder / "chest_xray" / "test" / "figure.jpeg")
    grey_image(folder / "chest_xray" / "test" / "NORMAL" / "IM-0115-0001.jpeg")
    broken = grey_image(folder / "chest_xray" / "val" / "NORMAL" / "IM-0200-0001.jpeg")
    broken.write_bytes(broken.read_bytes()[:-200])
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {
        "duplicate_image": (1, ["chest_xray/train/NORMAL/IM-0115-0001.jpeg"]),
        "unlisted_image": (1, ["chest_xray/test/figure.jpeg"]),
        "patient_unknown": (1, ["chest_xray/test/NORMAL/scan.jpeg"]),
        "broken_image": (1, ["kermany-IM-0200-0001"]),
        "patient_in_several_splits": (1, ["kermany-person3"]),
    }
    assert len(rows) == 7
