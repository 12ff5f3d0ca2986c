"""Bootstrap intervals. Patients are drawn, not images: two images of one patient are not two witnesses."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

RESAMPLES: Final = 1000
SEED: Final = 20190517
#: Percentiles of the resampled figures: the 95 % interval (Efron & Tibshirani 1993, section 13.3).
PERCENTILES: Final = (2.5, 97.5)
#: Weights are multiplied in blocks of about this many numbers, to bound memory.
BLOCK: Final = 4_000_000

#: Lower and upper bound; None where there is none.
Interval = list[float] | None


def resample(patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED) -> NDArray[np.uint16]:
    """How often each image counts in each resample.

    The same patients in the same order give the same resamples: figures that were made of them can be paired.

    Args:
        patients: the patient of each image, (N,).
        resamples: how many.
        seed: of the drawing.

    Returns:
        uint16 (resamples, N).
    """
    keys, owner_N = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    random, count = np.random.default_rng(seed), len(keys)
    weights_RN = np.zeros((resamples, len(patients)), dtype=np.uint16)
    for row_N in weights_RN if count else ():
        row_N[:] = np.bincount(random.integers(count, size=count), minlength=count)[owner_N]
    return weights_RN


def resampled_auc(
    truth_N: NDArray[np.float64], scores_N: NDArray[np.float64], weights_RN: NDArray[np.uint16]
) -> NDArray[np.float64]:
    """Area under the ROC curve of each resample, ties counted half; NaN where a resample lacks a class.

    Args:
        truth_N: 0, 1 or NaN = unknown.
        scores_N: any scale.
        weights_RN: from `resample`.
    """
    known = np.flatnonzero(~np.isnan(truth_N))
    order = known[np.argsort(scores_N[known], kind="stable")]
    if not len(order):
        return np.full(len(weights_RN), np.nan)
    truth, scores = truth_N[order], scores_N[order]
    tied_from = np.flatnonzero(np.diff(scores, prepend=-np.inf) > 0)
    blocks = np.array_split(weights_RN, max(1, weights_RN.shape[0] * len(order) // BLOCK))
    return np.concatenate([_weighted_auc(truth, tied_from, block[:, order].astype(float)) for block in blocks])


def _weighted_auc(
    truth_N: NDArray[np.float64], tied_from: NDArray[np.intp], weights_RN: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The share of pairs in the right order (Mann & Whitney 1947), rows sorted by score."""
    positives = np.add.reduceat(weights_RN * truth_N, tied_from, axis=1)
    negatives = np.add.reduceat(weights_RN * (1 - truth_N), tied_from, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    won = (positives * (below + negatives / 2)).sum(axis=1)
    return _divided(won, positives.sum(axis=1) * negatives.sum(axis=1))


def resampled_mean(values_N: NDArray[np.float64], weights_RN: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Mean of each resample over the values that are not NaN; NaN where it holds none of them."""
    known = ~np.isnan(values_N)
    weights = weights_RN[:, known].astype(float)
    return _divided(weights @ values_N[known], weights.sum(axis=1))


def macro(areas_LR: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean over labels in each resample; a rare label that a resample lacks is left out of that resample's mean."""
    stacked = np.stack(areas_LR)
    known = ~np.isnan(stacked)
    return _divided(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0).astype(float))


def _divided(part_R: NDArray[np.float64], whole_R: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to divide by."""
    quotient_R = np.full(len(whole_R), np.nan)
    np.divide(part_R, whole_R, out=quotient_R, where=whole_R > 0)
    return quotient_R


def interval(figures_R: NDArray[np.float64]) -> Interval:
    """The 95 % interval; None where most resamples have no figure."""
    known = figures_R[~np.isnan(figures_R)]
    if len(known) <= len(figures_R) / 2:
        return None
    return [float(bound) for bound in np.percentile(known, PERCENTILES)]


def interval_of_gaps(gaps_RB: NDArray[np.float64], gaps_B: NDArray[np.float64]) -> Interval:
    """The interval of a sum of absolute gaps, which resampling can only make larger.

    Plain percentiles would lie above the figure, and never hold a true error of zero. So the lower bound takes off what
    drawing anew makes of gaps that are not there; the upper one is the percentile, on the safe side.

    Args:
        gaps_RB: gaps of each resample.
        gaps_B: those of the images as they are.
    """
    error = float(np.abs(gaps_B).sum())
    noise = interval(np.abs(gaps_RB - gaps_B).sum(axis=1))
    resampled = interval(np.abs(gaps_RB).sum(axis=1))
    assert noise is not None
    assert resampled is not None
    return [max(error - noise[1], 0.0), max(resampled[1], error)]


def interval_of_share(hits_N: NDArray[np.float64], patients: Sequence[str]) -> Interval:
    """The interval of a share of images; where all or none of them hit, resampling is blind and patients are counted.

    Args:
        hits_N: 0 or 1.
        patients: the patient of each image, (N,).
    """
    if len(np.unique(hits_N)) == 2:
        return interval(resampled_mean(hits_N, resample(patients)))
    if not len(hits_N):
        return None
    count = len(set(patients))
    bounds = binomtest(count * int(hits_N[0]), count).proportion_ci(method="exact")
    return [float(bounds.low), float(bounds.high)]
