"""Whose patients train, tune and judge."""

from dataclasses import replace

import pytest

from cxr_triage.model.errors import ConfigurationError
from cxr_triage.training.data import split_of
from cxr_triage.training.division import Fold, as_published, by_hash, for_fold
from evaluated import sample

#: Two radiographs of each of 300 patients.
SAMPLES = [sample(patient=f"nih/{number}") for number in range(300) for _ in range(2)]


def test_every_patient_is_in_one_split() -> None:
    """With all radiographs, whichever way the patients are divided."""
    known = 300 - len(by_hash(SAMPLES).patients()["test"])
    folds = [(for_fold(SAMPLES, Fold(k, 5)), known) for k in range(5)]
    for division, count in ((by_hash(SAMPLES), 300), (as_published(SAMPLES), 300), *folds):
        patients = [set(keys) for keys in division.patients().values()]
        assert sum(map(len, patients)) == len(set.union(*patients)) == count
        assert division.counts() == {"nih": {split: 2 * len(keys) for split, keys in division.patients().items()}}


def test_each_patient_judges_once_in_the_folds_and_the_network_that_ships() -> None:
    """So that their test predictions together are of unseen patients for everybody."""
    tested = [set(for_fold(SAMPLES, Fold(index, 5)).patients()["test"]) for index in range(5)]
    tested.append(set(by_hash(SAMPLES).patients()["test"]))
    assert sum(map(len, tested)) == len(set.union(*tested)) == 300
    assert all(30 < len(fold) < 90 for fold in tested)


def test_adding_data_moves_nobody() -> None:
    """A patient stays where it was when others come."""
    for divide in (by_hash, lambda samples: for_fold(samples, Fold(2, 5))):
        few, many = divide(SAMPLES[:100]).patients(), divide(SAMPLES).patients()
        assert all(set(few[split]) <= set(many[split]) for split in few)


def test_published_splits_hold_where_there_are_some() -> None:
    """And the hash elsewhere."""
    official = [replace(one, official_split="test") for one in SAMPLES[:20]]
    patients = as_published([*official, *SAMPLES[20:]]).patients()
    assert {f"nih/{number}" for number in range(10)} <= set(patients["test"])
    assert set(patients["validation"]) == {
        f"nih/{number}" for number in range(10, 300) if split_of(f"nih/{number}") == "validation"
    }


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "a/b", "1/5/2", ""])
def test_fold_that_is_none_is_refused(text: str) -> None:
    """With what to write."""
    with pytest.raises(ConfigurationError, match="write 1/5 to 5/5"):
        Fold.parse(text)


def test_fold_reads_as_people_write_it() -> None:
    """Counted from one."""
    assert Fold.parse("2/5") == Fold(1, 5)
