"""PLCO as far as its layout is known -> a manifest, and each of its faults counted."""

from pathlib import Path

import pytest

from cxr_triage.training.data import DataError, read_samples
from cxr_triage.training.sources.plco import LABELS, SOURCE
from published_sets import plco_folder, problems_of, replace_in, written

LINK, SCREENS = "lung_xryimg25_data_mar22_d032222.csv", "Screening/lung_screen_data_mar22_d032222.csv"


def test_rows_join_linkage_screens_and_people(tmp_path: Path) -> None:
    """Twelve labels of its own; an inadequate radiograph is left out and counted."""
    folder = plco_folder(tmp_path / "plco")
    rows, summary = written(SOURCE, folder)
    common = {"source": "plco", "patient": "A-000001-1", "sex": "M", "view": "PA", "reference": "0"}
    absent = dict.fromkeys(LABELS, "0")
    images = folder.resolve() / "batch_1a"
    last = absent | common | {"id": "aa02", "path": f"{images}/aa02.tif", "age": "62"}
    del last["Hilar_Abnormality"]
    assert rows == [
        absent | common | {"id": "aa01", "path": f"{images}/aa01.tif", "age": "61", "Nodule": "1", "COPD": "1"},
        last,
    ]
    assert summary["left_out"]["inadequate_image"]["first"] == ["bb01"]
    assert summary["problems"] == {}


def test_it_says_that_it_is_unverified(tmp_path: Path) -> None:
    """In the report, and where the code is read."""
    _, summary = written(SOURCE, plco_folder(tmp_path / "plco"))
    assert "never read against the real files" in summary["unverified"]


def test_its_labels_train_outputs_of_their_own() -> None:
    """The twelve of Guendel et al. 2019: a nodule of PLCO is not one of ChestX-ray14."""
    assert len(LABELS) == 12
    assert SOURCE.output_of("Nodule") == "Nodule_plco"
    assert SOURCE.output_of("COPD") == "COPD_plco"


def test_films_of_sixteen_bits_are_read(tmp_path: Path) -> None:
    """TIFF as it is: nothing is converted."""
    written(SOURCE, plco_folder(tmp_path / "plco"))
    assert [sample.labels["Nodule"] for sample in read_samples(tmp_path / "manifest")] == [True, False]


FAULTS = {
    "missing image": (LINK, "AA02", "AA03", "missing_image", "AA03"),
    "unlisted image": (LINK, "AA02", "AA03", "unlisted_image", "aa02.tif"),
    "image without a screen": (LINK, "A-000001-1,1", "A-000001-1,3", "unlabelled_image", "AA02"),
    "odd cell": (SCREENS, "A-000001-1,0,3,12,1", "A-000001-1,0,3,12,9", "unreadable_label", "aa01.tif as_nodule=9"),
    "implausible age": ("lung_data_mar22_d032222.csv", "61", "611", "implausible_age", "aa01.tif: 611"),
    "screen twice": (
        *(SCREENS, "A-000001-1,1,1", "A-000001-1,0.0,1"),
        *("duplicate_id", "lung_screen_data_mar22_d032222.csv: A-000001-1 in year 0"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_counted_and_named(tmp_path: Path, fault: str) -> None:
    """And the rest is used."""
    table, old, new, kind, name = FAULTS[fault]
    folder = plco_folder(tmp_path / "plco")
    replace_in(folder / table, old, new)
    _, summary = written(SOURCE, folder)
    assert problems_of(summary)[kind][1][0] == name


def test_missing_tables_are_said(tmp_path: Path) -> None:
    """Without participants there is no age."""
    folder = plco_folder(tmp_path / "plco")
    (folder / "lung_data_mar22_d032222.csv").unlink()
    rows, summary = written(SOURCE, folder)
    assert problems_of(summary) == {"missing_file": (1, ["lung_data_*.csv"])}
    assert all("age" not in row for row in rows)


@pytest.mark.parametrize("table", [LINK, SCREENS])
def test_without_linkage_or_screens_there_is_nothing(tmp_path: Path, table: str) -> None:
    """And the error says what to put there."""
    folder = plco_folder(tmp_path / "plco")
    (folder / table).unlink()
    with pytest.raises(DataError, match="put NCI's tables"):
        written(SOURCE, folder)
