"""Where a finding lies: worked out by hand on maps of a few cells."""

import dataclasses

import numpy as np
import pytest

from builders import finding, prediction
from cxr_triage.model.bundle import Whereabouts
from cxr_triage.model.findings import ABNORMALITIES, Zone
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.whereabouts import located, zone_of_peak, zone_of_point

NOTHING = dict.fromkeys((abnormality.name for abnormality in ABNORMALITIES), Whereabouts())
EVERYTHING = Whereabouts(side=True, third=True, outline_at=0.5)


def seen(label: str = "Pneumonia", *, cell: tuple[int, int] = (6, 6), probability: float = 0.9) -> Prediction:
    """Give one finding on an image of 80 x 80, its map hot in one cell of 8 x 8; the patient's left on the right."""
    saliency = np.zeros((1, 8, 8), dtype=np.uint8)
    saliency[(0, *cell)] = 255
    masks = np.zeros((3, 80, 80), dtype=bool)
    masks[0, 10:70, 45:70] = masks[1, 10:70, 10:35] = masks[2, 45:65, 35:60] = True
    return prediction(
        findings=(finding(label, probability, 0.5),),
        saliency_LHW=saliency,
        saliency_frame=(0.0, 0.0, 80.0, 80.0),
        masks_CHW=masks,
    )


@pytest.mark.parametrize(
    ("vouched", "zone"),
    [
        (EVERYTHING, Zone("left_lung", "lower")),
        (Whereabouts(side=True), Zone("left_lung")),
        (Whereabouts(third=True), Zone("lungs", "lower")),
        (Whereabouts(outline_at=0.5), None),
        (Whereabouts(), None),
    ],
)
def test_no_more_is_told_than_the_card_vouches_for(vouched: Whereabouts, zone: Zone | None) -> None:
    """A side without a third, a third without a side, or neither."""
    said = located(seen(), NOTHING | {"Pneumonia": vouched})
    assert said.findings[0].zone == zone
    assert set(said.regions) == ({"Pneumonia"} if vouched.outline_at else set())


def test_the_region_lies_where_the_map_is_hot_and_in_the_lungs() -> None:
    """Cell (6, 6) is rows 60 to 70, columns 60 to 70; the lungs end at row 70."""
    region = located(seen(), NOTHING | {"Pneumonia": EVERYTHING}).regions["Pneumonia"]
    rows, columns = np.nonzero(region)
    assert region.shape == (80, 80)
    assert (60 <= rows.mean() < 70, 60 <= columns.mean() < 70) == (True, True)
    assert not region[70:].any()


def test_an_absent_finding_lies_nowhere() -> None:
    """Whatever its map says."""
    said = located(seen(probability=0.4), NOTHING | {"Pneumonia": EVERYTHING})
    assert (said.findings[0].zone, said.regions) == (None, {})


def test_a_large_heart_lies_in_the_heart() -> None:
    """By its name, whatever the card says."""
    assert located(seen("Cardiomegaly"), NOTHING).findings[0].zone == Zone("heart")
    outlined = located(seen("Cardiomegaly", cell=(0, 7)), NOTHING | {"Cardiomegaly": EVERYTHING})
    assert outlined.findings[0].zone == Zone("heart")
    # Not of the lungs: its map counts outside of them.
    assert outlined.regions["Cardiomegaly"][5, 75]


def test_what_lies_beside_lungs_and_heart_has_no_zone() -> None:
    """A hiatal hernia is in neither."""
    assert located(seen("Hernia"), NOTHING | {"Hernia": EVERYTHING}).findings[0].zone is None


def test_a_map_that_is_zero_in_the_lungs_tells_nothing() -> None:
    """The only hot cell is far below them."""
    said = seen(cell=(7, 4))
    said.masks_CHW[:, 50:] = False
    said = located(said, NOTHING | {"Pneumonia": EVERYTHING})
    assert (said.findings[0].zone, said.regions) == (None, {})


@pytest.mark.parametrize(
    ("row", "column", "zone"),
    [
        (11, 46, Zone("left_lung", "upper")),
        (29, 12, Zone("right_lung", "upper")),
        (31, 12, Zone("right_lung", "middle")),
        (69, 34, Zone("right_lung", "lower")),
        (0, 41, Zone("left_lung", "upper")),
        (79, 39, Zone("right_lung", "lower")),
    ],
)
def test_zone_of_a_point(row: int, column: int, zone: Zone) -> None:
    """The lungs are rows 10 to 70; a point between or beside them belongs to the nearer one."""
    assert zone_of_point(row, column, seen().masks_CHW) == zone


def test_left_is_the_patients_in_a_mirrored_image() -> None:
    """Outlines know which lung is which, wherever they lie."""
    plain = seen()
    mirrored = dataclasses.replace(
        plain, saliency_LHW=plain.saliency_LHW[:, :, ::-1].copy(), masks_CHW=plain.masks_CHW[:, :, ::-1].copy()
    )
    told = [located(said, NOTHING | {"Pneumonia": EVERYTHING}) for said in (plain, mirrored)]
    assert [said.findings[0].zone for said in told] == [Zone("left_lung", "lower")] * 2
    assert np.array_equal(told[0].regions["Pneumonia"], told[1].regions["Pneumonia"][:, ::-1])


def test_without_a_lung_there_is_no_zone() -> None:
    """One outline is no pair."""
    masks = seen().masks_CHW.copy()
    masks[0] = False
    assert zone_of_peak(np.ones(masks.shape[1:], dtype=np.float32), masks) is None
