"""The drawing of one radiograph, burned into its picture -> Secondary Capture (PS3.3 A.8.1): what every PACS shows."""

from typing import Final

import numpy as np
from highdicom import CoordinateSystemNames, PhotometricInterpretationValues
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from cxr_triage.daemon.results.codes import SOURCE_FOR_PROCESSING
from cxr_triage.daemon.results.drawing import NOTES, Drawing, drawing_of
from cxr_triage.daemon.results.finishing import (
    CHEST,
    equipment,
    finish,
    image_object_uid,
    image_series_description,
)
from cxr_triage.daemon.results.patient import LOSSY, copy_elements
from cxr_triage.daemon.results.picture import Picture, shrunk
from cxr_triage.daemon.results.profiles import RESEARCH, Profile
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind

#: Width of a line and height of a letter, through the longer side of the picture.
LINE: Final = 1 / 600
LETTER: Final = 1 / 55
SMALLEST_LETTER: Final = 12
#: Lines are drawn so many times larger, and made smooth by making them smaller.
SMOOTH: Final = 2
#: How dark the picture is made behind letters: 0 as it is, 1 black.
SHADE: Final = 0.6

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def build_sc(stored: StoredPrediction, source: Dataset, picture: Picture, *, profile: Profile) -> SCImage:
    """Build the Secondary Capture of one image.

    Args:
        stored: the prediction; its masks are in the source's pixel matrix.
        source: the source's header, without pixels.
        picture: the source's pixels as displayed.
        profile: whom for.
    """
    drawn_HWC = draw(drawing_of(stored, profile), picture.grey_HW, stored.prediction.masks_CHW.shape[1:], profile)
    description = image_series_description(ObjectKind.SC, stored, profile)
    capture = SCImage(
        pixel_array=drawn_HWC,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        study_instance_uid=stored.study_instance_uid,
        series_instance_uid=image_object_uid(ObjectKind.SC, stored, profile, "series"),
        series_number=profile.series_number(ObjectKind.SC),
        sop_instance_uid=image_object_uid(ObjectKind.SC, stored, profile),
        instance_number=1,
        patient_orientation=("L", "F"),
        series_description=description,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(stored.prediction.bundle),
    )
    _derive(capture, stored, source)
    finish(capture, source=source, moment=stored.received_at)
    return capture


def draw(
    drawing: Drawing, grey_HW: NDArray[np.uint8], source_shape: tuple[int, ...], profile: Profile
) -> NDArray[np.uint8]:
    """Burn a drawing into a picture.

    Args:
        drawing: in the source's stored pixel matrix.
        grey_HW: uint8, all of the source, in any size.
        source_shape: Rows and Columns of the source.
        profile: gives size, opacity and font.

    Returns:
        uint8 (h, w, 3), RGB: the picture, and below it a band of notes.
    """
    image = Image.fromarray(shrunk(grey_HW, profile.capture_pixels)).convert("RGB")
    scale = (image.width / source_shape[1], image.height / source_shape[0])
    image.paste(*_areas(drawing, image, scale, profile.opacity))
    image.paste(*_lines(drawing, image, scale))
    font = _font(profile, image)
    _label(drawing, image, scale, font)
    return np.asarray(_with_notes(image, drawing.notes, font))


def _areas(
    drawing: Drawing, image: Image.Image, scale: tuple[float, float], opacity: float
) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    """Structures as areas of colour; what to paste, where, and through which mask."""
    colours, mask = Image.new("RGB", image.size), Image.new("L", image.size)
    for line in drawing.lines:
        if (line.points_N2[0] == line.points_N2[-1]).all():
            points = _scaled(line.points_N2, scale)
            ImageDraw.Draw(colours).polygon(points, fill=line.layer.rgb)
            ImageDraw.Draw(mask).polygon(points, fill=round(255 * opacity))
    return colours, (0, 0), mask


def _lines(
    drawing: Drawing, image: Image.Image, scale: tuple[float, float]
) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    """Lines, smooth; what to paste, where, and through which mask."""
    large = (image.width * SMOOTH, image.height * SMOOTH)
    colours, mask = Image.new("RGB", large), Image.new("L", large)
    width = max(SMOOTH, round(max(large) * LINE))
    for line in drawing.lines:
        points = _scaled(line.points_N2, (scale[0] * SMOOTH, scale[1] * SMOOTH))
        # Its colour reaches past the line, so that black does not bleed in from beside it.
        ImageDraw.Draw(colours).line(points, fill=line.layer.rgb, width=width + 2 * SMOOTH, joint="curve")
        ImageDraw.Draw(mask).line(points, fill=255, width=width, joint="curve")
    return _small(colours, image), (0, 0), _small(mask, image)


def _small(large: Image.Image, like: Image.Image) -> Image.Image:
    return large.resize(like.size, Image.Resampling.BOX)


def _scaled(points_N2: NDArray[np.float64], scale: tuple[float, float]) -> list[tuple[float, float]]:
    return [(float(column * scale[0]), float(row * scale[1])) for column, row in points_N2]


def _label(drawing: Drawing, image: Image.Image, scale: tuple[float, float], font: _Font) -> None:
    """Labels at their places, on a shade that keeps them legible."""
    height = font.getbbox("0")[3]
    for label in drawing.labels:
        words = _spaced(label.text)
        left = max(0.0, label.place[0] * scale[0] - font.getlength(words) - height)
        _shaded(image, (round(left), round(label.place[1] * scale[1] - height)), words, font, label.layer.rgb)


def _shaded(image: Image.Image, place: tuple[int, int], words: str, font: _Font, rgb: tuple[int, int, int]) -> None:
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = (round(side) for side in pen.textbbox(place, words, font=font))
    box = (max(0, left - 4), max(0, top - 4), min(image.width, right + 4), min(image.height, bottom + 4))
    if box[0] < box[2] and box[1] < box[3]:
        part = image.crop(box)
        image.paste(Image.blend(part, Image.new("RGB", part.size), SHADE), box)
    pen.text(place, words, font=font, fill=rgb)


def _with_notes(image: Image.Image, notes: tuple[str, ...], font: _Font) -> Image.Image:
    """The image with its notes in a band below: they hide nothing of the chest."""
    margin = round(font.getbbox("0")[3] / 2)
    words = "\n".join(_wrapped(notes, font, image.width - 2 * margin))
    place = (margin, image.height + margin)
    bottom = ImageDraw.Draw(image).multiline_textbbox(place, words, font=font)[3]
    taller = Image.new("RGB", (image.width, round(bottom) + margin))
    taller.paste(image, (0, 0))
    ImageDraw.Draw(taller).multiline_text(place, words, font=font, fill=NOTES.rgb)
    return taller


def _font(profile: Profile, image: Image.Image) -> _Font:
    size = max(SMALLEST_LETTER, round(max(image.size) * LETTER))
    return ImageFont.truetype(profile.font, size) if profile.font else ImageFont.load_default(size)


def _spaced(words: str) -> str:
    """Words apart: between Pillow's own letters a space is narrow."""
    return words.replace(" ", "  ")


def _wrapped(lines: tuple[str, ...], font: _Font, width: float) -> list[str]:
    """Lines that are too long go on below, indented; words apart as in `_spaced`."""
    wrapped: list[str] = []
    for line in lines:
        current = ""
        for word in line.split():
            longer = f"{current}  {word}".strip()
            if current and font.getlength(longer) > width:
                wrapped.append(current)
                longer = f"    {word}"
            current = longer
        wrapped.append(current)
    return wrapped


def _derive(capture: Dataset, stored: StoredPrediction, source: Dataset) -> None:
    """Say what it was made from (PS3.3 C.7.6.1.1.4), and what is burned in."""
    copy_elements(source, capture, ("PatientOrientation",))
    if "PatientOrientation" not in capture:
        capture.PatientOrientation = None
    capture.BodyPartExamined = CHEST
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"  # workstation
    for made_up in ("DateOfSecondaryCapture", "TimeOfSecondaryCapture"):
        del capture[made_up]
    capture.DerivationDescription = f"Drawing by AI burned in, {RESEARCH}"
    reference = Dataset()
    reference.ReferencedSOPClassUID = stored.sop_class_uid
    reference.ReferencedSOPInstanceUID = stored.sop_instance_uid
    reference.PurposeOfReferenceCodeSequence = Sequence([SOURCE_FOR_PROCESSING])
    capture.SourceImageSequence = Sequence([reference])
    # Ours names nobody; what the source has burned in, nobody has looked at: it is to be treated as if it did.
    capture.BurnedInAnnotation = "YES"
    copy_elements(source, capture, LOSSY)
