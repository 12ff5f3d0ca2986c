"""The cardiothoracic ratio against the published one, or that of the true outlines."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cxr_triage.training.evaluation.intervals import interval, resample, resampled_mean
from cxr_triage.training.evaluation.scored import Scored, of_outlines

#: Limits of agreement: bias plus and minus this many standard deviations (Bland & Altman 1986).
LIMITS_SD: Final = 1.96


def pairs(rows: Sequence[Scored]) -> list[tuple[Scored, float, float]]:
    """Images with both ratios: the image, ours, and the true one."""
    return [(row, row.ctr, row.true_ctr) for row in rows if row.ctr is not None and row.true_ctr is not None]


def ratio(rows: Sequence[Scored]) -> dict[str, Any]:
    """Agreement on all images, on those whose true outlines do not contradict one another, and by source."""
    return of_outlines([row for row in rows if row.true_ctr is not None], _agreement)


def _agreement(known: Sequence[Scored]) -> dict[str, Any]:
    """Mean absolute error, bias (ours - true) and limits of agreement."""
    both = pairs(known)
    counts: dict[str, Any] = {"images": len(both), "without_outline": len(known) - len(both)}
    if not both:
        return counts | {"mae": None}
    errors = np.array([own - true for _, own, true in both])
    weights = resample([row.sample.patient for row, _, _ in both])
    bias, deviation = float(errors.mean()), float(errors.std(ddof=1)) if len(errors) > 1 else 0.0
    worst = int(np.abs(errors).argmax())
    return counts | {
        "mae": float(np.abs(errors).mean()),
        "mae_interval": interval(resampled_mean(np.abs(errors), weights)),
        "bias": bias,
        "bias_interval": interval(resampled_mean(errors, weights)),
        "limits_of_agreement": [bias - LIMITS_SD * deviation, bias + LIMITS_SD * deviation],
        "worst_error": float(errors[worst]),
        "worst_id": both[worst][0].sample.id,
    }
