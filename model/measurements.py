"""Masks -> measurements that a radiologist would make on the same outlines."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxr_triage.model.findings import DETECTOR_PLANE, Measurement
from cxr_triage.model.radiograph import Radiograph


def cardiothoracic_ratio(masks_CHW: NDArray[np.bool_]) -> float | None:
    """Greatest transverse diameter of the heart through that of the thorax (Danzer 1919); None without outlines.

    The thorax is measured on the lung fields, from the outermost pixel of one lung to that of the other.

    Args:
        masks_CHW: bool, (3, H, W), in the order of STRUCTURES.
    """
    lungs, heart = masks_CHW[0] | masks_CHW[1], masks_CHW[2]
    if not masks_CHW[0].any() or not masks_CHW[1].any() or not heart.any():
        return None
    return _width(heart) / _width(lungs)


def measure(masks_CHW: NDArray[np.bool_], radiograph: Radiograph) -> tuple[Measurement, ...]:
    """The cardiothoracic ratio and, where the spacing is known, each lung's area in mm2."""
    found = []
    ratio = cardiothoracic_ratio(masks_CHW)
    if ratio is not None:
        found.append(Measurement(name="cardiothoracic_ratio", value=ratio, unit="1"))
    if radiograph.spacing_mm is not None:
        qualifier = DETECTOR_PLANE if radiograph.spacing_source == "detector" else ""
        pixel_area = radiograph.spacing_mm[0] * radiograph.spacing_mm[1]
        for name, mask in zip(("left_lung_area", "right_lung_area"), masks_CHW[:2], strict=True):
            area = float(mask.sum()) * pixel_area
            found.append(Measurement(name=name, value=area, unit="mm2", qualifier=qualifier))
    return tuple(found)


def heart_contrast(pixels_HW: NDArray[np.float32], masks_CHW: NDArray[np.bool_]) -> float | None:
    """How much brighter the heart is than the lungs, on average; None without outlines.

    Args:
        pixels_HW: float, bright = dense: air is dark, so that this is positive on every radiograph shown the right way.
        masks_CHW: bool, (3, H, W), in the order of STRUCTURES.
    """
    lungs = masks_CHW[0] | masks_CHW[1]
    heart = masks_CHW[2] & ~lungs
    if not lungs.any() or not heart.any():
        return None
    return float(pixels_HW[heart].mean() - pixels_HW[lungs].mean())


def largest_parts(logits_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep each structure's largest connected part, without holes.

    Args:
        logits_CHW: float, (channels, h, w); above 0 = inside.

    Returns:
        The logits, with dropped islands pushed to the outside and holes to the inside.
    """
    cleaned = logits_CHW.copy()
    for channel, logits in zip(cleaned, logits_CHW, strict=True):
        parts, count = ndimage.label(logits > 0)
        if count == 0:
            continue
        sizes = np.bincount(parts.ravel())[1:]
        filled = ndimage.binary_fill_holes(parts == 1 + int(np.argmax(sizes)))
        magnitude = np.abs(logits)
        channel[:] = np.where(filled, np.where(logits > 0, logits, magnitude), np.where(logits > 0, -magnitude, logits))
    return cleaned


def _width(mask_HW: NDArray[np.bool_]) -> int:
    columns = np.flatnonzero(mask_HW.any(axis=0))
    return int(columns[-1] - columns[0] + 1)
