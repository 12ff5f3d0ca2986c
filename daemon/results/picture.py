"""The pixels of a radiograph as its default display shows them, for what is drawn on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.grayscale import Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A radiograph on its way to a reader's eye."""

    #: uint8 (h, w), square pixels, the whole stored pixel matrix, neither turned nor mirrored.
    grey_HW: NDArray[np.uint8]
    #: What it is shown with where its header leaves that open; None where it does not.
    window: Window | None


def shrunk(grey_HW: NDArray[np.uint8], longer_side: int) -> NDArray[np.uint8]:
    """The picture with a longer side of at most so many pixels."""
    scale = min(1.0, longer_side / max(grey_HW.shape))
    size = (max(1, round(grey_HW.shape[1] * scale)), max(1, round(grey_HW.shape[0] * scale)))
    return np.asarray(Image.fromarray(grey_HW).resize(size, Image.Resampling.LANCZOS))
