r"""Masks -> what a hand would draw around them: closed lines, and the two widths of the cardiothoracic ratio.

Coordinates are (column, row) in the stored pixel matrix, 0\0 the upper left corner of its upper left pixel, as
presentation states (PS3.3 C.10.5.1.2) and spatial coordinates (PS3.3 C.18.6.1.2) count.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from shapely import LineString

from cxr_triage.model.suitability import HEART, LEFT_LUNG, RIGHT_LUNG

#: How far a drawn line may lie beside the mask's edge, through the longer side of the image.
TOLERANCE: Final = 1 / 2000
#: The same in pixels, at least: half of what a corner of a pixel lies beside its diagonal.
FINEST: Final = 0.25
#: Of a line: its bytes must fit an element with a length of 16 bits (PS3.5 7.1.2).
MAXIMUM_POINTS: Final = 4000

Points = NDArray[np.float64]


def outlines_of(mask_HW: NDArray[np.bool_]) -> list[Points]:
    """The edges of a mask, each a closed line (points, 2); holes have lines of their own.

    Args:
        mask_HW: bool, (Rows, Columns).
    """
    if not mask_HW.any():
        return []
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    top, left = rows[0], columns[0]
    part = mask_HW[top : rows[-1] + 1, left : columns[-1] + 1]
    # A border outside, so that every line closes; a pixel's value stands in its middle.
    heights = np.pad(part, 1).astype(np.float64)
    lines = contour_generator(z=heights).lines(0.5)
    offset = np.array([left - 0.5, top - 0.5])
    return [_simplified(np.asarray(line) + offset, max(mask_HW.shape)) for line in lines]


def longest_outline(mask_HW: NDArray[np.bool_]) -> Points:
    """The edge of a mask that has the most points; around the image if the mask is empty."""
    return max(outlines_of(mask_HW), key=len, default=box_around(mask_HW))


def _simplified(line_N2: Points, longer_side: int) -> Points:
    """The same line with fewer points (Douglas and Peucker 1973), still closed."""
    tolerance = max(FINEST, longer_side * TOLERANCE)
    while True:
        points: Points = np.asarray(LineString(line_N2).simplify(tolerance, preserve_topology=False).coords)
        if len(points) <= MAXIMUM_POINTS:
            return points
        tolerance *= 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Width:
    """A horizontal measurement, from the outer edge of one pixel to that of another."""

    left: float
    right: float
    #: Where it is drawn: half-way between the heights of its two ends.
    row: float


def cardiothoracic_widths(masks_CHW: NDArray[np.bool_]) -> tuple[Width, Width] | None:
    """The greatest widths of the heart and of the lung fields, which the ratio is of; None without outlines.

    Args:
        masks_CHW: bool, (3, Rows, Columns), in the order of STRUCTURES.
    """
    if not masks_CHW.any(axis=(1, 2)).all():
        return None
    return _width(masks_CHW[HEART]), _width(masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG])


def _width(mask_HW: NDArray[np.bool_]) -> Width:
    columns = np.flatnonzero(mask_HW.any(axis=0))
    ends = [float(np.flatnonzero(mask_HW[:, column]).mean()) + 0.5 for column in (columns[0], columns[-1])]
    return Width(left=float(columns[0]), right=float(columns[-1] + 1), row=sum(ends) / 2)


def box_around(mask_HW: NDArray[np.bool_]) -> Points:
    """A closed rectangle around the mask, or around the image if the mask is empty; its right edge comes first."""
    used = mask_HW if mask_HW.any() else np.ones_like(mask_HW)
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    corners = [(right, top), (right, bottom), (left, bottom), (left, top), (right, top)]
    return np.array(corners, dtype=np.float64)
