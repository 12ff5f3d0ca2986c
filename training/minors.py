"""Children's chests -> the gate's test for images whose age is not known."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from cxr_triage.model.features import MinorTest
from cxr_triage.model.suitability import MIN_AGE_YEARS
from cxr_triage.training.closed_form import LEAST_DEVIATION
from cxr_triage.training.data import Sample, fold_of
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.sources import source_of

#: Penalty per feature of standardised features.
PENALTY: Final = 1.0
#: Share of adults below the limit, each scored without the fold of his patient.
ADULTS_LEFT_ALONE: Final = 0.996
FOLDS: Final = 5


def is_minor(sample: Sample) -> bool:
    """Whether the patient is under 18, as far as the manifest or the source says."""
    return not source_of(sample.source).adult or (sample.age.isdecimal() and int(sample.age) < MIN_AGE_YEARS)


def only(part: TrainingSet, *, minors: bool) -> TrainingSet:
    """The images of minors; or of adults, whom the product is made for."""
    return part.only(part.rows_of(lambda sample: is_minor(sample) == minors))


def fit_minor_test(read_NW: NDArray[np.float64], samples: Sequence[Sample]) -> MinorTest | None:
    """Ridge regression in which adults weigh as much as minors, and each source's minors as much as another's.

    Otherwise it would learn the one hospital that sent most of the children, not children.

    Args:
        read_NW: what the heads read of each whole frame.
        samples: the same images.

    Returns:
        None where there are no minors, or no adults.
    """
    minor = np.array([is_minor(sample) for sample in samples])
    if minor.all() or not minor.any():
        return None
    groups = [f"{sample.source if own else ''}" for sample, own in zip(samples, minor, strict=True)]
    folds = np.array([fold_of(sample.patient, FOLDS) for sample in samples])
    scores = np.full(len(samples), np.nan)
    for fold in np.unique(folds):
        held_out = folds == fold
        if len(np.unique(minor[~held_out])) == 2:
            weight = _weights(read_NW[~held_out], [groups[row] for row in np.flatnonzero(~held_out)])
            scores[held_out] = read_NW[held_out] @ weight
    limit = np.nanquantile(scores[~minor], ADULTS_LEFT_ALONE)
    return MinorTest(torch.from_numpy(_weights(read_NW, groups)).float(), torch.tensor(float(limit)))


def _weights(read_NW: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Weights (W,) of a score that is high for every group but "", the adults."""
    names, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    share = np.where(names == "", 0.5, 0.5 / max(len(names) - 1, 1)) / counts
    deviation = np.maximum(read_NW.std(axis=0), LEAST_DEVIATION)
    standard = (read_NW - read_NW.mean(axis=0)) / deviation
    target = np.where(names == "", -1.0, 1.0)[group]
    ridge = Ridge(alpha=PENALTY * read_NW.shape[1]).fit(standard, target, share[group] * len(group))
    weights: NDArray[np.float64] = ridge.coef_ / deviation
    return weights
