"""Running statistics of batch normalization over the micro-batches of one step.

Each micro-batch starts from the step's statistics, and the mean over all of them is what stays: the same, whether one
process computes the micro-batches in turn or several at the same time.
"""

import torch
from torch import nn

from cxr_triage.training.distributed import Group


class NormStatistics:
    """Collects the statistics of each step's micro-batches, and keeps their mean."""

    def __init__(self, network: nn.Module) -> None:
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        tensors = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
        self._running = [tensor for tensor in tensors if tensor is not None]
        self.start()

    def start(self) -> None:
        """Before a step."""
        self._before = [tensor.clone() for tensor in self._running]
        self._sums = [torch.zeros_like(tensor) for tensor in self._running]
        self._micros = 0

    def begin(self) -> None:
        """Before a micro-batch."""
        for tensor, before in zip(self._running, self._before, strict=True):
            tensor.copy_(before)

    def end(self) -> None:
        """After it."""
        self._micros += 1
        for tensor, total in zip(self._running, self._sums, strict=True):
            total.add_(tensor)

    def average(self, group: Group) -> None:
        """Keep the mean over all micro-batches of all processes."""
        for tensor, total in zip(self._running, self._sums, strict=True):
            tensor.copy_(total / self._micros)
        group.average(self._running)
