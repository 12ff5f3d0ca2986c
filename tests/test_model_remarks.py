"""What a reader should know of an image that is triaged all the same."""

import numpy as np
import pytest

from builders import thorax_masks
from cxr_triage.model.remarks import HEART_ON_RIGHT, heart_side, remarks_on
from cxr_triage.model.suitability import HEART, LEFT_LUNG, RIGHT_LUNG


def chest_with_heart(first: int, last: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    """Lungs from column 20 to 120, and a heart over some columns."""
    masks = np.zeros((3, 100, 140), dtype=np.bool_)
    masks[RIGHT_LUNG, 20:80, 20:60] = True
    masks[LEFT_LUNG, 20:80, 80:120] = True
    masks[HEART, 50:80, first:last] = True
    return masks


@pytest.mark.parametrize(("first", "last", "side"), [(60, 100, 0.1), (60, 80, 0.0), (40, 80, -0.1)])
def test_side_is_measured_from_the_middle_of_the_lungs(first: int, last: int, side: float) -> None:
    """In widths of the lungs, towards the patient's left."""
    assert heart_side(chest_with_heart(first, last)) == pytest.approx(side)


def test_heart_on_the_right_is_remarked_on() -> None:
    """Plainly on the right; one in the middle and one on the left are everyday."""
    assert remarks_on(chest_with_heart(40, 80), None) == (HEART_ON_RIGHT,)
    assert remarks_on(chest_with_heart(59, 79), None) == ()
    assert remarks_on(thorax_masks(256, 256), None) == ()


def test_nothing_is_said_of_sides_without_outlines() -> None:
    """No heart, no lungs."""
    masks = chest_with_heart(40, 80)
    for missing in ([HEART], [LEFT_LUNG, RIGHT_LUNG]):
        without = masks.copy()
        without[missing] = False
        assert heart_side(without) is None
        assert remarks_on(without, None) == ()


def test_why_nothing_was_measured_is_said() -> None:
    """In place of all else: outlines that are none have no side."""
    [remark] = remarks_on(chest_with_heart(40, 80), "Only one lung is seen.")
    assert (remark.word, remark.sentence) == ("not_measured", "Nothing was measured: Only one lung is seen.")
