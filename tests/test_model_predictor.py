"""The bundled network on the demo's real radiographs: outlines where the organs are, and the gate in front."""

import copy
import dataclasses
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cxr_triage.model.bundle import Whereabouts
from cxr_triage.model.findings import LOCATIONS, Zone
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.predictor import Predictor
from cxr_triage.model.radiograph import Radiograph, read_radiograph
from cxr_triage.model.remarks import HEART_ON_RIGHT
from cxr_triage.model.suitability import implausible_outlines
from cxr_triage.training.evaluation.others import others
from cxr_triage.training.metrics import dice
from golden import GOLDEN_TOLERANCE, summary_of

RADIOGRAPHS = Path(str(files("cxr_triage.daemon.demo").joinpath("radiographs")))
CHESTS = [
    path for path in sorted(RADIOGRAPHS.glob("*.dcm")) if "not-a-chest" not in path.name and "broken" not in path.name
]
OTHERS = others()
#: Names of the demo's patients whose published labels are abnormal.
ABNORMAL = {"dogwood", "fir", "hazel", "larch"}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The bundled network."""
    return Predictor.load(None, "cpu")


@pytest.fixture(scope="module")
def chest() -> Radiograph:
    """One of the demo's radiographs."""
    return read_radiograph(CHESTS[0])


@pytest.fixture(scope="module")
def prediction(predictor: Predictor, chest: Radiograph) -> Prediction:
    """What the network says of it."""
    return predictor.predict(chest)


@pytest.mark.parametrize("path", CHESTS, ids=lambda path: path.stem)
def test_frontal_chests_pass_the_gate(predictor: Predictor, path: Path) -> None:
    """Adult PA and AP radiographs are what it is for."""
    assert predictor.predict(read_radiograph(path)).refusal is None


def test_other_images_are_refused(predictor: Predictor) -> None:
    """By what is on the image: this one's header names no body part."""
    image = read_radiograph(next(RADIOGRAPHS.glob("*not-a-chest*")))
    refusal = predictor.predict(image).refusal
    assert refusal is not None
    assert refusal.reason in {"lungs_implausible", "unlike_training"}


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_images_of_no_chest_are_refused(predictor: Predictor, name: str, *, inverted: bool) -> None:
    """Slices, a bone scan, ultrasound and photographs whose headers say nothing."""
    image = OTHERS[name]
    if inverted:
        image = dataclasses.replace(image, pixels_HW=1 - image.pixels_HW)
    assert predictor.predict(image).refusal is not None


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (np.flipud, "rotated", "upside down"),
        (lambda pixels: np.rot90(pixels, 2), "rotated", "upside down"),
        (lambda pixels: np.rot90(pixels, -1), "rotated", "turned clockwise by 90"),
        (np.rot90, "rotated", "turned counter-clockwise by 90"),
        (lambda pixels: 1 - pixels, "inverted", "Photometric Interpretation"),
        (lambda pixels: pixels[: pixels.shape[0] // 2], "cropped", "at its bottom"),
        (lambda pixels: pixels[int(pixels.shape[0] * 0.35) :], "cropped", "at its top"),
    ],
)
def test_spoiled_radiographs_are_refused(
    predictor: Predictor,
    chest: Radiograph,
    spoil: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    reason: str,
    words: str,
) -> None:
    """Upside down, on its side, inverted, cut off: and the refusal says which."""
    pixels = np.ascontiguousarray(spoil(chest.pixels_HW))
    refusal = predictor.predict(dataclasses.replace(chest, pixels_HW=pixels)).refusal
    assert refusal is not None
    assert refusal.reason == reason
    assert words in refusal.explanation


def test_what_only_seems_a_chest_is_turned_to_see(predictor: Predictor, chest: Radiograph) -> None:
    """Upside down some lie within the limit, which is moved here: upright they lie far nearer, and so are refused."""
    upside_down = dataclasses.replace(chest, pixels_HW=np.ascontiguousarray(np.flipud(chest.pixels_HW)))
    distance = predictor.predict(upside_down).feature_distance
    card = dataclasses.replace(predictor.card, feature_distance_limit=distance * 1.1)
    lenient = copy.copy(predictor)
    lenient.card = card
    refusal = lenient.predict(upside_down).refusal
    assert refusal is not None
    assert refusal.reason == "rotated"
    assert lenient.predict(chest).refusal is None
    nearly = dataclasses.replace(card, feature_distance_limit=predictor.predict(chest).feature_distance * 1.1)
    lenient.card = nearly
    assert lenient.predict(chest).refusal is None


def test_a_childlike_image_is_refused_only_where_no_age_is_known(
    predictor: Predictor, chest: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An age in the header is believed; the bundle's own test lets this adult pass."""
    unknown = dataclasses.replace(chest, age_years=None)
    gate = predictor._gate  # noqa: SLF001 - no child may be among the demo's radiographs
    assert gate.minor is not None
    assert predictor.predict(unknown).refusal is None
    everybody = dataclasses.replace(gate.minor, limit=torch.tensor(-torch.inf))
    monkeypatch.setattr(predictor, "_gate", gate._replace(minor=everybody))
    refusal = predictor.predict(unknown).refusal
    assert refusal is not None
    assert (refusal.reason, "no age is known" in refusal.explanation) == ("paediatric", True)
    assert predictor.predict(dataclasses.replace(chest, age_years=40)).refusal is None


def test_outlines_lie_in_the_stored_pixel_matrix(prediction: Prediction, chest: Radiograph) -> None:
    """The patient's left lung on the image's right, the heart between and below."""
    assert prediction.masks_CHW.shape == (3, *chest.pixels_HW.shape)
    columns = [float(np.nonzero(mask)[1].mean()) for mask in prediction.masks_CHW]
    rows = [float(np.nonzero(mask)[0].mean()) for mask in prediction.masks_CHW]
    assert columns[1] < columns[2] < columns[0]
    assert rows[2] > max(rows[:2])


def test_prediction_says_everything(prediction: Prediction) -> None:
    """14 findings, 9 locations, a ratio, a map per finding."""
    assert len(prediction.findings) == len(prediction.saliency_LHW) == 14
    assert all(0 < finding.probability < 1 for finding in prediction.findings)
    assert tuple(prediction.locations) == LOCATIONS
    ratio = next(row for row in prediction.measurements if row.name == "cardiothoracic_ratio")
    assert 0.3 < ratio.value < 0.8


def test_what_the_card_vouches_for_is_told(predictor: Predictor, chest: Radiograph) -> None:
    """Of present findings, and with the side that lies where it says; a card without a word tells nothing."""
    vouched = Whereabouts(side=True, third=True, outline_at=0.5)
    labels = tuple(
        dataclasses.replace(label, whereabouts=vouched if label.name == "Effusion" else Whereabouts())
        for label in predictor.card.labels
    )
    certain = tuple(
        dataclasses.replace(
            label, operating_points=tuple(dataclasses.replace(p, threshold=0.0) for p in label.operating_points)
        )
        for label in labels
    )
    telling = Predictor(
        dataclasses.replace(predictor.card, labels=certain),
        predictor._network,  # noqa: SLF001 - the same weights under another card
        predictor._gate,  # noqa: SLF001
        torch.device("cpu"),
        predictor.card.sensitivity,
    )
    said = telling.predict(chest)
    zones = {found.label: found.zone for found in said.findings if found.zone is not None}
    assert set(zones) == {"Effusion", "Cardiomegaly"}
    region = said.regions["Effusion"]
    assert region.shape == chest.pixels_HW.shape
    lungs = said.masks_CHW[:2]
    assert not (region & ~lungs.any(axis=0)).any()
    assert region.any()
    assert zones["Cardiomegaly"] == Zone("heart")
    assert zones["Effusion"].site in ("left_lung", "right_lung")


def test_nothing_is_measured_on_outlines_that_no_chest_has(predictor: Predictor, chest: Radiograph) -> None:
    """A white left lung: it is read, but half a thorax has no cardiothoracic ratio and no area of its lungs."""
    white = chest.pixels_HW.copy()
    half = white.shape[1] // 2
    white[:, half:] = np.quantile(white, 0.9)
    prediction = predictor.predict(dataclasses.replace(chest, pixels_HW=white, spacing_mm=(0.2, 0.2)))
    assert prediction.masks_CHW[1].any()
    assert implausible_outlines(prediction.masks_CHW) is not None
    assert prediction.measurements == ()
    assert [remark.word for remark in prediction.remarks] == ["not_measured"]
    assert len(prediction.findings) == 14


def test_a_heart_on_the_right_is_remarked_on_and_not_turned(
    predictor: Predictor, chest: Radiograph, prediction: Prediction
) -> None:
    """An image that is mirrored without a word in its header: it may be dextrocardia."""
    mirrored = dataclasses.replace(chest, pixels_HW=np.ascontiguousarray(chest.pixels_HW[:, ::-1]))
    flagged = predictor.predict(mirrored)
    assert prediction.remarks == ()
    assert flagged.remarks == (HEART_ON_RIGHT,)
    assert flagged.refusal is None


def test_same_image_same_prediction(predictor: Predictor, chest: Radiograph, prediction: Prediction) -> None:
    """Nothing random is left in it."""
    again = predictor.predict(chest)
    assert again.findings == prediction.findings
    assert np.array_equal(again.masks_CHW, prediction.masks_CHW)


def test_mirrored_image_is_turned_for_the_network_and_back(
    predictor: Predictor, chest: Radiograph, prediction: Prediction
) -> None:
    """Patient Orientation says so: same findings, mirrored outlines."""
    mirrored = dataclasses.replace(
        chest, pixels_HW=np.ascontiguousarray(chest.pixels_HW[:, ::-1]), patient_orientation=("R", "F")
    )
    turned = predictor.predict(mirrored)
    assert turned.findings == prediction.findings
    assert np.array_equal(turned.masks_CHW, prediction.masks_CHW[:, :, ::-1])


@pytest.mark.parametrize("aspect", [1.6, 1 / 1.6])
def test_pixels_that_are_not_square_are_seen_as_they_look(
    predictor: Predictor, chest: Radiograph, prediction: Prediction, aspect: float
) -> None:
    """An image that was stored with fewer rows, or columns, gets the same outlines, in its own pixel matrix."""
    rows, columns = chest.pixels_HW.shape
    shape = (round(rows / aspect), columns) if aspect > 1 else (rows, round(columns * aspect))
    squeezed = dataclasses.replace(chest, pixels_HW=resized(chest.pixels_HW, shape), pixel_aspect=aspect)
    seen = predictor.predict(squeezed)
    assert seen.masks_CHW.shape == (3, *shape)
    assert seen.refusal is None
    for mask, expected in zip(seen.masks_CHW, prediction.masks_CHW, strict=True):
        assert dice(mask, resized(expected.astype(np.float32), shape) > 0.5) > 0.97
    assert seen.saliency_frame[2] == pytest.approx(prediction.saliency_frame[2] * shape[0] / rows, rel=0.01)
    assert seen.saliency_frame[3] == pytest.approx(prediction.saliency_frame[3] * shape[1] / columns, rel=0.01)


def resized(image_HW: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """An image with other numbers of rows and columns."""
    size = (shape[1], shape[0])
    return np.array(Image.fromarray(image_HW).resize(size, Image.Resampling.BOX), dtype=np.float32)


def test_golden_prediction(predictor: Predictor, prediction: Prediction) -> None:
    """The bundled weights say of one radiograph what they have always said: neither code nor libraries change it."""
    golden = json.loads((Path(__file__).parent / "golden_prediction.json").read_text())
    assert golden["bundle"] == predictor.identity.sha256, "a new bundle: run tests/golden.py"
    assert summary_of(prediction) == {
        name: pytest.approx(value, abs=GOLDEN_TOLERANCE) for name, value in golden["prediction"].items()
    }


def test_abnormal_demo_images_score_higher(predictor: Predictor) -> None:
    """The four with strong labels lie above the median of all."""
    scores = {path.stem: predictor.predict(read_radiograph(path)).abnormal_probability for path in CHESTS}
    abnormal = [score for name, score in scores.items() if name.split("-")[1] in ABNORMAL]
    assert np.mean(abnormal) > np.median(list(scores.values()))
