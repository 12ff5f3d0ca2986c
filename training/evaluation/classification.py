"""Probabilities against labels: figures per label and over labels, for any set of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from cxr_triage.training.calibration import calibration_gaps, expected_calibration_error
from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.evaluation.intervals import interval, interval_of_gaps, macro, resample, resampled_auc
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.metrics import auc

#: Where sets of images are compared, a label counts that has this many positives and negatives in each.
MIN_CASES: Final = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One label over the images."""

    #: 1, 0, or NaN where the label or its probability is unknown.
    truth_N: NDArray[np.float64]
    probability_N: NDArray[np.float64]
    #: Whether the probability reaches the threshold of the image's own bundle.
    flagged_N: NDArray[np.bool_]

    @property
    def positives(self) -> int:
        """Images that carry the label."""
        return int((self.truth_N == 1).sum())

    @property
    def negatives(self) -> int:
        """Images that are known not to carry it."""
        return int((self.truth_N == 0).sum())

    def enough(self) -> bool:
        """Whether there are MIN_CASES of both kinds."""
        return min(self.positives, self.negatives) >= MIN_CASES


def column(rows: Sequence[Scored], label: str) -> Column:
    """Truth, probability and decision of one label."""
    known = [label in row.sample.labels and label in row.probabilities for row in rows]
    pairs = list(zip(rows, known, strict=True))
    return Column(
        truth_N=np.array([float(row.sample.labels[label]) if here else np.nan for row, here in pairs]),
        probability_N=np.array([row.probabilities[label] if here else np.nan for row, here in pairs]),
        flagged_N=np.array([here and row.probabilities[label] >= row.thresholds[label] for row, here in pairs]),
    )


def abnormal_truth(rows: Sequence[Scored]) -> NDArray[np.float64]:
    """1 = any abnormality, 0 = No Finding, NaN = unknown."""
    return np.array([np.nan if row.sample.abnormal is None else float(row.sample.abnormal) for row in rows])


def multi_label(rows: Sequence[Scored]) -> list[Scored]:
    """The images whose source carries more than one abnormality: those that figures may be pooled over.

    A source with a single label differs from the others in everything but this label: pooled, it would measure how
    well the sources can be told apart.
    """
    carried: dict[str, set[str]] = {}
    for row in rows:
        carried.setdefault(row.sample.source, set()).update(set(row.sample.labels) & set(NIH_LABELS))
    return [row for row in rows if len(carried[row.sample.source]) > 1]


def classification(rows: Sequence[Scored], *, min_cases: int = 1) -> dict[str, Any]:
    """Figures per label, macro AUC, and abnormal against normal, with 95 % intervals.

    Args:
        rows: images that figures are pooled over.
        min_cases: positives and negatives that a label needs to enter the macro AUC, and that the abnormal AUC needs.
    """
    weights = resample([row.sample.patient for row in rows])
    columns = {label: each for label in NIH_LABELS if (each := column(rows, label)).positives + each.negatives}
    labels = {label: _label_figures(each, weights) for label, each in columns.items()}
    counted = [name for name, each in columns.items() if min(each.positives, each.negatives) >= min_cases]
    return {
        "images": len(rows),
        "patients": len({row.sample.patient for row in rows}),
        "labels": labels,
        **macro_figures({label: columns[label] for label in counted}, weights),
        **_abnormal_figures(rows, weights, min_cases),
        "any_finding": _any_finding(rows),
    }


def macro_figures(columns: dict[str, Column], weights_RN: NDArray[np.uint16]) -> dict[str, Any]:
    """Mean AUC over labels, each with both classes."""
    areas = [auc(each.truth_N, each.probability_N) for each in columns.values()]
    resampled = [resampled_auc(each.truth_N, each.probability_N, weights_RN) for each in columns.values()]
    return {
        "macro_auc": mean_of(areas),
        "macro_auc_interval": interval(macro(resampled)) if resampled else None,
        "macro_labels": list(columns),
    }


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _label_figures(each: Column, weights_RN: NDArray[np.uint16]) -> dict[str, Any]:
    truth, scores, flagged = each.truth_N, each.probability_N, each.flagged_N
    known = ~np.isnan(truth)
    return {
        "positives": each.positives,
        "negatives": each.negatives,
        "auc": auc(truth, scores),
        "auc_interval": interval(resampled_auc(truth, scores, weights_RN)),
        "auprc": float(average_precision_score(truth[known], scores[known])) if each.positives else None,
        "sensitivity": float(flagged[truth == 1].mean()) if each.positives else None,
        "specificity": float(1 - flagged[truth == 0].mean()) if each.negatives else None,
        "calibration_error": expected_calibration_error(scores, truth),
        "calibration_error_interval": interval_of_gaps(
            calibration_gaps(scores, truth, weights_RN), calibration_gaps(scores, truth)[0]
        ),
    }


def _abnormal_figures(rows: Sequence[Scored], weights_RN: NDArray[np.uint16], min_cases: int) -> dict[str, Any]:
    """Any abnormality against No Finding."""
    truth, scores = abnormal_truth(rows), np.array([row.abnormal for row in rows])
    positives, negatives = int((truth == 1).sum()), int((truth == 0).sum())
    enough = min(positives, negatives) >= min_cases
    return {
        "abnormal_positives": positives,
        "abnormal_negatives": negatives,
        "abnormal_auc": auc(truth, scores) if enough else None,
        "abnormal_auc_interval": interval(resampled_auc(truth, scores, weights_RN)) if enough else None,
    }


def _any_finding(rows: Sequence[Scored]) -> dict[str, float | None]:
    """How often at least one label reaches its threshold: what raises a study."""
    flagged = {
        abnormal: [
            any(row.probabilities[label] >= threshold for label, threshold in row.thresholds.items())
            for row in rows
            if row.sample.abnormal is abnormal
        ]
        for abnormal in (True, False)
    }
    return {
        "sensitivity": float(np.mean(flagged[True])) if flagged[True] else None,
        "specificity": float(1 - np.mean(flagged[False])) if flagged[False] else None,
    }
