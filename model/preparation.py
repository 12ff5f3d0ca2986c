"""Radiograph pixels -> the network's square input, and its maps back to the stored pixel matrix.

Training and inference call the same functions: a network sees nothing that training did not prepare the same way.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

#: Share of pixels that the display window leaves out at each end: markers, borders, metal.
WINDOW_TAIL: Final = 0.01
#: The window is taken from the central part of the frame, where the lungs are: its share of each side.
WINDOW_CENTRE: Final = 0.8
#: A border row or column is collimation when its grey values spread less than this (of the full range).
COLLIMATION_SPREAD: Final = 0.02
#: Collimation is never believed past this share of a side.
COLLIMATION_LIMIT: Final = 0.25
#: What the closer look leaves above, below, left and right of the lungs, in shares of their box: apices, costophrenic
#: angles and what lies behind the diaphragm, ribs.
CLOSER_MARGINS: Final = (0.06, 0.12, 0.05, 0.05)
#: Least height and width of the closer look, as a share of the whole frame: smaller lungs are not to be believed.
CLOSER_LEAST: Final = 0.4


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the stored pixel matrix that the network sees as a square; it may reach outside, where it is padded.

    All values are in source pixels.
    """

    top: int
    left: int
    height: int
    width: int
    #: Rows and Columns of the stored pixel matrix.
    source_shape: tuple[int, int]


def frame_of(pixels_HW: NDArray[np.float32]) -> Frame:
    """Leave out collimated borders, then extend the shorter side: nothing of the chest is cut off.

    Args:
        pixels_HW: float, [0, 1].
    """
    top, bottom = _inside_collimation(pixels_HW)
    left, right = _inside_collimation(pixels_HW.T)
    height, width = bottom - top, right - left
    side = max(height, width)
    rows, columns = pixels_HW.shape
    return Frame(top - (side - height) // 2, left - (side - width) // 2, side, side, (rows, columns))


def closer_frame(frame: Frame, logits_CHW: NDArray[np.float32]) -> Frame:
    """The rectangle around the lungs: what the network looks at again, the same in every chest and every framing.

    The whole frame where one of the lungs was not seen, or they are too small to be believed.

    Args:
        frame: what the network saw.
        logits_CHW: its mask logits over that frame, in the order of STRUCTURES; above 0 = inside.
    """
    left, right = logits_CHW[0] > 0, logits_CHW[1] > 0
    if not left.any() or not right.any():
        return frame
    top, height = _with_margins(np.flatnonzero((left | right).any(axis=1)), left.shape[0], CLOSER_MARGINS[:2])
    start, width = _with_margins(np.flatnonzero((left | right).any(axis=0)), left.shape[1], CLOSER_MARGINS[2:])
    if min(height, width) < CLOSER_LEAST:
        return frame
    return Frame(
        frame.top + round(top * frame.height),
        frame.left + round(start * frame.width),
        round(height * frame.height),
        round(width * frame.width),
        frame.source_shape,
    )


def _with_margins(inside: NDArray[np.intp], size: int, margins: tuple[float, ...]) -> tuple[float, float]:
    """Start and length of a run of pixels with margins before and after it, in shares of the size."""
    start, length = inside[0] / size, (inside[-1] + 1 - inside[0]) / size
    return float(start - margins[0] * length), float(length * (1 + sum(margins)))


def _inside_collimation(pixels_HW: NDArray[np.float32]) -> tuple[int, int]:
    """First row inside the collimation, and the one past the last."""
    rows = pixels_HW.shape[0]
    uniform = np.ptp(np.quantile(pixels_HW, (0.05, 0.95), axis=1), axis=0) < COLLIMATION_SPREAD
    limit = int(rows * COLLIMATION_LIMIT)
    start = int(np.argmin(uniform))
    end = int(np.argmin(uniform[::-1]))
    if uniform.all() or start > limit or end > limit:
        return 0, rows
    return start, rows - end


def prepare(pixels_HW: NDArray[np.float32], frame: Frame, size: int) -> Tensor:
    """Window, cut out the frame (padded with its darkest grey) and resize with antialiasing.

    Args:
        pixels_HW: float32, [0, 1], bright = dense.
        frame: what to cut out.
        size: side of the network's input, pixels.

    Returns:
        float32 (1, size, size), [0, 1].
    """
    square = _cut(torch.from_numpy(np.ascontiguousarray(pixels_HW))[None, None], frame, value=float("nan"))
    low, high = window_of(square[0, 0])
    square = ((square - low) / max(high - low, 1e-6)).clamp(0, 1).nan_to_num(nan=0.0)
    return functional.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def prepare_mask(mask_CHW: NDArray[np.bool_], frame: Frame, size: int) -> Tensor:
    """The same cut for masks: float32 (channels, size, size), the share of each pixel that is covered."""
    square = _cut(torch.from_numpy(np.ascontiguousarray(mask_CHW)).float()[None], frame, value=0.0)
    return functional.interpolate(square, (size, size), mode="bilinear", antialias=True, align_corners=False)[0]


def recut(maps_CHW: Tensor, frame: Frame, closer: Frame) -> Tensor:
    """Maps over one frame as maps of the same size over another one, most of which lies inside the first.

    Args:
        maps_CHW: float (channels, h, w) over `frame`.
        frame: of the same radiograph as `closer`.
        closer: what to cut out; beyond the first frame its border is repeated.
    """
    scale_y, scale_x = closer.height / frame.height, closer.width / frame.width
    # Centres of the frames, -1 to 1 over the first one.
    shift_y = (2 * (closer.top - frame.top) + closer.height) / frame.height - 1
    shift_x = (2 * (closer.left - frame.left) + closer.width) / frame.width - 1
    matrix = torch.tensor([[[scale_x, 0.0, shift_x], [0.0, scale_y, shift_y]]])
    grid = functional.affine_grid(matrix, [1, *maps_CHW.shape], align_corners=False)
    return functional.grid_sample(maps_CHW[None], grid, padding_mode="border", align_corners=False)[0]


def restore(maps_CHW: Tensor, frame: Frame) -> Tensor:
    """Bring maps on the network's grid back to the stored pixel matrix.

    Args:
        maps_CHW: float (channels, h, w) over the whole frame: logits interpolate better than probabilities.
        frame: the frame that the input was cut from.

    Returns:
        float (channels, Rows, Columns); what lies outside the frame repeats its lowest value.
    """
    shape = (frame.height, frame.width)
    square = functional.interpolate(maps_CHW[None], shape, mode="bilinear", align_corners=False)[0]
    rows, columns = frame.source_shape
    full = torch.full((maps_CHW.shape[0], rows, columns), float(maps_CHW.min()))
    top, left = max(frame.top, 0), max(frame.left, 0)
    bottom, right = min(frame.top + frame.height, rows), min(frame.left + frame.width, columns)
    full[:, top:bottom, left:right] = square[
        :, top - frame.top : bottom - frame.top, left - frame.left : right - frame.left
    ]
    return full


def on_image(
    grid_HW: NDArray[np.uint8], frame: tuple[float, float, float, float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """One map of small numbers on a stored pixel matrix.

    Args:
        grid_HW: uint8, on the network's grid.
        frame: where that grid lies, as in `Prediction.saliency_frame`.
        shape: Rows and Columns.
    """
    top, left, height, width = (round(value) for value in frame)
    maps = torch.from_numpy(grid_HW.astype(np.float32))[None]
    full_HW: NDArray[np.float32] = restore(maps, Frame(top, left, height, width, shape))[0].numpy()
    return full_HW


def _cut(image_NCHW: Tensor, frame: Frame, *, value: float) -> Tensor:
    rows, columns = frame.source_shape
    padding = (-frame.left, frame.left + frame.width - columns, -frame.top, frame.top + frame.height - rows)
    return functional.pad(image_NCHW, padding, value=value)


def window_of(square_HW: Tensor) -> tuple[float, float]:
    """Grey values between which the contrast of the centre lies; NaN = padding, which does not count."""
    top, left = (round(length * (1 - WINDOW_CENTRE) / 2) for length in square_HW.shape)
    centre = square_HW[top : -top or None, left : -left or None]
    # Ten thousand values are plenty for a percentile.
    step = max(min(centre.shape) // 100, 1)
    values = centre[::step, ::step].flatten()
    values = values[~values.isnan()]
    low, high = torch.quantile(values, torch.tensor([WINDOW_TAIL, 1 - WINDOW_TAIL]))
    return float(low), float(high)
