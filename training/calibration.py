"""Logits -> probabilities that mean what they say, and operating points; on patients that the head did not see."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from cxr_triage.model.bundle import Calibration, OperatingPoint

#: Candidate slopes: below 1 for a network that is too sure of itself, above for one that learned from soft targets.
SCALES: Final = np.geomspace(0.2, 5.0, 33)
#: A bundle states a threshold for each of these.
SENSITIVITIES: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
#: How many images the training prevalence counts for beside the validation images: rare labels have few there.
PRIOR_IMAGES: Final = 50


def calibrate(
    logits_NK: NDArray[np.float64], labels_NK: NDArray[np.float64], training_prevalence: Sequence[float]
) -> list[Calibration]:
    """One slope for all outputs, and for each the offset that makes its mean probability its prevalence.

    A slope of its own for each output would be fitted to a handful of positives.

    Args:
        logits_NK: raw outputs on images that the head did not see.
        labels_NK: 0, 1 or NaN.
        training_prevalence: per output, smooths the prevalence among those images.
    """

    def offsets(scale: float) -> list[float]:
        columns = zip(logits_NK.T, labels_NK.T, training_prevalence, strict=True)
        return [_offset(scale * logits, labels, prior) for logits, labels, prior in columns]

    def loss(scale: float) -> float:
        probabilities = expit(scale * logits_NK + np.array(offsets(scale))).clip(1e-6, 1 - 1e-6)
        entropy = -(labels_NK * np.log(probabilities) + (1 - labels_NK) * np.log(1 - probabilities))
        return float(np.nanmean(entropy))

    best = float(min(SCALES, key=loss))
    return [Calibration(scale=best, offset=offset) for offset in offsets(best)]


def _offset(logits: NDArray[np.float64], labels: NDArray[np.float64], prior: float) -> float:
    known = ~np.isnan(labels)
    prevalence = (np.sum(labels[known]) + prior * PRIOR_IMAGES) / (known.sum() + PRIOR_IMAGES)
    return float(brentq(lambda offset: expit(logits[known] + offset).mean() - prevalence, -30, 30))


def operating_points(
    probabilities_N: NDArray[np.float64], labels_N: NDArray[np.float64], sensitivities: Sequence[float] = SENSITIVITIES
) -> tuple[OperatingPoint, ...]:
    """For each sensitivity the highest threshold that reaches it; without a positive nothing ever reaches one.

    Args:
        probabilities_N: calibrated.
        labels_N: 0, 1 or NaN.
        sensitivities: shares of the positives, 0 to 1, rising.
    """
    positives, negatives = (np.sort(probabilities_N[labels_N == value]) for value in (1, 0))
    points = []
    for sensitivity in sensitivities:
        # A hair below an integer counts as that integer: 0.7 x 10 is not 8 positives.
        reached = math.ceil(sensitivity * len(positives) - 1e-9)
        threshold = float(positives[-reached]) if reached else 1.0
        specificity = float((negatives < threshold).mean()) if len(negatives) else 0.0
        points.append(OperatingPoint(sensitivity=sensitivity, specificity=specificity, threshold=threshold))
    return tuple(points)


def calibration_bins(probabilities: NDArray[np.float64], bins: int = 10) -> NDArray[np.intp]:
    """The bin of each probability: equally filled, equal probabilities together."""
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, probabilities)


def expected_calibration_error(
    probabilities: NDArray[np.float64], labels: NDArray[np.float64], bins: int = 10
) -> float:
    """Mean gap between probability and frequency over equally filled bins (Naeini et al. 2015).

    Args:
        probabilities: calibrated.
        labels: 0, 1 or NaN; at least one known.
        bins: how many.
    """
    return float(np.abs(calibration_gaps(probabilities, labels, bins=bins)).sum())


def calibration_gaps(
    probabilities_N: NDArray[np.float64],
    labels_N: NDArray[np.float64],
    weights_RN: NDArray[np.uint16] | None = None,
    *,
    bins: int = 10,
) -> NDArray[np.float64]:
    """Probability minus frequency in each bin, times the bin's share of the images.

    Args:
        probabilities_N: calibrated.
        labels_N: 0, 1 or NaN.
        weights_RN: how often each image counts in each resample; None = one sample, each image once.
        bins: how many; they are those of the images as they are.

    Returns:
        (R, bins); the sum of absolute values is the expected calibration error of the resample.
    """
    known = ~np.isnan(labels_N)
    gaps = probabilities_N[known] - labels_N[known]
    filled_NB = np.eye(bins)[calibration_bins(probabilities_N[known], bins)]
    weights = np.ones((1, len(gaps))) if weights_RN is None else weights_RN[:, known].astype(float)
    gaps_RB: NDArray[np.float64] = (weights @ (gaps[:, None] * filled_NB)) / np.maximum(
        weights.sum(axis=1, keepdims=True), 1
    )
    return gaps_RB
