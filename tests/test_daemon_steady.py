"""Timeouts of other libraries, while the machine's clock is set."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.timer import Timer

from cxr_triage.daemon import dicom_server
from cxr_triage.daemon.isolation import Fault, Worker
from peers import eventually

YEAR_SECONDS = 365 * 24 * 3600
assert dicom_server  # pynetdicom's timers are ours once this is imported


def sleep_for_ever(begun: Path) -> str:
    """A codec that hangs."""
    begun.touch()
    time.sleep(1000)
    return "late"


def nap(begun: Path) -> str:
    """A job that takes its time, but not too much of it."""
    begun.touch()
    time.sleep(1.5)
    return "done"


def prepare() -> None:
    """Nothing to do in the child."""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker[str]]:
    """A child with a few seconds for each job."""
    made: Worker[str] = Worker(folder=tmp_path, deadline_seconds=3, prepare=prepare)
    yield made
    made.replace()


def set_clock(patch: pytest.MonkeyPatch, years: int) -> None:
    """Set Python's wall clock."""
    true_time = time.time
    patch.setattr(time, "time", lambda: true_time() + years * YEAR_SECONDS)


def test_a_silent_peer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ten years later: until then it would keep one of a few associations."""
    timer = Timer(0.1)
    timer.start()
    set_clock(monkeypatch, -10)
    eventually(lambda: timer.expired)


def test_no_peer_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been silent for a moment only."""
    timer = Timer(60)
    timer.start()
    set_clock(monkeypatch, 5)
    assert not timer.expired


def test_a_job_that_hangs_is_ended_in_time(
    monkeypatch: pytest.MonkeyPatch, worker: Worker[str], tmp_path: Path
) -> None:
    """By pebble, before we lose patience with pebble."""
    job = worker.start(sleep_for_ever, tmp_path / "begun", when_done=lambda: None)
    eventually((tmp_path / "begun").exists)
    time.sleep(0.5)  # until pebble knows so too
    set_clock(monkeypatch, -10)
    eventually(lambda: job.done)
    outcome = job.outcome()
    assert isinstance(outcome, Fault)
    assert (outcome.error_class, job.stuck) == ("deadline", False)


def test_no_job_is_ended_early(monkeypatch: pytest.MonkeyPatch, worker: Worker[str], tmp_path: Path) -> None:
    """It has hardly begun."""
    job = worker.start(nap, tmp_path / "begun", when_done=lambda: None)
    eventually((tmp_path / "begun").exists)
    time.sleep(0.5)  # until pebble knows so too
    set_clock(monkeypatch, 5)
    eventually(lambda: job.done)
    assert job.outcome() == "done"
