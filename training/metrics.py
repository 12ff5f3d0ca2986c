"""Figures that say how good a network is."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score


def auc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Area under the ROC curve over the known labels (NaN = unknown); None without both classes."""
    truth, values = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    known = ~np.isnan(truth)
    if len(np.unique(truth[known])) < 2:
        return None
    return float(roc_auc_score(truth[known], values[known]))


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks; 1 when both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2 * int((mask & truth).sum()) / total
