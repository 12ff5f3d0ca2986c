"""Cross-validation: each image is scored once, by the bundle that did not see its patient."""

import dataclasses

import pytest

from cxr_triage.model.bundle import Card, read_card
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.training.data import DataError
from cxr_triage.training.evaluation.figures import figures_of
from cxr_triage.training.evaluation.folds import assign, default_split
from cxr_triage.training.evaluation.tables import tables
from evaluated import labelled, sample, scored

SAMPLES = [sample(patient=f"nih/{name}") for name in "abcc"]


def card(*test: str) -> Card:
    """Give a card whose test patients are these."""
    patients = {"train": ("nih/x",), "validation": (), "test": tuple(f"nih/{name}" for name in test)}
    return dataclasses.replace(read_card(None), patients=patients)


def test_each_image_goes_to_the_bundle_that_names_its_patient() -> None:
    """Patients that no card names are left out and counted."""
    assigned = assign(SAMPLES, [card("c"), card("a")], "test")
    assert [(row.patient, index) for row, index in assigned.rows] == [("nih/a", 1), ("nih/c", 0), ("nih/c", 0)]
    assert assigned.left_out == 1


def test_patient_of_two_folds_is_refused() -> None:
    """He would have been seen by one of them."""
    with pytest.raises(DataError, match="both name 2 patients for the split 'test'"):
        assign(SAMPLES, [card("a", "b", "c"), card("b", "c", "elsewhere")], "test")


def test_patient_of_another_folder_may_be_named_twice() -> None:
    """Only the folder's patients are scored."""
    assert assign(SAMPLES, [card("a", "z"), card("b", "z")], "test").left_out == 2


def test_all_images_want_one_bundle() -> None:
    """With several, nobody could say whose figures these are."""
    assert assign(SAMPLES, [card()], "all").left_out == 0
    with pytest.raises(ConfigurationError, match="choose test, validation or train"):
        assign(SAMPLES, [card("a"), card("b")], "all")


def test_nobody_named_is_refused() -> None:
    """A folder of strangers, with what to do about it."""
    with pytest.raises(DataError, match="try --split all"):
        assign(SAMPLES, [card("z")], "test")


def test_default_split() -> None:
    """All of a folder that the only card does not know; the test patients of several cards."""
    assert default_split(SAMPLES, [card("a")]) == "test"
    assert default_split(SAMPLES, [card("z")]) == "all"
    assert default_split(SAMPLES, [card("z"), card("y")]) == "test"


def test_figures_are_pooled_and_averaged() -> None:
    """Each fold orders its images rightly, on scales of its own: 1 in the mean, less when pooled."""
    scales = {"one": (0.1, 0.3), "other": (0.5, 0.9)}
    rows = [
        scored(
            {"Mass": scale[present]},
            labels=labelled("Mass") if present else labelled(),
            bundle=BundleIdentity(name=name, version="1", sha256=name * 8),
        )
        for name, scale in scales.items()
        for present in (0, 1)
        for _ in range(5)
    ]
    figures = figures_of(rows)
    assert figures["classification"]["labels"]["Mass"]["auc"] == 0.75
    assert figures["folds"]["labels"]["Mass"] == 1.0
    assert figures["folds"]["mean"] == {"macro_auc": 1.0, "abnormal_auc": 1.0}
    assert [part["images"] for part in figures["folds"]["bundles"].values()] == [10, 10]
    folded = next(table for table in tables(figures) if table.name == "folds")
    assert folded.rows[-1] == ("mean over bundles", "-", "-", "1.000", "1.000")
