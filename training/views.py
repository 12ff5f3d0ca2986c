"""Prepared radiographs -> what the network looks at: the whole frame, or the rectangle around the lungs.

The same geometry and the same window as `model.preparation`, for a batch at once and with random changes on top.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cxr_triage.model.preparation import window_of
from cxr_triage.training.augment import warp

#: Row and column of a box's centre, its height and its width, in shares of the prepared frame: all of it.
WHOLE: Final = (0.5, 0.5, 1.0, 1.0)


def whole_boxes(count: int) -> NDArray[np.float32]:
    """All of each of a number of frames, (count, 4)."""
    return np.tile(np.array(WHOLE, dtype=np.float32), (count, 1))


def are_closer(boxes_N4: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes are not the whole frame, (N,)."""
    closer: NDArray[np.bool_] = (boxes_N4 != np.array(WHOLE, dtype=np.float32)).any(axis=1)
    return closer


def matrices_of(boxes_N4: NDArray[np.float32]) -> Tensor:
    """Affine matrices (N, 2, 3) that cut boxes out of prepared frames, stretched to squares.

    Args:
        boxes_N4: as WHOLE.
    """
    row, column, height, width = torch.from_numpy(boxes_N4).unbind(dim=1)
    zero = torch.zeros_like(height)
    rows = (
        torch.stack((width, zero, 2 * column - 1), dim=1),
        torch.stack((zero, height, 2 * row - 1), dim=1),
    )
    return torch.stack(rows, dim=1)


def jittered(matrices_N23: Tensor, jitter_N23: Tensor) -> Tensor:
    """The matrices with a random change of what they cut out."""
    scale, shift = matrices_N23[:, :, :2], matrices_N23[:, :, 2:]
    return torch.cat((scale @ jitter_N23[:, :, :2], scale @ jitter_N23[:, :, 2:] + shift), dim=2)


def seen(images_NSS: NDArray[np.uint8], matrices_N23: Tensor, size: int, closer_N: NDArray[np.bool_]) -> Tensor:
    """Images as the network sees them.

    Args:
        images_NSS: prepared; their side is `size` or a multiple of it.
        matrices_N23: what to cut out of each.
        size: side of the network's input, pixels.
        closer_N: which of them show a part of the frame, whose window is that part's own.

    Returns:
        (N, 1, size, size), [0, 1].
    """
    views = shrunk(torch.tensor(images_NSS).unsqueeze(1).float() / 255, matrices_N23, size)
    return torch.stack([_windowed(view) if here else view for view, here in zip(views, closer_N, strict=True)])


def shrunk(images_NCSS: Tensor, matrices_N23: Tensor, size: int) -> Tensor:
    """Cut out of each image, (N, C, size, size): as fine as the image, then averaged, or a smaller view would alias."""
    factor = max(images_NCSS.shape[-1] // size, 1)
    return functional.avg_pool2d(warp(images_NCSS, matrices_N23, size * factor), factor)


def _windowed(view_1SS: Tensor) -> Tensor:
    low, high = window_of(view_1SS[0])
    stretched: Tensor = (view_1SS - low) / max(high - low, 1e-6)
    return stretched.clamp(0, 1)
