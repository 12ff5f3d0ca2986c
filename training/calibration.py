"""Logits -> probabilities that mean what they say, and operating thresholds; both fitted on validation patients."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from cxr_triage.model.bundle import Calibration

#: Candidate slopes: below 1 for a network that is too sure of itself, above for one that learned from soft targets.
SCALES: Final = np.geomspace(0.2, 5.0, 33)
#: Candidate specificities per label.
SPECIFICITIES: Final = np.linspace(0.8, 1.0, 81)
#: How many images the training prevalence counts for beside the validation images: rare labels have few there.
PRIOR_IMAGES: Final = 50


def calibrate(
    logits_NK: NDArray[np.float64], labels_NK: NDArray[np.float64], training_prevalence: Sequence[float]
) -> list[Calibration]:
    """One slope for all outputs, and for each the offset that makes its mean probability its prevalence.

    A slope of its own for each output would be fitted to a handful of positives.

    Args:
        logits_NK: raw outputs on the validation images.
        labels_NK: 0, 1 or NaN.
        training_prevalence: per output, smooths the validation prevalence.
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


def threshold_at_specificity(
    probabilities: NDArray[np.float64], labels: NDArray[np.float64], specificity: float
) -> float:
    """The lowest threshold at which at least `specificity` of the known negatives stay below it."""
    negatives = np.sort(probabilities[labels == 0])
    index = min(int(np.ceil(specificity * len(negatives))), len(negatives) - 1)
    return float(np.nextafter(negatives[index], 1)) if len(negatives) else 1.0


def thresholds_for_normals(
    probabilities_NK: NDArray[np.float64], labels_NK: NDArray[np.float64], normal_N: NDArray[np.bool_], share: float
) -> tuple[float, list[float]]:
    """Operating thresholds that leave at least a share of the normal images without any finding.

    Many labels, each rarely wrong on its own, would together raise every second normal study. All labels get the same
    specificity: the lowest that keeps the promise.

    Args:
        probabilities_NK: calibrated.
        labels_NK: 0, 1 or NaN.
        normal_N: images without any abnormality.
        share: of the normal images, 0 to 1.

    Returns:
        That specificity, and a threshold per label.
    """
    columns = list(zip(probabilities_NK.T, labels_NK.T, strict=True))
    for specificity in SPECIFICITIES:
        thresholds = [threshold_at_specificity(*column, specificity) for column in columns]
        if (probabilities_NK[normal_N] < thresholds).all(axis=1).mean() >= share:
            break
    return float(specificity), thresholds


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
