"""Secondary Captures: the picture, with what was drawn burned in."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import pixel_array
from pydicom.dataset import Dataset

import builders
import results
from cxr_triage.daemon.results.drawing import MEASUREMENTS, drawing_of
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.profiles import FLOOR, Profile
from cxr_triage.daemon.results.secondary_capture import build_sc, draw
from cxr_triage.model.findings import STRUCTURES


def capture(profile: Profile = FLOOR, *, rows: int = 370, columns: int = 290, **tags: Any) -> Dataset:
    """Give the capture of a grey image as its reader finds it."""
    header = results.source(rows=rows, columns=columns, **tags)
    grey = Picture(grey_HW=np.full((rows, columns), 100, np.uint8), window=None)
    return results.written(build_sc(results.stored(header), header, grey, profile=profile))


def coloured(drawn_HWC: NDArray[np.uint8], rgb: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where grey was mixed with a colour: the difference from grey has the colour's direction."""
    tint = drawn_HWC.astype(float) - drawn_HWC.mean(axis=-1, keepdims=True)
    direction = np.array(rgb, float) - np.mean(rgb)
    along = tint @ direction / np.linalg.norm(direction)
    found: NDArray[np.bool_] = along > 0.9 * np.linalg.norm(tint, axis=-1) + 2
    return found


def test_structures_are_coloured_where_their_masks_are() -> None:
    """Each in its own colour: areas and lines of the lungs and the heart, apart from where one covers another."""
    plain = dataclasses.replace(FLOOR, opacity=0.5)
    stored = results.stored(results.source(rows=1110, columns=870))
    drawing = drawing_of(stored, plain)
    lines = tuple(line for line in drawing.lines if line.layer is not MEASUREMENTS)
    drawing = dataclasses.replace(drawing, lines=lines, labels=())
    drawn = draw(drawing, np.full((1110, 870), 100, np.uint8), (1110, 870), plain)[:1110]
    masks = stored.prediction.masks_CHW
    for structure, mask in zip(STRUCTURES, masks, strict=True):
        alone = mask & (masks.sum(axis=0) == 1)
        found = coloured(drawn, structure.rgb) & (masks.sum(axis=0) <= 1)
        assert (found & alone).sum() / (found | alone).sum() >= 0.9, structure.name


def test_the_notes_stand_below_the_chest() -> None:
    """The picture keeps its place and size, and nothing but outlines and the ratio is drawn on it."""
    made = capture()
    assert (made.Columns, made.Rows > 370) == (290, True)
    pixels = pixel_array(made)
    assert (pixels[2:30, 2:30] == 100).all()
    band = pixels[370:]
    assert (band[:, :2] == 0).all()
    assert band.max() > 200


def test_a_large_picture_is_made_smaller_and_a_small_one_is_not_made_larger() -> None:
    """Longer side as the profile says."""
    assert capture(rows=370, columns=290).Columns == 290
    small = dataclasses.replace(FLOOR, capture_pixels=256)
    assert capture(small, rows=740, columns=580).Columns == round(580 * 256 / 740)


def test_pixels_that_are_not_square_are_drawn_on_at_their_place() -> None:
    """The picture has square pixels, the masks those of the source."""
    header = results.source(rows=370, columns=290)
    stored = results.stored(header)
    square = draw(drawing_of(stored, FLOOR), np.full((740, 290), 100, np.uint8), (370, 290), FLOOR)
    heart = coloured(square[:740], STRUCTURES[2].rgb)
    rows = np.flatnonzero(heart.any(axis=1))
    expected = np.flatnonzero(stored.prediction.masks_CHW[2].any(axis=1))
    assert abs(rows[0] - 2 * expected[0]) <= 6
    assert abs(rows[-1] - 2 * expected[-1]) <= 6


def test_it_says_what_it_was_made_from() -> None:
    """PS3.3 C.7.6.1.1.4; and that something is burned in, since nobody has looked what the source has."""
    made = capture(LossyImageCompression="01", LossyImageCompressionRatio="10", PatientOrientation=["R", "F"])
    (source,) = made.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.3.4.1.1"
    assert source.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert made.ImageType == ["DERIVED", "SECONDARY"]
    assert (made.BurnedInAnnotation, made.LossyImageCompression) == ("YES", "01")
    assert made.PatientOrientation == ["R", "F"]
    assert "research, not for diagnosis" in made.SeriesDescription
    assert "PixelSpacing" not in made


def test_a_site_chooses_size_colour_opacity_and_letters(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a profile says shows in the pixels; a font that is none is an error that names it."""
    header = results.source(rows=370, columns=290)
    stored = results.stored(header)
    grey = np.full((370, 290), 100, np.uint8)

    def drawn(**changes: Any) -> NDArray[np.uint8]:
        profile = dataclasses.replace(FLOOR, **changes)
        return draw(drawing_of(stored, profile), grey, (370, 290), profile)

    usual = drawn()
    assert not np.array_equal(usual, drawn(opacity=0.9))
    assert not np.array_equal(usual, drawn(colours={"heart": (0, 0, 255)}))
    assert drawn(notice="Only a trial").shape[0] > usual.shape[0]
    broken = tmp_path_factory.mktemp("font") / "none.ttf"
    broken.write_bytes(b"no font")
    with pytest.raises(OSError, match="unknown file format"):
        drawn(font=str(broken))


def test_words_that_are_too_long_go_on_below() -> None:
    """Nothing of a note runs out of the picture."""
    header = results.source(rows=370, columns=290)
    wordy = dataclasses.replace(FLOOR, notice="A notice of many words that no picture of this width can hold in a line")
    pixels = draw(drawing_of(results.stored(header), wordy), np.zeros((370, 290), np.uint8), (370, 290), wordy)
    assert (pixels[370:, -2:] == 0).all()
    assert builders.thorax_masks(370, 290).shape == (3, 370, 290)
