"""The inference role on a real ledger, with children that really die."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pebble import ProcessPool
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import RLELossless
from sqlalchemy import select

import scorers
from builders import instance_header, radiograph_dataset
from cxr_triage.daemon.infer import InferRole
from cxr_triage.daemon.isolation import Fault, Worker
from cxr_triage.daemon.lanes import MAX_LOST_ATTEMPTS
from cxr_triage.daemon.readers import Score, scoring_threads
from cxr_triage.daemon.settings import load_settings
from cxr_triage.daemon.wakeup import Doorbell, ring
from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import BundleError, ConfigurationError, StorageError, TriageError
from cxr_triage.model.prediction import Prediction
from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import Claim, InstanceState
from cxr_triage.storage.ledger import ReadingList, Reporting, Scoring
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.schema import InstanceRow, PredictionRow
from daemons import chest_radiographs, lives
from wards import DEADLINE_SECONDS, LEASE, PATIENCE_SECONDS, Ward, empty_ward, running, wait_until


@pytest.fixture
def ward(sqlite_url: str, tmp_path: Path) -> Iterator[Ward]:
    """Give an empty ledger and inbox: how children die has nothing to do with the kind of database."""
    database = open_database(sqlite_url)
    yield empty_ward(database, tmp_path)
    database.close()


@pytest.fixture
def any_ward(database: Database, tmp_path: Path) -> Ward:
    """Give an empty ledger and inbox, once per kind of database."""
    return empty_ward(database, tmp_path)


def test_an_image_is_indexed_and_scored(any_ward: Ward) -> None:
    """From received to scored, and the report role is rung."""
    ward = any_ward
    with Doorbell.listen(ward.run_folder, "report") as bell:
        uid = ward.receive()
        with running(ward.inference()):
            wait_until(ward.settled(uid))
            assert bell.wait(PATIENCE_SECONDS)

    study = ward.row(uid).study_instance_uid
    assert study is not None
    reporting = Reporting(ward.database)
    (stored,) = reporting.predictions(reporting.open_revision(study, Policy().digest()))
    assert ward.state(uid) is InstanceState.SCORED
    assert (stored.sop_instance_uid, stored.prediction.masks_CHW.shape) == (uid, (3, 37, 29))


#: What the scorer does, and what is then said of the image.
DEATHS = {
    "sigkill": ("killed", "SIGKILL"),
    "segfault": ("killed", "SIGSEGV"),
    "exit": ("killed", "status 3"),
    "sys_exit": ("panic", "SystemExit"),
    "panic": ("panic", "PanicException"),
    "out_of_memory": ("MemoryError", "MemoryError"),
    "error": ("ValueError", "ValueError in scorers.py"),
}


def test_a_crash_costs_that_images_attempt_only(ward: Ward) -> None:
    """Whatever a child dies of, its image fails and is named, and its neighbours are scored at their first attempt."""
    bad, good = {}, []
    for word in DEATHS:
        bad[word] = ward.receive(word)
        good.append(ward.receive())
    with running(ward.inference(maximum_attempts=1)):
        wait_until(ward.settled(*bad.values(), *good))

    rows = {word: ward.row(uid) for word, uid in bad.items()}
    assert {word: row.reason for word, row in rows.items()} == {word: said for word, (said, _) in DEATHS.items()}
    assert [word for word, row in rows.items() if DEATHS[word][1] not in str(row.explanation)] == []
    assert [word for word, row in rows.items() if row.state is not InstanceState.FAILED] == []
    assert [word for word, row in rows.items() if "Muster" in str(row.explanation)] == []
    assert [(ward.state(uid), ward.row(uid).failures) for uid in good] == [(InstanceState.SCORED, 0)] * len(good)


def test_attempts_are_counted(ward: Ward) -> None:
    """An image fails for good after its last attempt."""
    uid = ward.receive("error")
    with running(ward.inference(maximum_attempts=3)):
        wait_until(ward.settled(uid))

    assert (ward.state(uid), ward.row(uid).failures) == (InstanceState.FAILED, 3)


def test_a_job_past_its_deadline_is_ended(ward: Ward) -> None:
    """A codec that never returns costs its deadline, and the next image is scored."""
    bad, good = ward.receive("hang"), ward.receive()
    with running(ward.inference(deadline_seconds=3, maximum_attempts=1)):
        wait_until(ward.settled(bad, good))

    assert (ward.row(bad).reason, ward.state(good)) == ("deadline", InstanceState.SCORED)


def test_a_passing_failure_is_tried_again(ward: Ward) -> None:
    """The second attempt counts."""
    uids = [ward.receive(word) for word in ("once sigkill", "once panic")]
    with running(ward.inference()):
        wait_until(ward.settled(*uids))

    assert [(ward.state(uid), ward.row(uid).failures) for uid in uids] == [(InstanceState.SCORED, 1)] * 2


def test_two_workers_crash_apart(ward: Ward) -> None:
    """A child's death at its first breath takes no neighbour's job with it."""
    bad = [ward.receive(word) for word in ("sigkill", "exit")]
    good = [ward.receive() for _ in range(5)]
    with running(ward.inference(workers=2, maximum_attempts=1)):
        wait_until(ward.settled(*bad, *good))

    assert {ward.state(uid) for uid in bad} == {InstanceState.FAILED}
    assert [(ward.state(uid), ward.row(uid).failures) for uid in good] == [(InstanceState.SCORED, 0)] * 5


def test_refusals_are_unsuitable(ward: Ward) -> None:
    """A refusal, a file that is no image, and an image of no study are set aside with their reason."""
    refused, damaged, orphan = ward.receive("refuse"), ward.receive(), ward.receive(StudyInstanceUID=None)
    (ward.inbox / f"{damaged}.dcm").write_bytes(b"not DICOM")
    with running(ward.inference()):
        wait_until(ward.settled(refused, damaged, orphan))

    reasons = [(ward.state(uid), ward.row(uid).reason) for uid in (refused, damaged, orphan)]
    assert reasons == [
        (InstanceState.UNSUITABLE, "not_frontal"),
        (InstanceState.UNSUITABLE, "unreadable"),
        (InstanceState.UNSUITABLE, "unreadable"),
    ]


def test_a_missing_file_is_a_failure(ward: Ward) -> None:
    """A file that cannot be read is tried again, and then failed: a disk may come back."""
    ward.receive_file("1.2.3.4")
    with running(ward.inference()):
        wait_until(ward.settled("1.2.3.4"))

    assert (ward.state("1.2.3.4"), ward.row("1.2.3.4").reason) == (InstanceState.FAILED, "missing")


def test_the_most_urgent_comes_first(any_ward: Ward) -> None:
    """Ordered level decides, then arrival."""
    ward = any_ward
    levels = (Level.LOW, Level.ROUTINE, Level.STAT, Level.HIGH)
    uids = [ward.receive() for _ in levels]
    for level, claim in zip(levels, ward.scoring.claim_to_index("nobody-1", 4), strict=True):
        header = instance_header()
        ward.scoring.record_indexed(claim, header, Policy())
        ReadingList(ward.database).set_ordered(header.study_instance_uid, level, actor="test", policy=Policy())
    with running(ward.inference()):
        wait_until(ward.settled(*uids))

    scored = (ward.inbox / "scored.log").read_text().split()
    assert scored == [f"{uids[index]}.dcm" for index in (2, 3, 1, 0)]


def test_a_bell_wakes_it(ward: Ward) -> None:
    """An image that comes while the role sleeps is scored."""
    with running(ward.inference()):
        uid = ward.receive()
        ring(ward.run_folder, "infer")
        wait_until(ward.settled(uid))

    assert ward.state(uid) is InstanceState.SCORED


def test_stopping_lets_running_jobs_end(ward: Ward) -> None:
    """What runs is finished, what waits is left."""
    runs = ward.receive("wait")
    with running(ward.inference()) as stop:
        wait_until((ward.inbox / "waiting").exists)
        waits = ward.receive()
        stop.set()
        (ward.inbox / "go").touch()

    assert ward.state(runs) is InstanceState.SCORED
    assert ward.state(waits) in (InstanceState.RECEIVED, InstanceState.INDEXED)
    assert ward.row(waits).owner is None


def test_stopping_gives_back_what_does_not_end(any_ward: Ward) -> None:
    """A job that outlasts the drain is given back without a failure, and the next role scores it."""
    ward = any_ward
    uid = ward.receive("wait")
    with running(ward.inference(drain_seconds=0)):
        wait_until((ward.inbox / "waiting").exists)

    row = ward.row(uid)
    assert (row.state, row.owner, row.failures) == (InstanceState.INDEXED, None, 0)
    (ward.inbox / "go").touch()
    with running(ward.inference()):
        wait_until(ward.settled(uid))
    assert ward.state(uid) is InstanceState.SCORED


def test_claims_of_the_dead_are_taken_back(ward: Ward) -> None:
    """What a killed role had claimed need not wait for its lease."""
    uid = ward.receive()
    owner = Owner.take(ward.run_folder, "infer")
    assert len(ward.scoring.claim_to_index(owner.id, 1)) == 1
    (ward.run_folder / f"{owner.id}.spool").mkdir()
    owner.release()
    with running(ward.inference()):
        wait_until(ward.settled(uid))

    assert ward.state(uid) is InstanceState.SCORED
    assert list(ward.run_folder.glob("*.spool")) == []


def test_an_image_that_ends_everyone_is_set_aside(ward: Ward) -> None:
    """Attempts that end without a word are not made for ever; a person may have the image tried again."""
    uid = ward.receive()
    with ward.database.transaction() as session:
        session.scalars(select(InstanceRow)).one().lost = MAX_LOST_ATTEMPTS
    with running(ward.inference()):
        wait_until(ward.settled(uid))
        assert (ward.state(uid), ward.row(uid).reason) == (InstanceState.FAILED, "lost")
        ward.scoring.replay(uid)
        ring(ward.run_folder, "infer")
        wait_until(lambda: ward.state(uid) is InstanceState.SCORED)


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        (scorers.load_nothing, BundleError),
        (scorers.load_elsewhere, ConfigurationError),
        (scorers.load_and_die, TriageError),
    ],
)
def test_a_network_that_cannot_be_loaded_is_said_at_once(
    ward: Ward, load: Callable[[], Score], kind: type[TriageError]
) -> None:
    """The role does not start, and costs no image an attempt; only a bad bundle needs a person to start it again."""
    uid = ward.receive()
    with pytest.raises(TriageError, match="cannot be loaded") as raised:
        ward.inference(load=load).run(threading.Event(), lambda: None)

    assert raised.type is kind
    assert (ward.state(uid), ward.row(uid).attempt) == (InstanceState.RECEIVED, 0)


def test_a_real_panic_of_a_codec(ward: Ward) -> None:
    """The RLE decoder, which is written in Rust, panics on some damaged images: that is no Exception."""
    dataset = radiograph_dataset()
    dataset.compress(RLELossless, generate_instance_uid=False)
    frame = bytearray(get_frame(dataset.PixelData, 0, number_of_frames=1))
    # The last segment now ends in a run of 128 where fewer pixels are left (PS3.5 G.3.2).
    frame[-4:] = bytes([0x81, 0, 0x81, 0])
    dataset.PixelData = encapsulate([bytes(frame)])
    uid, good = str(dataset.SOPInstanceUID), ward.receive()
    dataset.save_as(ward.inbox / f"{uid}.dcm", enforce_file_format=True)
    ward.receive_file(uid)
    with running(ward.inference(load=scorers.load_reader, maximum_attempts=1)):
        wait_until(ward.settled(uid, good))

    assert (ward.state(uid), ward.row(uid).reason) == (InstanceState.FAILED, "panic")
    assert ward.state(good) is InstanceState.SCORED


def test_the_role_by_its_settings(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings name a bundle that is not there: the role says so, from the child that looked for it."""
    monkeypatch.setenv("CXR_TRIAGE_STORAGE__ROOT", str(tmp_path))
    monkeypatch.setenv("CXR_TRIAGE_STORAGE__DATABASE", sqlite_url)
    monkeypatch.setenv("CXR_TRIAGE_MODEL__BUNDLE", "no-such-bundle")
    with pytest.raises(BundleError, match="no-such-bundle"):
        InferRole(load_settings()).run(threading.Event(), lambda: None)


def test_a_start_with_other_weights_scores_what_waits_again(
    ward: Ward, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study on the list has the result of the weights that the role was started with, and its place by them."""
    chest = dcmread(chest_radiographs()[0])
    uid = str(chest.SOPInstanceUID)
    chest.save_as(ward.inbox / f"{uid}.dcm", enforce_file_format=True)
    ward.receive_file(uid)
    with running(ward.inference()):
        wait_until(ward.settled(uid))
    [before] = ReadingList(ward.database).studies()
    monkeypatch.setenv("CXR_TRIAGE_STORAGE__ROOT", str(tmp_path))
    monkeypatch.setenv("CXR_TRIAGE_STORAGE__DATABASE", sqlite_url)
    monkeypatch.setenv("CXR_TRIAGE_STORAGE__INBOX", str(ward.inbox))
    monkeypatch.setenv("CXR_TRIAGE_INFER__SCORE_AGAIN", "true")
    shipped = read_card(None).identity
    with running(InferRole(load_settings())):
        wait_until(lambda: bundle_of(ward, uid) == shipped.sha256)
    [after] = ReadingList(ward.database).studies()
    assert f"{shipped.name} {shipped.version}" not in before.priority.reason
    assert after.priority != before.priority
    assert ward.state(uid) is InstanceState.SCORED


def bundle_of(ward: Ward, uid: str) -> str:
    """Which weights the result of an image is from."""
    with ward.database.read() as session:
        row = session.scalars(
            select(PredictionRow).join(InstanceRow, InstanceRow.id == PredictionRow.instance_id)
        ).one()
        assert ward.row(uid).id == row.instance_id
        return row.bundle_sha256


def test_the_parent_holds_no_torch() -> None:
    """The network's library is imported by the scoring children alone."""
    heavy = ["torch", "monai", "highdicom", "pynetdicom"]
    code = f"import sys, cxr_triage.daemon.infer; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout

    assert output.strip() == "[]"


class Forgetful(Scoring):
    """A ledger that refuses predictions, and nothing else."""

    def record_scored(self, claim: Claim, prediction: Prediction, policy: Policy) -> None:
        """Refuse, as a database does that is out of some limit."""
        del claim, prediction, policy
        raise StorageError("no room for this")


def test_a_result_that_cannot_be_recorded_fails_the_image(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role does not wait for ever with a result in its hands."""
    monkeypatch.setattr(Ward, "scoring", Forgetful(ward.database, lease=LEASE))
    uid = ward.receive()
    with running(ward.inference()):
        wait_until(ward.settled(uid))

    assert (ward.state(uid), ward.row(uid).reason) == (InstanceState.FAILED, "unrecordable")


class Worked:
    """A worker outside of the role."""

    def __init__(self, folder: Path) -> None:
        self.worker: Worker[int] = Worker(folder=folder, deadline_seconds=DEADLINE_SECONDS, prepare=scorers.nothing)

    def pid(self) -> int | Fault:
        """Run one job, which gives the child's process ID."""
        done = threading.Event()
        job = self.worker.start(scorers.own_pid, Path("/"), when_done=done.set)
        assert done.wait(PATIENCE_SECONDS)
        outcome = job.outcome()
        job.forget()
        return outcome


@pytest.fixture
def worked(tmp_path: Path) -> Iterator[Worked]:
    """Give a worker, and end it."""
    worked = Worked(tmp_path)
    yield worked
    worked.worker.replace()


def test_a_worker_keeps_its_child(worked: Worked) -> None:
    """The network is loaded once, not once per image; no result lies about."""
    first, second = worked.pid(), worked.pid()

    assert first == second
    assert list(worked.worker.folder.iterdir()) == []


def test_a_child_that_dies_idle_is_replaced(worked: Worked) -> None:
    """A child that was killed between two jobs costs at most the next attempt."""
    first = worked.pid()
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not lives(first))
    outcomes = [worked.pid(), worked.pid()]

    assert isinstance(outcomes[1], int)
    assert outcomes[1] != first


def test_a_job_that_comes_just_as_its_child_dies_fails_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool whose child dies within its first moments breaks, and takes no notice of a job that comes then."""
    worker: Worker[int] = Worker(folder=tmp_path, deadline_seconds=scorers.LONG_SECONDS, prepare=scorers.die)
    check: Callable[[ProcessPool], None] = ProcessPool._check_pool_status  # noqa: SLF001 - pebble's gap is behind it

    def check_and_wait(pool: ProcessPool) -> None:
        check(pool)
        wait_until(lambda: not pool.active)

    monkeypatch.setattr(ProcessPool, "_check_pool_status", check_and_wait)
    job = worker.start(scorers.own_pid, Path("/"), when_done=lambda: None)
    wait_until(lambda: job.done)
    outcome = job.outcome()
    assert isinstance(outcome, Fault)
    assert (job.stuck, outcome.error_class) == (True, "killed")
    worker.replace()


def test_a_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    """Children end when their parent is killed: they would hold the network's memory for ever."""
    script = """
import sys, threading, time
from pathlib import Path
import scorers
from cxr_triage.daemon.isolation import Worker

if __name__ == "__main__":
    worker = Worker(folder=Path(sys.argv[1]), deadline_seconds=60, prepare=scorers.nothing)
    done = threading.Event()
    job = worker.start(scorers.own_pid, Path("/"), when_done=done.set)
    done.wait()
    print(job.outcome(), flush=True)
    time.sleep(600)
"""
    program = tmp_path / "parent.py"
    program.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(scorers.__file__).parent)}
    with subprocess.Popen(
        [sys.executable, program, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        alive_before = lives(child)
        parent.kill()
    wait_until(lambda: not lives(child))

    assert alive_before


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(1, 1, 1), (1, 2, 1), (1, 8, 7), (2, 8, 3), (7, 8, 1), (64, 8, 1)]
)
def test_scoring_leaves_a_core_to_the_other_roles(workers: int, cores: int, threads: int) -> None:
    """All workers together take one core less than there are, and each at least one."""
    assert scoring_threads(workers, cores) == threads
