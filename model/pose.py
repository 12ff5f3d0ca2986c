"""How a stored pixel matrix is turned to look like those that the network learned from, and results turned back.

The network learned the patient's left on the image's right, and square pixels.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from cxr_triage.model.preparation import Frame
from cxr_triage.model.radiograph import Radiograph

Value = TypeVar("Value", bound=np.generic)

#: Pixels whose sides differ by less than this share are as good as square: a chest's proportions are not known better.
SQUARE_ENOUGH: Final = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """What is done to one radiograph before the network sees it."""

    #: Rows and Columns of the stored pixel matrix.
    stored_shape: tuple[int, int]
    #: Rows and columns of the matrix with square pixels.
    shape: tuple[int, int]
    #: The patient's right lies on the stored image's right.
    mirrored: bool

    @classmethod
    def of(cls, radiograph: Radiograph) -> "Pose":
        """By what the header says: anatomy never decides which side is left (PS3.3 C.7.6.1.1.1)."""
        rows, columns = radiograph.pixels_HW.shape
        orientation = radiograph.patient_orientation
        return cls(
            stored_shape=(rows, columns),
            shape=_square(rows, columns, radiograph.pixel_aspect),
            mirrored=orientation is not None and orientation[0].startswith("R"),
        )

    def shown(self, pixels_HW: NDArray[np.float32]) -> NDArray[np.float32]:
        """The stored pixels as the network is to see them."""
        turned = pixels_HW[:, ::-1] if self.mirrored else pixels_HW
        if self.shape == self.stored_shape:
            return turned
        image = torch.from_numpy(np.ascontiguousarray(turned))[None, None]
        return functional.interpolate(image, self.shape, mode="bilinear", align_corners=False)[0, 0].numpy()

    def shown_masks(self, masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Masks in the stored pixel matrix, as the pixels are shown."""
        return np.stack([self.shown(mask.astype(np.float32)) > 0.5 for mask in masks_CHW])

    def stored(self, masks_CHW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Masks of what was shown, in the stored pixel matrix."""
        masks = masks_CHW
        if self.shape != self.stored_shape:
            image = torch.from_numpy(masks[None]).float()
            masks = (functional.interpolate(image, self.stored_shape, mode="nearest")[0] > 0).numpy()
        return self.turned_back(masks)

    def turned_back(self, maps_CHW: NDArray[Value]) -> NDArray[Value]:
        """Maps in the order of the stored columns."""
        return np.ascontiguousarray(maps_CHW[:, :, ::-1]) if self.mirrored else maps_CHW

    def stored_frame(self, frame: Frame) -> tuple[float, float, float, float]:
        """Top, left, height and width of a frame of what was shown, in stored pixels."""
        rows, columns = (stored / shown for stored, shown in zip(self.stored_shape, self.shape, strict=True))
        left = self.shape[1] - frame.left - frame.width if self.mirrored else frame.left
        return (frame.top * rows, left * columns, frame.height * rows, frame.width * columns)


def _square(rows: int, columns: int, aspect: float) -> tuple[int, int]:
    """The shape after interpolation along the longer side of the pixels."""
    if abs(aspect - 1) < SQUARE_ENOUGH:
        return rows, columns
    return (round(rows * aspect), columns) if aspect > 1 else (rows, round(columns / aspect))
