"""A presentation state taken apart: what it must draw, by the object alone, and states that show a part of it."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from viewers.overlay import Place

#: What of a presentation state decides how bright a pixel is (PS3.3 C.11.1, C.11.8).
GRAYSCALE: Final = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType", "SoftcopyVOILUTSequence")
ANNOTATIONS: Final = ("GraphicAnnotationSequence", "GraphicLayerSequence")
#: Beyond every stored value.
FAR: Final = 1_000_000


def all_white(state: Dataset) -> Dataset:
    """The same area of the same image, white, with nothing on it."""
    changed = _uniform(state, center=-FAR)
    for keyword in ANNOTATIONS:
        del changed[keyword]
    return changed


def on_black(state: Dataset) -> Dataset:
    """The same annotations on black."""
    return _uniform(state, center=FAR)


def without_text(state: Dataset) -> Dataset:
    """The same lines on black, and no text."""
    changed = on_black(state)
    annotations = [each for each in changed.GraphicAnnotationSequence if "GraphicObjectSequence" in each]
    for annotation in annotations:
        annotation.pop("TextObjectSequence", None)
    changed.GraphicAnnotationSequence = annotations
    return changed


def with_one_line(state: Dataset, points_N2: NDArray[np.float64]) -> Dataset:
    """One line on black."""
    changed = without_text(state)
    annotation = changed.GraphicAnnotationSequence[0]
    graphic = annotation.GraphicObjectSequence[0]
    graphic.NumberOfGraphicPoints, graphic.GraphicData = len(points_N2), points_N2.ravel().tolist()
    annotation.GraphicObjectSequence = [graphic]
    changed.GraphicAnnotationSequence = [annotation]
    return changed


def _uniform(state: Dataset, *, center: int) -> Dataset:
    changed = deepcopy(state)
    changed.SOPInstanceUID = changed.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    changed.SeriesInstanceUID = generate_uid()
    for keyword in GRAYSCALE:
        changed.pop(keyword, None)
    voi = Dataset()
    voi.WindowCenter, voi.WindowWidth = str(center), "1"
    changed.SoftcopyVOILUTSequence = [voi]
    changed.PresentationLUTShape = "IDENTITY"
    return changed


def lines_of(state: Dataset, layer: str) -> list[NDArray[np.float64]]:
    """The lines of a layer: (point, column and row), 0 and 0 is the image's corner (PS3.3 C.10.5.1.2)."""
    return [
        np.asarray(graphic.GraphicData, dtype=float).reshape(-1, 2)
        for annotation in state.GraphicAnnotationSequence
        if annotation.GraphicLayer == layer
        for graphic in annotation.get("GraphicObjectSequence", ())
    ]


def traced(lines: Sequence[NDArray[np.float64]], place: Place, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a picture that lines of the image go through."""
    through = np.zeros(shape[:2], bool)
    for points_N2 in lines:
        for column, row in _steps(on_picture(points_N2, place)):
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                through[row, column] = True
    return through


def on_picture(points_N2: NDArray[np.float64], place: Place) -> NDArray[np.float64]:
    """Where points of the image are in a picture, whose pixels' centres are whole numbers."""
    steps = np.array([place.column_step, place.row_step])
    return np.asarray((points_N2 - 0.5) @ steps + place.origin)


def _steps(points_N2: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    for start, end in pairwise(points_N2):
        count = int(np.abs(end - start).max()) + 2
        for column, row in np.rint(np.linspace(start, end, count)).astype(int):
            yield int(column), int(row)
