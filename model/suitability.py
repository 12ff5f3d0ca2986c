"""The gate: what must not be triaged, first by header and pixels, then by what the network saw. Each refusal says why.

Unknown is not a reason: an empty tag is decided by the image.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cxr_triage.model.findings import STRUCTURES
from cxr_triage.model.prediction import Refusal
from cxr_triage.model.radiograph import Radiograph

#: Below it nothing was trained to be right.
MIN_AGE_YEARS: Final = 18

#: View Position (0018,5101), defined terms of PS3.3 C.8.11.5 and what other sites write, that are not frontal.
LATERAL_VIEW: Final = re.compile(r"LL|RL|LLO|RLO|ML|LM|MLO|LMO|((L|R|LEFT|RIGHT)[\s_-]*)?LAT(ERAL)?")
#: Patient Orientation (0020,0020) of a lateral: the rows run from back to front or from front to back.
SAGITTAL: Final = ("A", "P")
#: Words in Body Part Examined (PS3.16 Annex L) or its free-text kin that mean the chest.
CHEST_WORDS: Final = (
    *("CHEST", "THORA", "TORAX", "TÓRAX", "TORAKS", "LUNG", "PULM", "POUMON", "PULMÃO", "HEART", "CARDI", "MEDIASTIN"),
    *("BRUSTKORB", "TORACE", "CXR", "胸", "肺", "흉", "ГРУДН"),
)
#: What stands for "not said": values that some devices fill in by default.
NOT_SAID: Final = ("", "UNKNOWN", "UNDEFINED", "OTHER", "NONE", "N/A", "NA", "GENERAL", "BODY", "WHOLEBODY", "DEFAULT")
HUMAN_WORDS: Final = ("HOMO SAPIENS", "HUMAN", "PERSON")

#: What is said of an image that looks like a child's where no age is known.
MINOR_BY_IMAGE: Final = Refusal(
    reason="paediatric",
    explanation="The image looks like that of a child, and no age is known: the network was made for adults. An age of "
    f"{MIN_AGE_YEARS} years or more in the header is believed.",
)

LEFT_LUNG, RIGHT_LUNG, HEART = (
    [structure.name for structure in STRUCTURES].index(name) for name in ("left_lung", "right_lung", "heart")
)


def check_radiograph(radiograph: Radiograph) -> Refusal | None:
    """Why the header, or pixels without a picture, forbid triage before a network is asked; None where they do not."""
    return (
        _not_human(radiograph)
        or _not_chest(radiograph)
        or _not_frontal(radiograph)
        or _paediatric(radiograph)
        or _blank(radiograph)
    )


def _not_human(radiograph: Radiograph) -> Refusal | None:
    if not radiograph.species or any(word in radiograph.species for word in HUMAN_WORDS):
        return None
    return Refusal(reason="not_human", explanation="The image is of an animal, as its header says.")


def _not_chest(radiograph: Radiograph) -> Refusal | None:
    part = radiograph.body_part.upper().strip()
    if part.replace(" ", "") in NOT_SAID or any(word in part for word in CHEST_WORDS):
        return None
    return Refusal(reason="not_chest", explanation="The header names another body part than the chest.")


def _not_frontal(radiograph: Radiograph) -> Refusal | None:
    view = radiograph.view.upper().strip()
    orientation = radiograph.patient_orientation
    sagittal = not view and orientation is not None and orientation[0].startswith(SAGITTAL)
    if not LATERAL_VIEW.fullmatch(view) and not sagittal:
        return None
    return Refusal(reason="not_frontal", explanation="The header says that this is a lateral view.")


def _paediatric(radiograph: Radiograph) -> Refusal | None:
    if radiograph.age_years is None or radiograph.age_years >= MIN_AGE_YEARS:
        return None
    return Refusal(
        reason="paediatric", explanation=f"The patient is under {MIN_AGE_YEARS}: the network was made for adults."
    )


def _blank(radiograph: Radiograph) -> Refusal | None:
    if radiograph.pixels_HW.min() < radiograph.pixels_HW.max():  # false where one of them is not a number, too
        return None
    return Refusal(
        reason="blank",
        explanation="The image is blank as its header has it shown: every pixel has the same grey. If they differ in "
        "the file, the window or the lookup table is wrong.",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskLimits:
    """What the outlines of an upright chest may look like. Shares are of the image's area, width or height."""

    #: Each lung's area.
    lung_area: tuple[float, float] = (0.02, 0.45)
    #: Both lungs together.
    lungs_area: tuple[float, float] = (0.06, 0.75)
    #: Heart's area; 0 is allowed, for an effusion may hide it.
    heart_area: tuple[float, float] = (0.0, 0.35)
    #: Larger lung's area through the smaller's: beyond it one side is missing or white.
    lung_asymmetry: float = 6.0
    #: Width of both lungs' bounding box, and its height.
    lungs_width: tuple[float, float] = (0.30, 1.0)
    lungs_height: tuple[float, float] = (0.20, 1.0)
    #: Least distance of the lungs' centres along the row, through the box's width.
    lungs_apart: float = 0.20
    #: Largest distance of the lungs' centres along the column, through the box's height: beyond it the image lies on
    #: its side.
    lungs_level: float = 0.50
    #: Largest share of the smaller lung that also counts as the other lung.
    lungs_overlap: float = 0.20
    #: How far the heart's centre may lie beside or below the lungs' box, through its size.
    heart_outside: float = 0.15
    #: How far the heart's centre may lie above the middle of the lungs' box, through its height.
    heart_above: float = 0.05
    #: Largest share of each side of the image that the lungs may run into. Hospitals cut an apex or a costophrenic
    #: angle now and then; of a chest that is cut through, more touches the border.
    lungs_at_top: float = 0.30
    lungs_at_bottom: float = 0.15
    lungs_at_side: float = 0.20
    #: How thick that side is taken, through the image's height or width.
    border: float = 0.01


LIMITS: Final = MaskLimits()
#: Up to this share of the bundle's limit an image is plainly a frontal chest, whatever its outlines: of radiographs
#: that were turned, inverted or cut none lies below 0.9 but for some without their lower third, which run out of the
#: image; of those with a lung that fluid or collapse hides, none above.
PLAINLY_CHEST: Final = 0.8
#: Beyond this share of the limit the gate also looks whether the image, turned or inverted, is far more like a chest:
#: of 310 test radiographs 3 lie there as they are, and upside down all of them.
SUSPICIOUS: Final = 0.7
#: How much nearer it then has to lie: of radiographs that stand upright, turned ones lie at one and a half times the
#: distance at least.
CLOSER: Final = 0.75
#: How far a lung may reach past the middle of the image, through its width: that of a lateral view lies across it.
PAST_MIDDLE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Box:
    """Bounding box and centre of mass of a mask, in shares of the image."""

    top: float
    bottom: float
    left: float
    right: float
    row: float
    column: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top


def check_prediction(
    masks_CHW: NDArray[np.bool_],
    *,
    implausible: str | None,
    feature_distance: float,
    distance_limit: float,
    contrast: float | None = None,
) -> Refusal | None:
    """Why what the network saw forbids triage; None where it does not.

    Args:
        masks_CHW: bool, (3, H, W), in the order of STRUCTURES, any resolution; the patient's left is on the right.
        implausible: what `implausible_outlines` says of them.
        feature_distance: squared Mahalanobis distance of the image's features from the training set's.
        distance_limit: the bundle's limit for it.
        contrast: how much brighter the heart is than the lungs; None = not known.
    """
    plainly = feature_distance <= PLAINLY_CHEST * distance_limit
    if implausible is not None and not (plainly and _may_be_hidden(masks_CHW)):
        return Refusal(reason="lungs_implausible", explanation=implausible)
    cut = _cut_off(masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG])
    if cut is not None:
        return Refusal(
            reason="cropped", explanation=f"The lungs run out of the image {cut}: it shows a part of a chest."
        )
    if contrast is not None and contrast <= 0:
        return Refusal(reason="inverted", explanation="The lungs are brighter than the heart: the image is inverted.")
    if not feature_distance <= distance_limit:  # also where it is not a number
        return Refusal(
            reason="unlike_training",
            explanation=f"The image is unlike those that the network learned from "
            f"(distance {feature_distance:.1f}, limit {distance_limit:.1f}).",
        )
    return None


def implausible_outlines(masks_CHW: NDArray[np.bool_]) -> str | None:
    """What no healthy upright chest's outlines look like, in one sentence: nothing can be measured on them.

    Args:
        masks_CHW: as `check_prediction`.
    """
    return _areas(masks_CHW) or _arrangement(masks_CHW)


def _may_be_hidden(masks_CHW: NDArray[np.bool_]) -> bool:
    """Whether disease may be why outlines are implausible: it can hide a lung or its parts, and the heart's border.

    The sickest patients' radiographs are the last to refuse. What is seen of a lung still lies on its own side.
    """
    left, right = masks_CHW[LEFT_LUNG], masks_CHW[RIGHT_LUNG]
    left_seen, right_seen = (bool(lung.mean() >= LIMITS.lung_area[0]) for lung in (left, right))
    left_astray = left_seen and box_of(left).left < 0.5 - PAST_MIDDLE
    right_astray = right_seen and box_of(right).right > 0.5 + PAST_MIDDLE
    return (left_seen or right_seen) and not left_astray and not right_astray


def _cut_off(lungs_HW: NDArray[np.bool_]) -> str | None:
    """Where the image ends within the lungs; None = nowhere."""
    rows, columns = (max(round(LIMITS.border * length), 1) for length in lungs_HW.shape)
    borders = {
        "at its top": (lungs_HW[:rows].any(axis=0), LIMITS.lungs_at_top),
        "at its bottom": (lungs_HW[-rows:].any(axis=0), LIMITS.lungs_at_bottom),
        "on its left": (lungs_HW[:, :columns].any(axis=1), LIMITS.lungs_at_side),
        "on its right": (lungs_HW[:, -columns:].any(axis=1), LIMITS.lungs_at_side),
    }
    return next((side for side, (lungs, limit) in borders.items() if lungs.mean() > limit), None)


def _areas(masks_CHW: NDArray[np.bool_]) -> str | None:
    """What is wrong with the outlines' sizes, in one sentence; None = they may be an upright chest's."""
    left, right, heart = (float(masks_CHW[index].mean()) for index in (LEFT_LUNG, RIGHT_LUNG, HEART))
    if min(left, right) < LIMITS.lung_area[0]:
        side = "No lung is" if max(left, right) < LIMITS.lung_area[0] else "Only one lung is"
        return f"{side} seen."
    if max(left, right) > LIMITS.lung_area[1]:
        return "A lung fills more of the image than a lung can."
    both = float((masks_CHW[LEFT_LUNG] | masks_CHW[RIGHT_LUNG]).mean())
    if not LIMITS.lungs_area[0] <= both <= LIMITS.lungs_area[1]:
        return "The lungs are too small or too large for the image."
    if max(left, right) > LIMITS.lung_asymmetry * min(left, right):
        return "One lung is far larger than the other."
    if not LIMITS.heart_area[0] <= heart <= LIMITS.heart_area[1]:
        return "The heart is too large for the image."
    return None


def _arrangement(masks_CHW: NDArray[np.bool_]) -> str | None:
    """The same of their places."""
    left, right = masks_CHW[LEFT_LUNG], masks_CHW[RIGHT_LUNG]
    if (left & right).sum() > LIMITS.lungs_overlap * min(left.sum(), right.sum()):
        return "The two lungs lie on top of each other."
    lungs, left_box, right_box = box_of(left | right), box_of(left), box_of(right)
    if not _within(lungs.width, LIMITS.lungs_width) or not _within(lungs.height, LIMITS.lungs_height):
        return "The lungs' outline is too narrow or too flat."
    if left_box.column - right_box.column < LIMITS.lungs_apart * lungs.width:
        return "The lungs do not lie side by side, the patient's left where it belongs."
    if abs(left_box.row - right_box.row) > LIMITS.lungs_level * lungs.height:
        return "The lungs do not lie level: the image may be rotated."
    return _heart_place(masks_CHW[HEART], lungs)


def _heart_place(heart: NDArray[np.bool_], lungs: Box) -> str | None:
    if not heart.any():
        return None
    box = box_of(heart)
    slack_x, slack_y = LIMITS.heart_outside * lungs.width, LIMITS.heart_outside * lungs.height
    beside = not lungs.left - slack_x <= box.column <= lungs.right + slack_x
    highest = (lungs.top + lungs.bottom) / 2 - LIMITS.heart_above * lungs.height
    if beside or not highest <= box.row <= lungs.bottom + slack_y:
        return "The heart does not lie between the lower lungs: the image may be upside down or rotated."
    return None


def box_of(mask: NDArray[np.bool_]) -> Box:
    """The box of a mask that is not empty."""
    height, width = mask.shape
    rows, columns = mask.sum(axis=1, dtype=np.float64), mask.sum(axis=0, dtype=np.float64)
    (filled_rows,), (filled_columns,) = np.nonzero(rows), np.nonzero(columns)
    total = rows.sum()
    return Box(
        top=filled_rows[0] / height,
        bottom=(filled_rows[-1] + 1) / height,
        left=filled_columns[0] / width,
        right=(filled_columns[-1] + 1) / width,
        row=float(rows @ (np.arange(height) + 0.5)) / total / height,
        column=float(columns @ (np.arange(width) + 0.5)) / total / width,
    )


def _within(share: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= share <= limits[1]
