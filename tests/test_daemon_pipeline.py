"""One instance from bytes to prediction, without processes, ports or a database."""

from pathlib import Path

import numpy as np
import pytest

import builders
from builders import radiograph_file
from cxr_triage.daemon.pipeline import index_file, score_file
from cxr_triage.model.prediction import Prediction, Refusal
from cxr_triage.model.radiograph import Radiograph
from cxr_triage.storage.image_records import InstanceHeader

SAID = builders.prediction()


def predict(radiograph: Radiograph) -> Prediction:
    """Stand in for the network: it was asked."""
    assert radiograph.pixels_HW.ndim == 2
    return SAID


def never(radiograph: Radiograph) -> Prediction:
    """Stand in for a network that must not be asked."""
    raise AssertionError(radiograph.sop_instance_uid)


def test_a_frontal_chest_reaches_the_network(tmp_path: Path) -> None:
    """What the gate lets through is predicted."""
    assert score_file(radiograph_file(tmp_path), predict) is SAID


@pytest.mark.parametrize(
    ("keyword", "value", "reason"),
    [
        ("ViewPosition", "LL", "not_frontal"),
        ("BodyPartExamined", "HAND", "not_chest"),
        ("PatientAge", "005Y", "paediatric"),
        ("PhotometricInterpretation", "RGB", "unreadable"),
        ("PixelData", b"\0\0", "unreadable"),
    ],
)
def test_the_gate_comes_before_the_network(tmp_path: Path, keyword: str, value: object, reason: str) -> None:
    """What must not be triaged never reaches the network, and says why."""
    dataset = builders.radiograph_dataset()
    setattr(dataset, keyword, value)
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    outcome = score_file(path, never)

    assert isinstance(outcome, Refusal)
    assert (outcome.reason, outcome.explanation.endswith(".")) == (reason, True)


@pytest.mark.parametrize(("value", "window"), [(0, (2048, 4096)), (1500, (30000, 10))])
def test_an_image_that_is_blank_as_shown_is_refused(tmp_path: Path, value: int, window: tuple[int, int]) -> None:
    """No pixel differs; or they do, and the header's window lies beside all of them."""
    pixels = np.zeros((64, 48), np.uint16)
    pixels[8:40, 8:40] = value
    dataset = builders.radiograph_dataset(pixels=pixels)
    dataset.WindowCenter, dataset.WindowWidth = window
    path = tmp_path / "image.dcm"
    dataset.save_as(path, enforce_file_format=True)
    outcome = score_file(path, never)
    assert isinstance(outcome, Refusal)
    assert outcome.reason == "blank"


def test_indexing(tmp_path: Path) -> None:
    """A header, or why there is none."""
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(b"nothing")
    refusal = index_file(damaged)

    assert isinstance(index_file(radiograph_file(tmp_path)), InstanceHeader)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "unreadable"


def test_a_missing_file_is_no_refusal(tmp_path: Path) -> None:
    """A disk that fails may come back: that is an error to try again, and says nothing of the image."""
    with pytest.raises(FileNotFoundError):
        score_file(tmp_path / "gone.dcm", never)
    with pytest.raises(FileNotFoundError):
        index_file(tmp_path / "gone.dcm")
