"""In the child: a DICOM file -> the picture that results are drawn on."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.daemon.results.picture import Picture
from cxr_triage.model.codecs import decode, pixel_layout
from cxr_triage.model.grayscale import Window, leaves_window_open, window_left_open
from cxr_triage.model.header import open_dataset, quiet_pydicom
from cxr_triage.model.radiograph import Radiograph, read_radiograph

#: Longer side of a picture, pixels: more than anything that is drawn on needs.
LARGEST: Final = 4096


def picture_of(path: Path) -> Picture:
    """Read a DICOM file.

    Raises:
        UnreadableImageError: it is not a single monochrome image whose pixels can be read; says why.
        OSError: the file could not be read; trying again may help.
    """
    return Picture(grey_HW=_grey(read_radiograph(path)), window=_window(path))


def _grey(radiograph: Radiograph) -> NDArray[np.uint8]:
    """Square pixels, the shorter side of one that is not square being the new side."""
    pixels = np.rint(radiograph.pixels_HW * 255).astype(np.uint8)
    rows, columns = pixels.shape
    aspect = radiograph.pixel_aspect
    height, width = rows * max(aspect, 1.0), columns / min(aspect, 1.0)
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size == (columns, rows):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _window(path: Path) -> Window | None:
    with quiet_pydicom():
        dataset = open_dataset(path)
        if not leaves_window_open(dataset):
            return None
        layout = pixel_layout(dataset)
        return window_left_open(decode(dataset, layout), layout, dataset)
