"""What both phases of a training share of a step: its learning rate, its update, and the average of the weights."""

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

#: Gradients longer than this are shortened to it.
LARGEST_GRADIENT: Final = 1.0


def cosine(share: float) -> float:
    """From 1 at the beginning of a schedule down to a hundredth at its end, by the share of it that is done."""
    return 0.505 + 0.495 * math.cos(math.pi * share)


def averaged(module: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a module's weights and buffers, which starts from them."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]  # torch's own
    return AveragedModel(module, multi_avg_fn=average, use_buffers=True)


def update(scaler: GradScaler, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """One step of the optimizer with the gradients that there are, shortened where they are too long."""
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
    scaler.step(optimizer)
    scaler.update()
