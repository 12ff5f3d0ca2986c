"""DICOMscope draws a presentation state: the image as the state says, outlines where the masks end, lines, and text."""

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from scipy import ndimage

from viewers import dicomscope
from viewers.conftest import TALL_PIXELS
from viewers.dicomscope import Canvas, Dicomscope, place_of_white
from viewers.overlay import Place
from viewers.pictures import Pictures
from viewers.site import Hospital, Shown
from viewers.states import all_white, lines_of, on_black, on_picture, traced, with_one_line, without_text

pytestmark = [pytest.mark.viewers, pytest.mark.timeout(600)]

DCMP2PGM: Final = "/usr/bin/dcmp2pgm"
#: DX, CR, MONOCHROME1, and pixels that are not square.
SOME: Final = ["04-dogwood-dx", "02-birch-cr", "07-fir-dx-monochrome1", TALL_PIXELS]
#: DICOMscope draws so many of the image's pixels left of, and above, where a point is (PS3.3 C.10.5.1.2): seen with a
#: square that is none of ours, in images of 64 to 1724 columns.
BESIDE: Final = 2
#: How far a line may be from where it must be, in pixels of the screen; its own thickness is a pixel of the image.
NEAR: Final = 2
#: Letters are so high and wide, in pixels of the screen, about.
LETTERS: Final = 12
#: Annotations are white.
LIT: Final = 128


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What DICOMscope made of a presentation state."""

    #: The state itself, and its annotations on black: (row, column, RGB).
    whole: Canvas
    annotations: Canvas
    #: Where lines are, without text.
    lines: NDArray[np.bool_]
    #: Where a square is that was drawn beside it: a half of the image's height and width.
    square: NDArray[np.bool_]
    image: Place
    #: Width and height of the image in the canvas.
    size: tuple[float, float]

    @property
    def thickness(self) -> float:
        """Of its lines: a pixel of the image, whatever its sides."""
        return max(self.image.column_step[0], self.image.row_step[1])

    @property
    def drawn(self) -> Place:
        """Where it draws, if it counts as it does."""
        column, row = self.image.origin
        down, right = self.image.row_step[1], self.image.column_step[0]
        return replace(self.image, origin=(column - BESIDE * right, row - BESIDE * down))


def look_at(shown: Shown, folder: Path, pictures: Pictures, name: str) -> Seen:
    """Open the state, and ones that have a part of it."""
    state, shape = shown.made["PR"], (int(shown.image.Rows), int(shown.image.Columns))
    parts = [all_white(state), on_black(state), without_text(state), with_one_line(state, square(shape))]
    with Dicomscope.of(folder, [uncompressed(shown.image), *parts, state]) as viewer:
        white = viewer.open(1, lambda canvas: is_white(canvas).mean() > 0.2, what="a white image")
        annotations = viewer.open(2, has_lines, what="lines on black")
        lines = viewer.open(3, lambda canvas: has_lines(canvas) and differs(canvas, annotations), what="lines alone")
        squared = viewer.open(4, lambda canvas: has_lines(canvas) and differs(canvas, lines), what="a square")
        whole = viewer.open(5, lambda canvas: canvas.mean() > 40, what="the image")
        pictures.keep(viewer.screen.picture(), name)
    image = place_of_white(white, shape)
    size = (image.column_step[0] * shape[1], image.row_step[1] * shape[0])
    return Seen(whole=whole, annotations=annotations, lines=lit(lines), square=lit(squared), image=image, size=size)


def square(shape: tuple[int, int]) -> NDArray[np.float64]:
    """A rectangle whose sides are half of the image's, about its middle."""
    height, width = shape
    top, left = height / 4, width / 4
    return np.array([(left, top), (3 * left, top), (3 * left, 3 * top), (left, 3 * top), (left, top)])


def uncompressed(image: Dataset) -> Dataset:
    """It has no decoders."""
    copy = image.copy()
    if copy.file_meta.TransferSyntaxUID.is_compressed:
        copy.decompress(generate_instance_uid=False)
    return copy


def lit(canvas: Canvas) -> NDArray[np.bool_]:
    """Where annotations are on black."""
    return np.asarray(canvas.min(axis=2) > LIT)


def is_white(canvas: Canvas) -> NDArray[np.bool_]:
    """Where a canvas is white."""
    return np.asarray(canvas.min(axis=2) == 255)


def has_lines(canvas: Canvas) -> bool:
    """Whether there are annotations, and no image."""
    return bool(lit(canvas).any() and (canvas.max(axis=2) == 0).mean() > 0.9)


def differs(one: Canvas, other: Canvas) -> bool:
    """Whether two pictures are not the same."""
    return not np.array_equal(one, other)


def border(mask_HW: NDArray[np.bool_], place: Place, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a picture at either side of the edge of a mask."""
    inside = place.sampled(mask_HW, shape).astype(bool)
    return np.asarray(ndimage.binary_dilation(inside) & ~ndimage.binary_erosion(inside))


def away_from(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far every pixel is from the nearest of these."""
    return np.asarray(ndimage.distance_transform_edt(~pixels))


def by_dcmtk(shown: Shown, folder: Path) -> NDArray[np.uint8]:
    """The image as DCMTK's own reading of the state has it, without annotations: (row, column)."""
    folder.mkdir()
    image, state, made = folder / "image.dcm", folder / "state.dcm", folder / "made.pgm"
    uncompressed(shown.image).save_as(image, enforce_file_format=True)
    shown.made["PR"].save_as(state, enforce_file_format=True)
    subprocess.run([DCMP2PGM, "-p", state, image, made], check=True, capture_output=True)
    with Image.open(made) as picture:
        return np.asarray(picture.convert("L"))


@pytest.mark.parametrize("name", SOME)
def test_dicomscope_draws_a_presentation_state(ward: Hospital, tmp_path: Path, pictures: Pictures, name: str) -> None:
    """The image is as the state says; outlines are where the masks end, the ratio's lines and text beside them."""
    shown = ward.shown[name]
    seen = look_at(shown, tmp_path / "dicomscope", pictures, f"dicomscope-{dicomscope.VERSION}-{name}")
    require_counts_as_known(seen, shown)
    require_lines(seen, shown, name)
    require_words(seen, shown)
    require_image(seen, by_dcmtk(shown, tmp_path / "dcmtk"))


def require_counts_as_known(seen: Seen, shown: Shown) -> None:
    """Where it draws a square that is none of ours: what is said of ours below rests on that."""
    expected = traced([square(shown.masks().shape[1:])], seen.drawn, seen.square.shape)
    assert away_from(seen.square)[expected].max() <= NEAR
    assert away_from(expected)[seen.square].max() <= NEAR + seen.thickness / 2


def require_lines(seen: Seen, shown: Shown, name: str) -> None:
    """Every edge of a mask has its line, the ratio has its own, and no line is elsewhere."""
    shape, widths = seen.lines.shape, lines_of(shown.made["PR"], "MEASUREMENTS")
    edges = [border(mask_HW, seen.drawn, shape) for mask_HW in shown.masks()]
    ratio = traced(widths, seen.drawn, shape)
    far = [float(away_from(seen.lines)[each].max()) for each in (*edges, ratio)]
    beside = float(away_from(np.any([*edges, ratio], axis=0))[seen.lines].max())
    print(f"dicomscope-{name}: edges and widths {far} px from a line, a line {beside} px from them")  # noqa: T201
    assert max(far) <= NEAR
    assert beside <= NEAR + seen.thickness / 2
    # The widths end where heart and lungs do.
    right, left, heart = shown.masks()
    ends = {(line[0, 0], line[-1, 0]) for line in widths if line[0, 1] == line[-1, 1]}
    assert ends == {extent(heart), extent(left | right)}


def extent(mask_HW: NDArray[np.bool_]) -> tuple[float, float]:
    """The outer edges of a mask's first and last column."""
    columns = np.flatnonzero(mask_HW.any(axis=0))
    return float(columns[0]), float(columns[-1] + 1)


def require_words(seen: Seen, shown: Shown) -> None:
    """Text is in the box for notes, in as many lines and as long ones, and above the heart's width; nowhere else.

    How far from its anchor a text is, is the viewer's own affair (PS3.3 C.10.5.1.1).
    """
    words = lit(seen.annotations) & ~ndimage.binary_dilation(seen.lines)
    label, notes = texts_of(shown.made["PR"])
    (left, top), (right, bottom) = (
        share * np.array(seen.size)
        for share in (np.array(notes.BoundingBoxTopLeftHandCorner), np.array(notes.BoundingBoxBottomRightHandCorner))
    )
    box = np.zeros(words.shape, bool)
    box[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = True
    column, row = np.rint(on_picture(np.array([label.AnchorPoint], dtype=float), seen.drawn)[0]).astype(int)
    beside = np.zeros(words.shape, bool)
    beside[row - 6 * LETTERS : row, column : column + 12 * LETTERS] = True
    assert words[beside].sum() > LETTERS * len(label.UnformattedTextValue)
    assert not (words & ~box & ~beside).any()
    expected = [len(line) for line in notes.UnformattedTextValue.split("\r\n")]
    assert np.corrcoef(expected, lengths(words & box & ~beside, len(expected)))[0, 1] > 0.95


def texts_of(state: Dataset) -> tuple[Dataset, Dataset]:
    """The text at the heart's width, and the notes."""
    found = [
        text for annotation in state.GraphicAnnotationSequence for text in annotation.get("TextObjectSequence", ())
    ]
    (label,) = (text for text in found if "AnchorPoint" in text)
    (notes,) = (text for text in found if "AnchorPoint" not in text)
    return label, notes


def lengths(words: NDArray[np.bool_], count: int) -> list[int]:
    """How far each of so many lines of text reaches to the right, lines of equal height."""
    rows = np.flatnonzero(words.any(axis=1))
    lines = np.array_split(words[rows[0] : rows[-1] + 1], count)
    # Letters may reach into the line below.
    middles = [line[len(line) // 4 : -len(line) // 4] for line in lines]
    return [int(np.flatnonzero(line.any(axis=0))[-1]) for line in middles]


def require_image(seen: Seen, expected_HW: NDArray[np.uint8]) -> None:
    """Its pixels are those of DCMTK's rendering, and annotations are white on it."""
    free = away_from(seen.annotations.max(axis=2) > 0) > 1
    inside = seen.image.sampled(np.ones(expected_HW.shape, bool), free.shape).astype(bool)
    expected = seen.image.sampled(expected_HW, free.shape).astype(int)
    difference = np.abs(seen.whole.max(axis=2).astype(int) - expected)[inside & free]
    print(f"dicomscope: grey levels {difference.mean():.2f} apart, 99 % at most {np.percentile(difference, 99)}")  # noqa: T201
    assert difference.mean() < 1
    assert seen.whole[lit(seen.annotations)].min() > LIT
