"""Data parallel training: the processes that torchrun started, or this one alone.

A step is made of a recipe's micro-batches, whoever computes them: one process takes all in turn, N processes take every
Nth each. So the number of processes changes how long a run takes, and not what it comes to.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from cxr_triage.model.devices import choose_device
from cxr_triage.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def loader_threads(self) -> int:
        """Threads that make batches: one where the network needs the cores itself, else this process's part of them."""
        if self.device.type == "cpu":
            return 1
        return max((os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)

    def share_of(self, micro_batches: int) -> range:
        """The micro-batches of a step that this process computes.

        Raises:
            ConfigurationError: they cannot be shared out evenly.
        """
        if micro_batches % self.size:
            raise ConfigurationError(
                f"{self.size} processes cannot share {micro_batches} micro-batches evenly: "
                "start a number of processes that divides them"
            )
        return range(self.rank, micro_batches, self.size)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat.div_(self.size), [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started; alone where it did not start this one.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N"; with several processes on GPUs, each takes the one of its local rank.

    Raises:
        ConfigurationError: the device does not exist.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if size == 1:
        yield Group(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = choose_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size, chosen)
    finally:
        distributed.destroy_process_group()
