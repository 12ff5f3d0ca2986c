"""Figures on the validation patients while a network learns."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cxr_triage.training.data import NIH_LABELS
from cxr_triage.training.loader import TrainingSet
from cxr_triage.training.metrics import auc, dice
from cxr_triage.training.precision import Precision
from cxr_triage.training.targets import ABNORMAL_OUTPUT

#: Images that are computed at once.
AT_ONCE = 16


@torch.inference_mode()
def validation_figures(
    network: nn.Module, data: TrainingSet, precision: Precision, device: torch.device
) -> dict[str, float]:
    """Macro AUC, AUC of abnormal against normal, and Dice of lungs and heart; NaN where the part cannot tell."""
    network.eval()
    return _areas(network, data, precision, device) | _overlaps(network, data, precision, device)


def _areas(network: nn.Module, data: TrainingSet, precision: Precision, device: torch.device) -> dict[str, float]:
    columns = {name: data.targets.outputs.index(name) for name in (*NIH_LABELS, ABNORMAL_OUTPUT)}
    labels = data.targets.abnormality
    rows = np.flatnonzero((~np.isnan(labels[:, list(columns.values())])).any(axis=1))
    if not len(rows):
        return {"macro_auc": math.nan, "abnormal_auc": math.nan}
    scores = torch.cat([_outputs(network, data, part, precision, device)[0] for part in _parts(rows)]).numpy()
    areas = {name: auc(labels[rows, column], scores[:, column]) for name, column in columns.items()}
    reported = [areas[name] for name in NIH_LABELS if areas[name] is not None]
    abnormal = areas[ABNORMAL_OUTPUT]
    return {
        "macro_auc": float(np.mean([area for area in reported if area is not None])) if reported else math.nan,
        "abnormal_auc": math.nan if abnormal is None else abnormal,
    }


def _overlaps(network: nn.Module, data: TrainingSet, precision: Precision, device: torch.device) -> dict[str, float]:
    if not len(data.masked_rows):
        return {"lungs_dice": math.nan, "heart_dice": math.nan}
    parts = [_outputs(network, data, part, precision, device)[1] > 0 for part in _parts(data.masked_rows)]
    masks = torch.cat(parts).numpy()
    truth = (functional.avg_pool2d(torch.from_numpy(data.masks).float().div(255), 2) > 0.5).numpy()
    pairs = list(zip(masks, truth, strict=True))
    return {
        "lungs_dice": float(np.mean([dice(mask[:2].any(axis=0), true[:2].any(axis=0)) for mask, true in pairs])),
        "heart_dice": float(np.mean([dice(mask[2], true[2]) for mask, true in pairs])),
    }


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(rows, math.ceil(len(rows) / AT_ONCE))


def _outputs(
    network: nn.Module, data: TrainingSet, rows: NDArray[np.int64], precision: Precision, device: torch.device
) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(data.images[rows]).unsqueeze(1).float() / 255
    with precision.autocast():
        outputs = network(images.to(device, memory_format=torch.channels_last))
    return outputs.abnormality.float().cpu(), outputs.mask.float().cpu()
