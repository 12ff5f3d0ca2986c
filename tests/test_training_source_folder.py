"""Any folder with a table -> a manifest: columns found or named, and each fault counted."""

from pathlib import Path
from typing import Any

import pytest

from builders import radiograph_file, thorax_pixels
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.data import DataError, read_image, read_samples
from cxr_triage.training.sources.folder import named
from published_sets import grey_image, problems_of, replace_in, written

TABLE = (
    "Filename,Patient_ID,Sex,Age,Split,No Finding,Effusion,remark\n"
    "a.png,P1,male,50,train,0,1,first\n"
    "b.png,P2,F,61,val,yes,no,\n"
)


def own_folder(folder: Path, table: str = TABLE) -> Path:
    """Two images and their table."""
    for name in ("a.png", "b.png"):
        grey_image(folder / name)
    (folder / "labels.csv").write_text(table)
    return folder


def test_sensible_names_are_found(tmp_path: Path) -> None:
    """Whatever their case; labels are the other columns with a capital letter."""
    folder = own_folder(tmp_path / "own")
    rows, summary = written(named("ward7"), folder)
    common = {"source": "ward7", "reference": "0"}
    path = folder.resolve()
    assert rows == [
        common
        | {"id": "a.png", "path": f"{path}/a.png", "patient": "P1", "sex": "M", "age": "50", "split": "train"}
        | {"no_finding": "0", "Effusion": "1"},
        common
        | {"id": "b.png", "path": f"{path}/b.png", "patient": "P2", "sex": "F", "age": "61", "split": "validation"}
        | {"no_finding": "1", "Effusion": "0"},
    ]
    assert summary["problems"] == {}


def test_named_columns_come_first(tmp_path: Path) -> None:
    """Whatever the language; where labels are named, nothing else is one."""
    table = "Bild,Fallnummer,erguss,Kommentar\na.png,7,1,wie im Juni\nb.png,8,,1\n"
    folder = own_folder(tmp_path / "own", table)
    rows, summary = written(named("ward7"), folder, file="Bild", patient="Fallnummer", Effusion="erguss")
    assert [(row["patient"], row.get("Effusion")) for row in rows] == [("7", "1"), ("8", None)]
    assert "Kommentar" not in rows[1]
    assert summary["problems"] == {}


def test_dicom_headers_fill_what_no_column_tells(tmp_path: Path) -> None:
    """Sex, age and view; a lateral view is left out and counted."""
    folder = tmp_path / "own"
    folder.mkdir()
    tags: dict[str, Any] = {"PatientSex": "F", "PatientAge": "047Y", "PhotometricInterpretation": "MONOCHROME1"}
    frontal = radiograph_file(folder, pixels=4095 - thorax_pixels(), ViewPosition="PA", **tags)
    lateral = radiograph_file(folder, ViewPosition="LL", **tags)
    (folder / "list.csv").write_text(f"file,patient,Mass\n{frontal.name},1,1\n{lateral.name},1,1\n")
    rows, summary = written(named("ward7"), folder)
    assert [(row["id"], row["sex"], row["age"], row["view"]) for row in rows] == [(frontal.name, "F", "47", "PA")]
    assert summary["left_out"]["lateral_view"]["first"] == [lateral.name]
    (sample,) = read_samples(tmp_path / "manifest")
    assert read_image(sample.image)[48, 40] > read_image(sample.image)[48, 24]


def test_spreadsheets_with_semicolons_are_read(tmp_path: Path) -> None:
    """As they are saved where the comma is the decimal point, with a byte order mark."""
    folder = own_folder(tmp_path / "own")
    (folder / "labels.csv").write_text(TABLE.replace(",", ";"), encoding="utf-8-sig")
    rows, summary = written(named("ward7"), folder)
    assert [row["Effusion"] for row in rows] == ["1", "0"]
    assert summary["problems"] == {}


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    """A typing mistake in a name shows from both sides."""
    folder = own_folder(tmp_path / "own")
    replace_in(folder / "labels.csv", "b.png", "c.png")
    _, summary = written(named("ward7"), folder)
    assert problems_of(summary) == {"missing_image": (1, ["c.png"]), "unlisted_image": (1, ["b.png"])}


FAULTS = {
    "listed twice": ("b.png,P2", "a.png,P2", "duplicate_id", "a.png"),
    "odd label": ("yes,no", "yes,maybe", "unreadable_label", "b.png Effusion=maybe"),
    "no patient": ("b.png,P2", "b.png,", "patient_unknown", "b.png"),
    "implausible age": (",61,", ",610,", "implausible_age", "b.png: 610"),
    "odd split": (",val,", ",later,", "unlisted_split", "b.png: later"),
    "cut line": ("b.png,P2,F,61,val,yes,no,", "b.png,P2", "unreadable_row", "labels.csv line 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted_and_named(tmp_path: Path, fault: str) -> None:
    """And the rest is used."""
    old, new, kind, name = FAULTS[fault]
    folder = own_folder(tmp_path / "own")
    replace_in(folder / "labels.csv", old, new)
    rows, summary = written(named("ward7"), folder)
    assert problems_of(summary)[kind] == (1, [name])
    assert rows[0]["id"] == "a.png"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"patient": "Nobody"}, "has no column 'Nobody'"),
        ({"effusion": "remark"}, "'effusion' is no column of a manifest"),
    ],
)
def test_columns_that_cannot_be_are_refused(tmp_path: Path, columns: dict[str, str], said: str) -> None:
    """With the name that was given."""
    with pytest.raises(DataError, match=said):
        written(named("ward7"), own_folder(tmp_path / "own"), **columns)


def test_table_without_file_or_patient_is_refused(tmp_path: Path) -> None:
    """Patients are needed: splits are made by them."""
    folder = own_folder(tmp_path / "own")
    replace_in(folder / "labels.csv", "Patient_ID", "Code")
    with pytest.raises(DataError, match="--column patient=NAME"):
        written(named("ward7"), folder)


def test_of_several_tables_one_is_called_labels(tmp_path: Path) -> None:
    """Otherwise nobody knows which."""
    folder = own_folder(tmp_path / "own")
    (folder / "other.csv").write_text("x\n")
    rows, _ = written(named("ward7"), folder)
    assert len(rows) == 2
    (folder / "labels.csv").rename(folder / "third.csv")
    (tmp_path / "manifest" / "manifest.csv").unlink()
    with pytest.raises(DataError, match=r"has no labels\.csv"):
        written(named("ward7"), folder)


@pytest.mark.parametrize("name", ["", "nih", "a/b"])
def test_name_that_cannot_be_is_refused(name: str) -> None:
    """Its patients would share keys with another set's."""
    with pytest.raises(ConfigurationError, match="give --name one that no data set has"):
        named(name)
