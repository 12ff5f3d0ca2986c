"""The gate refuses what must not be triaged, says why, and lets the unknown pass to the image."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from builders import thorax_masks
from cxr_triage.model.prediction import Refusal
from cxr_triage.model.radiograph import Radiograph
from cxr_triage.model.suitability import check_prediction, check_radiograph, implausible_outlines

CHEST = Radiograph(
    pixels_HW=np.eye(8, dtype=np.float32),
    spacing_mm=None,
    spacing_source=None,
    view="PA",
    body_part="CHEST",
    age_years=60,
    patient_orientation=("L", "F"),
    sop_instance_uid="1.2.3",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
)


def reason(**changes: object) -> str | None:
    """Why a changed chest radiograph is refused."""
    refusal = check_radiograph(dataclasses.replace(CHEST, **changes))  # type: ignore[arg-type]
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize("view", ["PA", "AP", "", "AP SUPINE", "PORTABLE", "UNKNOWN", "PA AND SOMETHING"])
def test_frontal_and_unknown_views_pass(view: str) -> None:
    """Unknown is decided by the image."""
    assert reason(view=view) is None


@pytest.mark.parametrize("view", ["LL", "RL", "LATERAL", "LAT", "L LAT", "LEFT LATERAL", "RLAT"])
def test_lateral_views_are_refused(view: str) -> None:
    """A lateral view is not frontal."""
    assert reason(view=view) == "not_frontal"


def test_orientation_decides_where_the_view_is_unknown() -> None:
    """Rows from front to back are a lateral, unless the view says otherwise."""
    assert reason(view="", patient_orientation=("A", "F")) == "not_frontal"
    assert reason(view="", patient_orientation=("PL", "F")) == "not_frontal"
    assert reason(view="PA", patient_orientation=("A", "F")) is None
    assert reason(view="", patient_orientation=("R", "F")) is None


@pytest.mark.parametrize("part", ["", "CHEST", "THORAX", "LUNGS", "PORTABLE CHEST", "T-THORAX", "TÓRAX", "WHOLE BODY"])
def test_chest_and_unknown_parts_pass(part: str) -> None:
    """The chest in several tongues, and what says nothing."""
    assert reason(body_part=part) is None


@pytest.mark.parametrize("part", ["HIP", "HAND", "SKULL", "PELVIS", "ABDOMEN", "JAW", "EXTREMITY", "KNEE"])
def test_other_parts_are_refused(part: str) -> None:
    """A hip is not a chest."""
    assert reason(body_part=part) == "not_chest"


def test_age() -> None:
    """Under 18 is refused where it is known."""
    ages = (0, 0.5, 17, 17.9, 18, 95, None)
    refused = ["paediatric" if age is not None and age < 18 else None for age in ages]

    assert refused == [reason(age_years=age) for age in ages]


def test_animals() -> None:
    """A dog is not a patient of ours."""
    assert reason(species="CANINE") == "not_human"
    assert reason(species="HOMO SAPIENS") is None


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_blank_images(value: float) -> None:
    """Nothing on them, whatever their grey."""
    assert reason(pixels_HW=np.full((8, 9), value, np.float32)) == "blank"


def checked(masks_CHW: NDArray[np.bool_], **features: float | None) -> Refusal | None:
    """Why outlines and features are refused; None where they pass."""
    return check_prediction(masks_CHW, implausible=implausible_outlines(masks_CHW), **features)  # type: ignore[arg-type]


def said(masks_CHW: NDArray[np.bool_], feature_distance: float = 1.9) -> str:
    """What is said of the masks; empty when they pass. The limit is 2."""
    refusal = checked(masks_CHW, feature_distance=feature_distance, distance_limit=2)
    assert refusal is None or refusal.reason == "lungs_implausible"
    return "" if refusal is None else refusal.explanation


def test_plausible_chest_passes() -> None:
    """Also without a heart, which an effusion may hide."""
    masks = thorax_masks(256, 256)
    hidden = masks.copy()
    hidden[2] = False

    assert [said(masks), said(hidden)] == ["", ""]


def test_missing_lungs() -> None:
    """No lungs, one lung, and a speck of a lung."""
    one, speck = thorax_masks(256, 256), thorax_masks(256, 256)
    one[0] = False
    speck[1] = False
    speck[1, 100:103, 60:63] = True

    assert said(np.zeros((3, 64, 64), np.bool_)) == "No lung is seen."
    assert [said(one), said(speck)] == ["Only one lung is seen."] * 2


def _white_lung() -> NDArray[np.bool_]:
    """No left lung."""
    masks = thorax_masks(256, 256)
    masks[0] = False
    return masks


def _dense_bases() -> NDArray[np.bool_]:
    """Only the upper lungs are seen, and the heart lies below them."""
    masks = thorax_masks(256, 256)
    masks[:2, 80:] = False
    return masks


@pytest.mark.parametrize("masks", [_white_lung(), _dense_bases()], ids=["white lung", "dense bases"])
def test_a_lung_that_disease_hides_refuses_nothing_that_is_plainly_a_chest(masks: NDArray[np.bool_]) -> None:
    """The sickest patients are the last to refuse; farther from what the network knows, it may be half a chest."""
    assert said(masks, feature_distance=1.5) == ""
    assert said(masks, feature_distance=1.7) != ""
    assert implausible_outlines(masks) is not None


def test_disease_does_not_move_a_lung() -> None:
    """No lung at all, one that lies across the middle as in a lateral view, two that lie on one side."""
    nothing, middle, aside = np.zeros((3, 256, 256), np.bool_), _white_lung(), thorax_masks(256, 256)
    middle[1] = np.roll(middle[1], 50, axis=1)
    aside[0] = aside[1]
    assert all(said(masks, feature_distance=0.1) for masks in (nothing, middle, aside))


def test_too_large_and_too_flat() -> None:
    """Lungs that fill the image or are a stripe."""
    flat = np.zeros((3, 200, 200), np.bool_)
    flat[0, 90:120, 110:190] = flat[1, 90:120, 10:90] = True

    assert "fills more" in said(np.ones((3, 64, 64), np.bool_))
    assert "flat" in said(flat)


def test_turned_images() -> None:
    """Rotated, upside down and mirrored images are refused."""
    masks = thorax_masks(256, 256)

    assert all(said(np.rot90(masks, turns, (1, 2))) for turns in (1, 2, 3))
    assert "upside down" in said(masks[:, ::-1])
    assert "side by side" in said(masks[:, :, ::-1])


def test_lungs_on_top_of_each_other() -> None:
    """Two outlines of the same thing are no two lungs."""
    masks = thorax_masks(256, 256)
    masks[1] = masks[0]

    assert "on top" in said(masks)


@pytest.mark.parametrize(
    ("part", "side"),
    [
        (np.s_[:, :60], "at its bottom"),
        (np.s_[:, 40:], "at its top"),
        (np.s_[:, :, :64], "on its right"),
        (np.s_[:, :, 16:], "on its left"),
    ],
)
def test_parts_of_a_chest(part: tuple[slice, ...], side: str) -> None:
    """What runs out of the image was cut off, whatever the rest looks like."""
    refusal = checked(thorax_masks(100)[part], feature_distance=1, distance_limit=2)
    assert refusal is not None
    assert refusal.reason == "cropped"
    assert f"run out of the image {side}" in refusal.explanation


def test_unlike_training() -> None:
    """Features beyond the bundle's limit, or no number at all."""
    masks = thorax_masks(256, 256)
    distances = (1.0, 10.0, 10.1, float("nan"))
    refusals = [checked(masks, feature_distance=distance, distance_limit=10) for distance in distances]

    assert [refusal and refusal.reason for refusal in refusals] == [None, None, "unlike_training", "unlike_training"]


def test_lungs_brighter_than_the_heart_are_refused() -> None:
    """Air is dark: else the image is inverted. What is not known passes."""
    refusals = [
        checked(thorax_masks(), feature_distance=1, distance_limit=2, contrast=contrast)
        for contrast in (None, 0.1, -0.1)
    ]
    assert [refusal and refusal.reason for refusal in refusals] == [None, None, "inverted"]


def test_refusals_are_sentences_without_patient_data() -> None:
    """Each refusal can be read by a person."""
    refusals = [
        check_radiograph(dataclasses.replace(CHEST, view="LL")),
        check_radiograph(dataclasses.replace(CHEST, body_part="MUSTER^ERIKA")),
        check_radiograph(dataclasses.replace(CHEST, age_years=3)),
    ]

    assert all(refusal is not None and refusal.explanation.endswith(".") for refusal in refusals)
    assert not any(refusal is not None and "MUSTER" in refusal.explanation for refusal in refusals)
