"""What the machine does to the roles is not counted as their images' fault, and ends none of them."""

import errno
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import scorers
from builders import radiograph_dataset, received_instance
from cxr_triage.daemon.heartbeat import beating, is_alive
from cxr_triage.daemon.infer import Retry
from cxr_triage.daemon.isolation import Fault, Worker
from cxr_triage.daemon.report import ReportRole
from cxr_triage.daemon.settings import load_settings, require_writable
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import ConfigurationError, StorageError, UnavailableError
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.priority import Policy
from cxr_triage.storage import waiting
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import Claim, InstanceState
from cxr_triage.storage.ledger import Intake, Scoring
from disks import small_disk
from peers import eventually
from peers import running as running_role
from wards import DEADLINE_SECONDS, LEASE, Ward, empty_ward, running, wait_until


@pytest.fixture
def ward(sqlite_url: str, tmp_path: Path) -> Iterator[Ward]:
    """Give an empty ledger and inbox."""
    database = open_database(sqlite_url)
    yield empty_ward(database, tmp_path)
    database.close()


def test_a_full_disk_fails_no_image(ward: Ward) -> None:
    """Results cannot be written, more often than an image may fail; with room again, all is as if nothing had been."""
    ward.run_folder.rmdir()
    with small_disk(ward.run_folder, megabytes=1, processes=lambda: [os.getpid()]) as disk, running(ward.inference()):
        first = ward.receive()
        wait_until(ward.settled(first))
        wait_until(lambda: not list(disk.folder.rglob("*.result")))  # its room would come back after the disk is full
        disk.fill()
        uids = [ward.receive() for _ in range(2)]
        wait_until(lambda: all(ward.row(uid).attempt > 4 for uid in uids))
        rows = [ward.row(uid) for uid in uids]
        assert {row.state for row in rows} <= {InstanceState.RECEIVED, InstanceState.INDEXED}
        assert {row.reason for row in rows} == {"OSError"}
        disk.free()
        wait_until(ward.settled(*uids))
    ended = [ward.row(uid) for uid in uids]
    assert [(row.state, row.failures, row.lost) for row in ended] == [(InstanceState.SCORED, 0, 0)] * 2


def test_a_disk_error_is_not_the_images(ward: Ward) -> None:
    """It is given back, in words that say no more than what the machine said, and read later."""
    bad, good = ward.receive("disk"), ward.receive()
    again = ward.receive("once disk")
    with running(ward.inference(maximum_attempts=1)):
        wait_until(ward.settled(good, again))
        wait_until(lambda: ward.row(bad).attempt > 4)

    row = ward.row(bad)
    assert (row.state, row.failures) == (InstanceState.INDEXED, 0)
    assert row.explanation == "The machine did not let the image be read: Input/output error."
    assert (ward.state(again), ward.row(again).failures) == (InstanceState.SCORED, 0)


def test_a_disk_that_is_not_mounted_fails_no_image(ward: Ward) -> None:
    """The whole folder is not there: it will be back, and its images with it."""
    dataset = radiograph_dataset()
    path = Path("20240304") / f"{dataset.SOPInstanceUID}.dcm"
    uid = str(dataset.SOPInstanceUID)
    Intake(ward.database).record_received(received_instance(sop_instance_uid=uid, path=path))
    with running(ward.inference(maximum_attempts=1)):
        wait_until(lambda: ward.row(uid).attempt > 3)
        assert ward.state(uid) is InstanceState.RECEIVED
        (ward.inbox / path).parent.mkdir()
        dataset.save_as(ward.inbox / path.with_suffix(".new"), enforce_file_format=True)
        (ward.inbox / path.with_suffix(".new")).rename(ward.inbox / path)
        wait_until(ward.settled(uid))
    # Between folder and file it may have been looked for, and a missing file counts.
    assert ward.state(uid) in {InstanceState.SCORED, InstanceState.FAILED}


class Silent(Scoring):
    """A ledger that does not answer for a while when it is given a prediction."""

    silent_until = 0.0

    def record_scored(self, claim: Claim, prediction: Prediction, policy: Policy) -> None:
        """Be silent, as a server is while it restarts."""
        Silent.silent_until = Silent.silent_until or time.monotonic() + 1
        if time.monotonic() < Silent.silent_until:
            raise UnavailableError("the database did not carry the operation out")
        super().record_scored(claim, prediction, policy)


def test_a_result_is_kept_until_the_ledger_answers(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not made again, and the image has not failed."""
    monkeypatch.setattr(Ward, "scoring", Silent(ward.database, lease=LEASE))
    uid = ward.receive()
    with running(ward.inference(maximum_attempts=1)):
        wait_until(ward.settled(uid))

    assert (ward.state(uid), ward.row(uid).failures) == (InstanceState.SCORED, 0)
    assert (ward.inbox / "scored.log").read_text().split() == [f"{uid}.dcm"]


def test_a_job_that_cannot_be_started_is_the_machines_fault(tmp_path: Path) -> None:
    """The folder of results is gone; the worker works again when it is there."""
    worker: Worker[int] = Worker(folder=tmp_path / "spool", deadline_seconds=DEADLINE_SECONDS, prepare=scorers.nothing)
    done = threading.Event()
    job = worker.start(scorers.own_pid, Path("/"), when_done=done.set)
    fault = job.outcome()
    job.forget()
    assert isinstance(fault, Fault)
    assert (job.done, job.stuck, fault.of_machine) == (True, False, True)
    (tmp_path / "spool").mkdir()
    job = worker.start(scorers.own_pid, Path("/"), when_done=done.set)
    eventually(lambda: job.done)
    assert isinstance(job.outcome(), int)
    worker.replace()


def test_waits_for_the_machine_grow_and_stay_short() -> None:
    """When a disk has room again, work goes on within a minute, however long it was full; others come in between."""
    retry = Retry(maximum_attempts=3, first_seconds=5, longest_seconds=600)
    assert [retry.machine_wait(faults) for faults in (1, 2, 3, 100)] == [10, 20, 40, 60]


def test_a_heart_survives_a_disk_that_takes_no_beat(tmp_path: Path) -> None:
    """The role counts as dead meanwhile, and lives on."""
    run = tmp_path / "run"
    run.mkdir()
    with beating(run, "infer", 0.01):
        shutil.rmtree(run)
        assert not is_alive(run, "infer", 5)
        time.sleep(0.1)
        run.mkdir()
        eventually(lambda: is_alive(run, "infer", 5))
    with beating(tmp_path / "nowhere", "infer", 5):
        pass


def test_ringing_needs_no_file_handle(tmp_path: Path) -> None:
    """Who has just acknowledged an image must not fail by it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        ring(tmp_path, "infer")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_report_role_outlives_a_silent_database(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again and again."""
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.1)
    config = tmp_path / "cxr-triage.toml"
    config.write_text(f'[storage]\ndatabase = "{sqlite_url}"\n[report]\npoll_seconds = 0.05\n')
    settings = load_settings(config)
    settings.prepare_folders()
    (tmp_path / "triage.db").rename(tmp_path / "hidden.db")
    (tmp_path / "triage.db").mkdir()
    with capture_logs() as lines, running_role(ReportRole(settings).run):
        eventually(lambda: sum(line["event"] == "the ledger does not answer; trying again" for line in lines) > 2)
    assert {line["log_level"] for line in lines} == {"error"}


def test_a_full_disk_is_no_fault_of_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that starts meanwhile is started again, instead of waiting for a person."""

    def refuse(error: int) -> None:
        def fail(**_: object) -> None:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(tempfile, "TemporaryFile", fail)

    refuse(errno.ENOSPC)
    with pytest.raises(StorageError, match="cannot be written now: No space left on device"):
        require_writable("storage.inbox", tmp_path)
    refuse(errno.EACCES)
    with pytest.raises(ConfigurationError, match="create it for the user that runs cxr-triage"):
        require_writable("storage.inbox", tmp_path)
