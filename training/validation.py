"""Figures on the validation patients while a network learns."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.look import Look
from cxr_triage.training.metrics import auc, dice
from cxr_triage.training.targets import ABNORMAL_OUTPUT, REPORTED, Targets
from cxr_triage.training.views import matrices_of, shrunk


def judged_rows(data: TrainingSet) -> NDArray[np.int64]:
    """Rows that the figures are made of."""
    return np.union1d(_labelled_rows(data.targets), data.masked_rows)


def _labelled_rows(targets: Targets) -> NDArray[np.int64]:
    return np.flatnonzero((~np.isnan(targets.reported())).any(axis=1))


def validation_figures(look: Look, data: TrainingSet) -> dict[str, float]:
    """Macro AUC, AUC of abnormal against normal, and Dice of lungs and heart; NaN where the part cannot tell."""
    return _areas(look, data.targets) | _overlaps(look, data)


def _areas(look: Look, targets: Targets) -> dict[str, float]:
    columns = {name: targets.outputs.index(name) for name in REPORTED}
    rows = _labelled_rows(targets)
    if not len(rows):
        return {"macro_auc": math.nan, "abnormal_auc": math.nan}
    scores = look.abnormality(rows).numpy()
    found = {name: auc(targets.abnormality[rows, column], scores[:, column]) for name, column in columns.items()}
    areas = {name: area for name, area in found.items() if area is not None}
    reported = [areas[name] for name in NIH_LABELS if name in areas]
    return {
        "macro_auc": float(np.mean(reported)) if reported else math.nan,
        "abnormal_auc": areas.get(ABNORMAL_OUTPUT, math.nan),
    }


def _overlaps(look: Look, data: TrainingSet) -> dict[str, float]:
    rows = data.masked_rows
    if not len(rows):
        return {"lungs_dice": math.nan, "heart_dice": math.nan}
    masks = (look.masks(rows) > 0).numpy()
    coverage = torch.from_numpy(data.masks).float() / 255
    truth = (shrunk(coverage, matrices_of(look.boxes[rows]), look.network.shape.input_size // 2) > 0.5).numpy()
    pairs = list(zip(masks, truth, strict=True))
    return {
        "lungs_dice": float(np.mean([dice(mask[:2].any(axis=0), true[:2].any(axis=0)) for mask, true in pairs])),
        "heart_dice": float(np.mean([dice(mask[2], true[2]) for mask, true in pairs])),
    }
