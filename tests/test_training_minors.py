"""The gate's test for children: what it learns, and whom it leaves alone."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_triage.model.features import MinorTest
from cxr_triage.training.data import Sample
from cxr_triage.training.minors import ADULTS_LEFT_ALONE, fit_minor_test, is_minor
from evaluated import sample

RANDOM = np.random.default_rng(11)


def people() -> tuple[NDArray[np.float64], list[Sample]]:
    """Adults and minors of one hospital, and many children of another, whose images have a mark of their own."""
    adults = [sample(patient=f"nih/{number}", age="50") for number in range(600)]
    minors = [sample(patient=f"nih/m{number}", age="12") for number in range(60)]
    children = [
        replace(sample(patient=f"kermany/{number}", age="paediatric"), source="kermany") for number in range(1500)
    ]
    samples = [*adults, *minors, *children]
    read = RANDOM.normal(size=(len(samples), 12))
    read[600:, 0] += 5  # what children look like
    read[660:, 1] += 30  # what the other hospital's images look like
    return read, samples


def test_who_is_a_minor() -> None:
    """By age, or by a source of children; an age that nobody knows is none."""
    assert is_minor(sample(age="17"))
    assert not is_minor(sample(age="18"))
    assert not is_minor(sample(age=""))
    assert is_minor(replace(sample(age=""), source="kermany"))


def test_it_learns_children_and_not_the_hospital_that_sent_them() -> None:
    """Minors of the adults' hospital are found as well, and the stated share of adults passes."""
    read, samples = people()
    test = fit_minor_test(read, samples)
    assert test is not None
    found = np.array([test.is_minor(torch.from_numpy(row).float()) for row in read])
    assert found[:600].mean() <= 2 * (1 - ADULTS_LEFT_ALONE)
    assert found[600:660].mean() > 0.8
    assert found[660:].mean() > 0.98


def test_without_minors_there_is_no_test() -> None:
    """And a bundle without one loads."""
    read, samples = people()
    assert fit_minor_test(read[:600], samples[:600]) is None
    assert MinorTest.from_tensors({}) is None


def test_a_bundle_gives_back_the_test() -> None:
    """Among the tensors of its weights file."""
    read, samples = people()
    test = fit_minor_test(read, samples)
    assert test is not None
    loaded = MinorTest.from_tensors(test.tensors())
    assert loaded is not None
    assert torch.equal(loaded.weight, test.weight)
    assert loaded.is_minor(torch.from_numpy(read[-1]).float())
