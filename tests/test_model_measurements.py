"""Measurements on outlines whose size is known."""

import dataclasses

import numpy as np
import pytest

from cxr_triage.model.measurements import cardiothoracic_ratio, heart_contrast, largest_parts, measure
from cxr_triage.model.radiograph import Radiograph


def outlines() -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    """Lungs 80 pixels wide in all, a heart 40 wide."""
    masks = np.zeros((3, 100, 100), dtype=bool)
    masks[0, 20:80, 60:90] = True
    masks[1, 20:80, 10:40] = True
    masks[2, 50:80, 35:75] = True
    return masks


RADIOGRAPH = Radiograph(
    pixels_HW=np.zeros((100, 100), dtype=np.float32),
    spacing_mm=(0.2, 0.1),
    spacing_source="calibrated",
    view="PA",
    body_part="CHEST",
    age_years=None,
    patient_orientation=None,
    sop_instance_uid="1.2",
    sop_class_uid="1.2",
)


def test_cardiothoracic_ratio() -> None:
    """40 through 80."""
    assert cardiothoracic_ratio(outlines()) == pytest.approx(0.5)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_ratio_needs_every_outline(missing: int) -> None:
    """Half a chest has no ratio."""
    masks = outlines()
    masks[missing] = False
    assert cardiothoracic_ratio(masks) is None


def test_lung_areas_in_square_millimetres() -> None:
    """1800 pixels of 0.02 mm2 each."""
    areas = [row for row in measure(outlines(), RADIOGRAPH) if row.name.endswith("area")]
    assert [row.value for row in areas] == pytest.approx([36.0, 36.0])
    assert {(row.unit, row.qualifier) for row in areas} == {("mm2", "")}


def test_detector_spacing_is_said() -> None:
    """An area in the detector plane is larger than in the patient."""
    detector = dataclasses.replace(RADIOGRAPH, spacing_source="detector")
    assert {row.qualifier for row in measure(outlines(), detector)[1:]} == {"in the detector plane"}


def test_no_spacing_no_area() -> None:
    """The ratio alone needs none."""
    unknown = dataclasses.replace(RADIOGRAPH, spacing_mm=None, spacing_source=None)
    assert [row.name for row in measure(outlines(), unknown)] == ["cardiothoracic_ratio"]


def test_contrast_of_heart_and_lungs() -> None:
    """A bright heart between dark lungs; its negative when inverted; unknown without outlines."""
    masks = outlines()
    pixels = np.full((100, 100), 0.5, dtype=np.float32)
    pixels[masks[0] | masks[1]] = 0.2
    assert heart_contrast(pixels, masks) == pytest.approx(0.3)
    assert heart_contrast(1 - pixels, masks) == pytest.approx(-0.3)
    assert heart_contrast(pixels, np.zeros_like(masks)) is None


def test_islands_are_dropped_and_holes_filled() -> None:
    """The largest part is the organ."""
    logits = np.full((1, 20, 20), -1.0, dtype=np.float32)
    logits[0, 2:12, 2:12] = 1
    logits[0, 5:7, 5:7] = -2
    logits[0, 16:18, 16:18] = 3
    cleaned = largest_parts(logits)[0] > 0
    expected = np.zeros((20, 20), dtype=bool)
    expected[2:12, 2:12] = True
    assert np.array_equal(cleaned, expected)
