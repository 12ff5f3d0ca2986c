"""Where masks must be on the screen, and where colour is: the judgement of every viewer's pixels."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import STRUCTURES

#: Difference of a pixel's largest and smallest channel that is colour and not the noise of a codec.
COLOURED: Final = 24
#: Cosine between a pixel's hue and a structure's, in the plane of equal brightness: within 30 degrees.
SAME_HUE: Final = 0.87


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a viewer shows an image in a picture of the screen."""

    #: Picture's (column, row) where the centre of the image's first pixel is.
    origin: tuple[float, float]
    #: Step of one column of the image, and of one row, in the picture.
    column_step: tuple[float, float]
    row_step: tuple[float, float]

    def sampled(self, image_HW: NDArray[np.generic], shape: tuple[int, ...], outside: int = 0) -> NDArray[np.generic]:
        """Give an image as it must appear in a picture of that shape, by its nearest pixels."""
        rows, columns = np.indices(shape[:2])
        steps = np.array([self.column_step, self.row_step]).T
        offsets = np.stack([columns - self.origin[0], rows - self.origin[1]])
        x, y = np.rint(np.tensordot(np.linalg.inv(steps), offsets, axes=1)).astype(int)
        height, width = image_HW.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return np.where(inside, image_HW[y.clip(0, height - 1), x.clip(0, width - 1)], outside)


def likeness(picture: NDArray[np.uint8], image_HW: NDArray[np.generic], place: Place) -> float:
    """Correlate a picture with the image at its place: whether it is there, before anything is said of masks."""
    inside = place.sampled(np.ones(image_HW.shape, bool), picture.shape).astype(bool)
    expected = place.sampled(image_HW, picture.shape)[inside].astype(float)
    shown = picture.mean(axis=2)[inside]
    if not inside.any() or not shown.std():
        return 0.0
    return float(np.corrcoef(expected, shown)[0, 1])


def coloured(before: NDArray[np.uint8], after: NDArray[np.uint8], more_than: int = COLOURED) -> NDArray[np.bool_]:
    """Where colour came that was not there; a radiograph has none."""
    return np.asarray((np.ptp(after, axis=2) > more_than) & (np.ptp(before, axis=2) <= more_than))


def iou(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    union = (found | expected).sum()
    return float((found & expected).sum() / union) if union else 0.0


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far a viewer's overlay is what the masks say."""

    #: IoU of all coloured pixels with all masks.
    overall: float
    #: IoU of pixels of a structure's own colour with its mask where it lies alone, in the order of the structures.
    structures: tuple[float, ...]

    def __str__(self) -> str:
        """Print the figures, to be read in a test's output."""
        each = ", ".join(f"{known.name} {value:.3f}" for known, value in zip(STRUCTURES, self.structures, strict=True))
        return f"IoU {self.overall:.3f} ({each})"


def agreement(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    masks_CHW: NDArray[np.bool_],
    place: Place,
    *,
    more_than: int = COLOURED,
) -> Agreement:
    """Compare what was added to a picture with what had to be.

    Args:
        before: the picture without the overlay.
        after: the same with it.
        masks_CHW: the SEG's own, in the order of the structures.
        place: where the viewer says that the image is.
        more_than: difference of a pixel's largest and smallest channel that is no colour yet.
    """
    expected = np.stack([place.sampled(mask_HW, after.shape).astype(bool) for mask_HW in masks_CHW])
    found = coloured(before, after, more_than)
    # Where a lung and the heart overlap, their colours mix.
    alone = expected.sum(axis=0) <= 1
    own = [
        iou(found & alone & _has_hue(after, structure.rgb), mask_HW & alone)
        for structure, mask_HW in zip(STRUCTURES, expected, strict=True)
    ]
    return Agreement(overall=iou(found, np.asarray(expected.any(axis=0))), structures=tuple(own))


def _has_hue(picture: NDArray[np.uint8], rgb: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Laid over grey, a colour keeps its direction from grey, however transparent it is."""
    direction = np.asarray(rgb, dtype=float) - np.mean(rgb)
    shown = picture - picture.mean(axis=2, keepdims=True)
    length = np.linalg.norm(shown, axis=2) * np.linalg.norm(direction)
    return np.asarray(shown @ direction > SAME_HUE * length)
