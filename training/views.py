"""Prepared radiographs -> what the network looks at: the whole frame, or the rectangle around the lungs.

The same geometry and the same window as `model.preparation`, for a batch at once and with random changes on top.
"""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cxr_triage.model.measurements import largest_parts
from cxr_triage.model.preparation import WINDOW_CENTRE, WINDOW_TAIL, Frame, closer_frame
from cxr_triage.training.augment import warp
from cxr_triage.training.precision import Precision

#: Row and column of a box's centre, its height and its width, in shares of the prepared frame: all of it.
WHOLE: Final = (0.5, 0.5, 1.0, 1.0)
#: Images that are computed at once.
AT_ONCE: Final = 16


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
    margin = round(view_1SS.shape[-1] * (1 - WINDOW_CENTRE) / 2)
    centre = view_1SS[0, margin:-margin:2, margin:-margin:2].flatten()
    low, high = torch.quantile(centre, torch.tensor([WINDOW_TAIL, 1 - WINDOW_TAIL])).tolist()
    stretched: Tensor = (view_1SS - low) / max(high - low, 1e-6)
    return stretched.clamp(0, 1)


@torch.inference_mode()
def closer_boxes(
    network: nn.Module, images_NSS: NDArray[np.uint8], size: int, precision: Precision, device: torch.device
) -> NDArray[np.float32]:
    """Where the network would look again in each prepared image, (N, 4) as WHOLE."""
    network.eval()
    boxes = whole_boxes(len(images_NSS))
    for start in range(0, len(images_NSS), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        views = seen(images_NSS[rows], matrices_of(boxes[rows]), size, are_closer(boxes[rows]))
        with precision.autocast():
            logits = network(views.to(device, memory_format=torch.channels_last)).mask
        boxes[rows] = [_box(largest_parts(one), size) for one in logits.float().cpu().numpy()]
    return boxes


def _box(logits_CHW: NDArray[np.float32], size: int) -> tuple[float, float, float, float]:
    found = closer_frame(Frame(0, 0, size, size, (size, size)), logits_CHW)
    row, column = found.top + found.height / 2, found.left + found.width / 2
    return row / size, column / size, found.height / size, found.width / size
