"""The bundled weights: whole, named, and telling what they should of real radiographs."""

import json
import shutil
from pathlib import Path

import pytest

from cxr_triage.model.bundle import BUNDLED, CARD_NAME, WEIGHTS_NAME, read_card, verify, write_card
from cxr_triage.model.errors import BundleError, ConfigurationError
from cxr_triage.model.findings import ABNORMALITY_BY_NAME
from cxr_triage.model.predictor import Predictor

#: The package, weights and card, stays small enough to be shipped with every release.
LARGEST_BUNDLE_BYTES = 40_000_000


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the bundle, to be spoiled."""
    return Path(shutil.copytree(BUNDLED, tmp_path / "bundle"))


def test_bundled_weights_are_those_of_the_card() -> None:
    """And small enough to ship."""
    card = verify(None)
    assert {row.name for row in card.labels} == set(ABNORMALITY_BY_NAME)
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) <= LARGEST_BUNDLE_BYTES


def test_card_carries_measured_figures() -> None:
    """On patients that training did not see, at least what the first bundle was asked for."""
    figures = read_card(None).figures
    assert figures["split"] == "test"
    assert figures["seen_in_training"] == 0
    assert figures["segmentation"]["lungs"]["dice"]["mean"] >= 0.96
    assert figures["segmentation"]["heart"]["dice"]["mean"] >= 0.92
    assert figures["classification"]["abnormal_auc"] >= 0.75


def test_splits_share_no_patient() -> None:
    """A patient is in one split."""
    patients = read_card(None).patients
    keys = [key for split in patients.values() for key in split]
    assert len(keys) == len(set(keys))


def test_card_survives_writing(copied: Path) -> None:
    """What is written is what is read."""
    card = read_card(copied)
    write_card(card, copied)
    assert read_card(copied) == card


def test_damaged_weights_are_refused(copied: Path) -> None:
    """One byte is enough."""
    weights = bytearray((copied / WEIGHTS_NAME).read_bytes())
    weights[-1] ^= 1
    (copied / WEIGHTS_NAME).write_bytes(weights)
    with pytest.raises(BundleError, match="is damaged: its SHA-256 is"):
        Predictor.load(copied)


def test_missing_bundle_says_what_to_set(tmp_path: Path) -> None:
    """A folder that is not one."""
    with pytest.raises(BundleError, match=r"set \[model\] bundle"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "format"),
        ("locations", ["left"], "locations"),
        ("outputs", ["Mass"], "do not fit together"),
        ("sensitivity", 0.55, "no operating point of its sensitivity"),
        ("surprise", 1, "surprise"),
    ],
)
def test_card_of_another_layout_is_refused(copied: Path, key: str, value: object, message: str) -> None:
    """Never read as something that it is not."""
    path = copied / CARD_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(BundleError, match=message):
        read_card(copied)


def test_card_that_is_not_json_is_refused(copied: Path) -> None:
    """Cut off in the middle."""
    path = copied / CARD_NAME
    path.write_text(path.read_text()[:100])
    with pytest.raises(BundleError, match="is not JSON"):
        read_card(copied)


def test_operating_points_trade_sensitivity_for_specificity() -> None:
    """A site may choose another one; each label has the same choice."""
    card = read_card(None)
    for label in card.labels:
        points = label.operating_points
        assert [point.sensitivity for point in points] == sorted({point.sensitivity for point in points})
        assert [point.specificity for point in points] == sorted((point.specificity for point in points), reverse=True)
        assert [point.threshold for point in points] == sorted((point.threshold for point in points), reverse=True)
        assert card.require(None) == card.sensitivity


def test_a_sensitivity_without_operating_point_is_refused() -> None:
    """The message names those that there are."""
    with pytest.raises(ConfigurationError, match=r"model\.sensitivity = 0\.55: .* 0\.3, 0\.4, 0\.5"):
        Predictor.load(None, "cpu", 0.55)


def test_only_labels_that_are_surely_better_than_chance_are_for_triage() -> None:
    """The lower bound of the area under the curve decides."""
    card = read_card(None)
    for label in card.labels:
        assert label.for_triage == (label.auc is not None and label.auc[1] >= 0.6)
        assert (label.name in card.not_for_triage) != label.for_triage


def test_unknown_device_is_refused() -> None:
    """Before anything is loaded onto it."""
    with pytest.raises(ConfigurationError, match="use auto, cpu or cuda"):
        Predictor.load(None, "abacus")
