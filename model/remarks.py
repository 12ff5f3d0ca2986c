"""What a reader should know of an image that is triaged all the same. Remarks change no priority and refuse nothing."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.prediction import Remark
from cxr_triage.model.suitability import HEART, LEFT_LUNG, RIGHT_LUNG, box_of

#: How far the heart's centre may lie on the patient's right of the lungs' middle, through the lungs' width: of 310
#: radiographs of adults 1 has it farther over, of the same mirrored 258.
TO_THE_RIGHT: Final = 0.02

#: Anatomy alone never turns an image round: dextrocardia exists.
HEART_ON_RIGHT: Final = Remark(
    word="heart_on_right",
    sentence="The heart lies on the patient's right: dextrocardia, a shifted mediastinum, or a mirrored image; left "
    "and right are told as its header has them.",
)


def remarks_on(masks_CHW: NDArray[np.bool_], implausible: str | None) -> tuple[Remark, ...]:
    """What is remarkable about an image's outlines.

    Args:
        masks_CHW: bool, (3, H, W), in the order of STRUCTURES, any resolution; the patient's left is on the right.
        implausible: what `implausible_outlines` says of them.
    """
    if implausible is not None:
        return (Remark(word="not_measured", sentence=f"Nothing was measured: {implausible}"),)
    side = heart_side(masks_CHW)
    return (HEART_ON_RIGHT,) if side is not None and side < -TO_THE_RIGHT else ()


def heart_side(masks_CHW: NDArray[np.bool_]) -> float | None:
    """How far the heart's centre lies on the patient's left of the lungs' middle, through the lungs' width.

    Args:
        masks_CHW: as `remarks_on`.

    Returns:
        Negative on the right; None without outlines.
    """
    lungs, heart = masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG], masks_CHW[HEART]
    if not lungs.any() or not heart.any():
        return None
    box = box_of(lungs)
    return (box_of(heart).column - (box.left + box.right) / 2) / box.width
