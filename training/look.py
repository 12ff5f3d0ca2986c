"""A network before prepared images: what it says of them as the service would ask it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxr_triage.model.measurements import largest_parts
from cxr_triage.model.network import MultiTaskNetwork, Outputs
from cxr_triage.model.preparation import Frame, closer_frame
from cxr_triage.training.cache import Images
from cxr_triage.training.precision import Precision
from cxr_triage.training.views import are_closer, matrices_of, seen, whole_boxes

#: Images that are computed at once.
AT_ONCE: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A network and what it looks at in each of some prepared images."""

    network: MultiTaskNetwork
    #: Prepared, (N, S, S).
    images: Images
    #: What it looks at in each image, (N, 4) as views.WHOLE.
    boxes: NDArray[np.float32]
    precision: Precision
    device: torch.device

    @classmethod
    def at_whole(cls, network: MultiTaskNetwork, images: Images, precision: Precision, device: torch.device) -> "Look":
        """At whole frames."""
        boxes = whole_boxes(len(images))
        return cls(network=network, images=images, boxes=boxes, precision=precision, device=device)

    def closer(self, rows: NDArray[np.int64] | None = None) -> "Look":
        """Some of the images, or all, each looked at where the network's own outlines say."""
        boxes = self.boxes.copy()
        for part, outputs in self.outputs(self.all if rows is None else rows):
            boxes[part] = self.boxes_in(outputs)
        return replace(self, boxes=boxes)

    def boxes_in(self, outputs: Outputs) -> list[tuple[float, float, float, float]]:
        """Where to look closer, by what the network made of whole frames: each as views.WHOLE."""
        size = self.network.shape.input_size
        return [_box(largest_parts(logits), size) for logits in outputs.mask.float().cpu().numpy()]

    @torch.inference_mode()
    def outputs(
        self, rows: NDArray[np.int64], *, decoded: int | None = None
    ) -> Iterator[tuple[NDArray[np.int64], Outputs]]:
        """The network's outputs of some rows, a few of them at a time.

        Args:
            rows: of the images.
            decoded: how many of those few the decoder runs on; None = all.
        """
        self.network.eval()
        size = self.network.shape.input_size
        for part in np.array_split(rows, math.ceil(len(rows) / AT_ONCE)):
            boxes = self.boxes[part]
            views = seen(self.images[part], matrices_of(boxes), size, are_closer(boxes))
            with self.precision.autocast():
                outputs = self.network(views.to(self.device, memory_format=torch.channels_last), decoded=decoded)
            yield part, outputs

    @property
    def all(self) -> NDArray[np.int64]:
        """Every row."""
        return np.arange(len(self.images))

    def abnormality(self, rows: NDArray[np.int64]) -> Tensor:
        """Abnormality logits of some rows, (R, outputs)."""
        return torch.cat([outputs.abnormality.float().cpu() for _, outputs in self.outputs(rows, decoded=1)])

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """What the heads read, (R, W)."""
        return torch.cat([outputs.read.float().cpu() for _, outputs in self.outputs(rows, decoded=1)])

    def masks(self, rows: NDArray[np.int64]) -> Tensor:
        """Mask logits of some rows, (R, structures, size / 2, size / 2)."""
        return torch.cat([outputs.mask.float().cpu() for _, outputs in self.outputs(rows)])


def _box(logits_CHW: NDArray[np.float32], size: int) -> tuple[float, float, float, float]:
    found = closer_frame(Frame(0, 0, size, size, (size, size)), logits_CHW)
    row, column = found.top + found.height / 2, found.left + found.width / 2
    return row / size, column / size, found.height / size, found.width / size
