"""Where an abnormality lies: the network's location outputs against those that follow from the boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cxr_triage.model.findings import LOCATIONS
from cxr_triage.training.data import locations_of
from cxr_triage.training.evaluation.classification import mean_of
from cxr_triage.training.evaluation.intervals import interval, macro, resample, resampled_auc
from cxr_triage.training.evaluation.scored import Scored
from cxr_triage.training.metrics import auc


def location(rows: Sequence[Scored]) -> dict[str, Any]:
    """AUC per location, on the images with boxes."""
    boxed = [row for row in rows if row.sample.regions]
    if not boxed:
        return {"images": 0, "labels": {}, "macro_auc": None, "macro_auc_interval": None}
    weights = resample([row.sample.patient for row in boxed])
    truths = [locations_of(row.sample.regions) for row in boxed]
    columns = {
        name: (
            np.array([truth[name] for truth in truths], dtype=float),
            np.array([row.locations[name] for row in boxed]),
        )
        for name in LOCATIONS
    }
    resampled = {name: resampled_auc(*each, weights) for name, each in columns.items()}
    areas = {name: auc(*each) for name, each in columns.items()}
    labels = {
        name: {"auc": areas[name], "auc_interval": interval(resampled[name]), "positives": int(each[0].sum())}
        for name, each in columns.items()
    }
    return {
        "images": len(boxed),
        "labels": labels,
        "macro_auc": mean_of(list(areas.values())),
        "macro_auc_interval": interval(macro(list(resampled.values()))),
    }
