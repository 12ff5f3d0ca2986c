"""What is drawn on a radiograph: where the outlines lie, what the notes say, and that nobody's name is among them."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import builders
import results
from cxr_triage.daemon.results.drawing import drawing_of
from cxr_triage.daemon.results.meanings import MEANINGS
from cxr_triage.daemon.results.outlines import MAXIMUM_POINTS, box_around, cardiothoracic_widths, outlines_of
from cxr_triage.daemon.results.profiles import AIR, PROFILES
from cxr_triage.model.findings import ABNORMALITIES, MEASUREMENT_CODES, SITES, THIRDS
from cxr_triage.model.measurements import cardiothoracic_ratio
from cxr_triage.model.remarks import HEART_ON_RIGHT
from cxr_triage.storage.result_records import ObjectKind


def filled(lines: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Colour what lies within closed lines; a line within another one is a hole."""
    inside = np.zeros(shape, dtype=bool)
    for line in lines:
        # Ten times larger, for Pillow colours whole pixels, and a line may run through the middle of one.
        part = Image.new("1", (shape[1] * 10, shape[0] * 10))
        ImageDraw.Draw(part).polygon([(column * 10, row * 10) for column, row in line], fill=1)
        inside ^= np.asarray(part)[5::10, 5::10]
    return inside


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(("rows", "columns"), [(37, 29), (400, 320), (2500, 2048)])
def test_outlines_run_along_the_edge_of_the_mask(rows: int, columns: int) -> None:
    """Closed lines that hold what the mask holds, with few points."""
    for mask in builders.thorax_masks(rows, columns):
        lines = outlines_of(mask)
        assert all((line[0] == line[-1]).all() and len(line) <= MAXIMUM_POINTS for line in lines)
        assert overlap(filled(lines, (rows, columns)), mask) >= (0.98 if rows > 100 else 0.9)


def test_outlines_reach_the_border_and_go_around_holes() -> None:
    """A mask that fills the image, with a hole: two lines, along the edges of pixels."""
    mask = np.ones((8, 6), dtype=bool)
    mask[3:5, 2:4] = False
    outer, inner = sorted(outlines_of(mask), key=np.ptp, reverse=True)
    assert (outer.min(axis=0).tolist(), outer.max(axis=0).tolist()) == ([0, 0], [6, 8])
    assert (inner.min(axis=0).tolist(), inner.max(axis=0).tolist()) == ([2, 3], [4, 5])
    assert outlines_of(np.zeros((8, 6), dtype=bool)) == []


def test_a_ragged_outline_has_fewer_points_than_an_element_holds() -> None:
    """PS3.5 7.1.2: noise has an edge around every pixel; what is drawn fits its element all the same."""
    comb = np.zeros((40, 20_001), dtype=bool)
    comb[20:, :] = True
    comb[:, ::2] = True
    assert all(len(line) <= MAXIMUM_POINTS for line in outlines_of(comb))


def test_a_box_holds_the_mask_or_the_image() -> None:
    """Whole pixels, closed; the right edge first, beside which viewers write."""
    mask = np.zeros((8, 6), dtype=bool)
    assert box_around(mask).tolist() == [[6, 0], [6, 8], [0, 8], [0, 0], [6, 0]]
    mask[2:4, 1:3] = True
    assert box_around(mask).tolist() == [[3, 2], [3, 4], [1, 4], [1, 2], [3, 2]]


def test_the_lines_of_the_ratio_are_as_long_as_it_says() -> None:
    """The drawn widths give the reported ratio."""
    masks = builders.thorax_masks(400, 320)
    widths = cardiothoracic_widths(masks)
    assert widths is not None
    heart, thorax = (width.right - width.left for width in widths)
    assert heart / thorax == cardiothoracic_ratio(masks)
    masks[2] = False
    assert cardiothoracic_widths(masks) is None


def test_lines_bear_the_tracking_uids_of_the_segments() -> None:
    """A viewer that has both can tell that they are one thing."""
    header = results.source()
    seg = results.of_kind(results.objects(header), ObjectKind.SEG)
    drawn = {line.tracking_uid for line in drawing_of(results.stored(header), AIR).lines}
    assert {segment.TrackingUID for segment in seg.SegmentSequence} < drawn


def test_notes_say_what_was_found_and_by_whom() -> None:
    """Most probable first, with thresholds; the ratio; the remarks; that it is research."""
    found = [builders.finding("Mass", 0.6), builders.finding("Effusion", 0.9), builders.finding("Edema", 0.1)]
    stored = results.stored(results.source(), findings=tuple(found), remarks=(HEART_ON_RIGHT,))
    notes = drawing_of(stored, AIR).notes
    assert "research, not for diagnosis" in notes[0]
    assert notes[1:3] == ("Pleural effusion 0.90 (threshold 0.50)", "Lung mass 0.60 (threshold 0.50)")
    assert notes[3] == "Cardiothoracic ratio 0.52"
    assert notes[4] == HEART_ON_RIGHT.sentence
    assert "Edema" not in str(notes)


def test_nothing_found_is_not_called_normal() -> None:
    """And without a ratio there are no lines of one."""
    stored = results.stored(results.source(), findings=(builders.finding("Edema", 0.1),), measurements=())
    drawing = drawing_of(stored, AIR)
    assert drawing.notes[1:] == ("No finding reached its threshold; absence is not stated",)
    assert [layer.name for layer in drawing.layers] == ["LEFT_LUNG", "RIGHT_LUNG", "HEART", "NOTES"]
    assert drawing.labels == ()


def test_a_site_may_add_a_line_and_speak_its_language() -> None:
    """Meanings in German where there are some; a notice before everything else."""
    german = dataclasses.replace(AIR, meanings=MEANINGS["de"], notice="Testbetrieb")
    notes = drawing_of(results.stored(results.source(), findings=(builders.finding("Effusion", 0.9),)), german).notes
    assert (notes[0], notes[2]) == ("Testbetrieb", "Pleuraerguss 0.90 (threshold 0.50)")


def test_every_language_has_a_word_for_everything_that_is_drawn() -> None:
    """Findings, structures and measurements, each at most as long as a meaning may be (PS3.3 8.3)."""
    vocabulary = (*(each.code for each in ABNORMALITIES), *SITES.values(), *THIRDS.values())
    drawn = [*vocabulary, *MEASUREMENT_CODES.values()]
    expected = {f"{code.scheme}:{code.value}" for code in drawn}
    for language, meanings in MEANINGS.items():
        assert set(meanings) == (set() if language == "en" else expected)
        assert all(0 < len(meaning) <= 64 for meaning in meanings.values())


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_nobody_is_named_in_what_is_drawn(profile: object) -> None:
    """Names belong into the header, where they are looked after."""
    assert isinstance(profile, type(AIR))
    header = results.source(PatientName="Geheim^Gerda", PatientID="GEHEIM-1")
    assert "geheim" not in str(drawing_of(results.stored(header), profile)).lower()
