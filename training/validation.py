"""Figures on the validation patients while a network learns."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.metrics import auc, dice
from cxr_triage.training.precision import Precision
from cxr_triage.training.targets import ABNORMAL_OUTPUT
from cxr_triage.training.views import AT_ONCE, are_closer, matrices_of, seen, shrunk


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A network before prepared images: what it says of them as the service would ask it."""

    network: nn.Module
    data: TrainingSet
    #: What it looks at in each image, (N, 4) as views.WHOLE.
    boxes: NDArray[np.float32]
    #: Side of its input, pixels.
    size: int
    precision: Precision
    device: torch.device

    @torch.inference_mode()
    def outputs(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Abnormality logits (R, outputs) and mask logits (R, structures, size / 2, size / 2) of some rows."""
        self.network.eval()
        logits, masks = [], []
        for part in np.array_split(rows, math.ceil(len(rows) / AT_ONCE)):
            boxes = self.boxes[part]
            views = seen(self.data.images[part], matrices_of(boxes), self.size, are_closer(boxes))
            with self.precision.autocast():
                outputs = self.network(views.to(self.device, memory_format=torch.channels_last))
            logits.append(outputs.abnormality.float().cpu())
            masks.append(outputs.mask.float().cpu())
        return torch.cat(logits), torch.cat(masks)


def validation_figures(look: Look) -> dict[str, float]:
    """Macro AUC, AUC of abnormal against normal, and Dice of lungs and heart; NaN where the part cannot tell."""
    return _areas(look) | _overlaps(look)


def _areas(look: Look) -> dict[str, float]:
    targets = look.data.targets
    columns = {name: targets.outputs.index(name) for name in (*NIH_LABELS, ABNORMAL_OUTPUT)}
    rows = np.flatnonzero((~np.isnan(targets.abnormality[:, list(columns.values())])).any(axis=1))
    if not len(rows):
        return {"macro_auc": math.nan, "abnormal_auc": math.nan}
    scores = look.outputs(rows)[0].numpy()
    found = {name: auc(targets.abnormality[rows, column], scores[:, column]) for name, column in columns.items()}
    areas = {name: area for name, area in found.items() if area is not None}
    reported = [areas[name] for name in NIH_LABELS if name in areas]
    return {
        "macro_auc": float(np.mean(reported)) if reported else math.nan,
        "abnormal_auc": areas.get(ABNORMAL_OUTPUT, math.nan),
    }


def _overlaps(look: Look) -> dict[str, float]:
    rows = look.data.masked_rows
    if not len(rows):
        return {"lungs_dice": math.nan, "heart_dice": math.nan}
    masks = (look.outputs(rows)[1] > 0).numpy()
    coverage = torch.from_numpy(look.data.masks).float() / 255
    truth = (shrunk(coverage, matrices_of(look.boxes[rows]), look.size // 2) > 0.5).numpy()
    pairs = list(zip(masks, truth, strict=True))
    return {
        "lungs_dice": float(np.mean([dice(mask[:2].any(axis=0), true[:2].any(axis=0)) for mask, true in pairs])),
        "heart_dice": float(np.mean([dice(mask[2], true[2]) for mask, true in pairs])),
    }
