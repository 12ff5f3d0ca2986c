"""What a real receiver asks of the kernel before it answers, as strace sees it, and what it does when fsync fails."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store
from cxr_triage.daemon.receive import OUT_OF_RESOURCES
from cxr_triage.model.errors import UnreachableError
from daemons import another, chest_radiographs
from journal import data_set_digest
from peers import LOOPBACK, free_port
from tracing import Call, calls, traced

pytestmark = pytest.mark.timeout(300)

#: Each thread's first fsync gives this error, the others are done (strace(1), "tampering").
FIRST_FSYNC_FAILS = "inject=fsync:error=EIO:when=1"
#: First byte of a P-DATA-TF PDU, PS3.8 Table 9-22, as strace prints it.
P_DATA = r'"\4\0'


class Receiver:
    """A receiver as a process of its own, under strace."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.trace = folder / "trace.txt"
        self._config = folder / "cxr-triage.toml"
        self._config.write_text(
            f'[dicom]\nport = {self.port}\n[storage]\nroot = "{folder}"\ndatabase = "{database_url}"\n'
        )
        self._peer = Peer(calling_ae_title="MODALITY", ae_title="CXRTRIAGE", host=LOOPBACK, port=self.port)

    @contextmanager
    def running(self, *options: str) -> Iterator[None]:
        """Run it with more options of strace."""
        command = ["--config", str(self._config), "serve", "--role", "receive"]
        with traced(command, self.trace, *options):
            yield

    def send(self, *images: Path) -> list[str]:
        """Send each on one association; what came of it: "stored", or what the receiver said."""
        files = [Part10File.read(image) for image in images]
        with associated(self._peer, files) as association:
            return [self._store(association, file) for file in files]

    @property
    def inbox(self) -> list[Path]:
        """Every file in it, finished or not."""
        return [path for path in (self.folder / "inbox").rglob("*") if path.is_file()]

    def _store(self, association: object, file: Part10File) -> str:
        try:
            store(association, file, self._peer)  # type: ignore[arg-type]
        except UnreachableError as error:
            return str(error)
        return "stored"


@pytest.fixture
def receiver(tmp_path: Path, database_url: str) -> Receiver:
    """Give a receiver that does not run yet: the test runs once per kind of database."""
    return Receiver(tmp_path, database_url)


def fresh(folder: Path) -> Path:
    """Give an image that nobody has seen."""
    return another(chest_radiographs()[2], folder)


def touching(trace: list[Call], name: str, text: str) -> list[Call]:
    """Calls of a name whose arguments hold a text."""
    return [call for call in trace if call.name == name and text in call.arguments]


def synced_commit(trace: list[Call], after: Call) -> Call:
    """The call that brought the row to the disk: SQLite's own fsync, or Postgres' word that its is done."""
    log = [call for name in ("fsync", "fdatasync") for call in touching(trace, name, "triage.db-wal>")]
    if not log:
        sent = next(call for call in touching(trace, "sendto", r"COMMIT\0") if after.before(call))
        return next(
            call
            for call in touching(trace, "recvfrom", r"COMMIT\0")
            if sent.before(call) and call.thread == sent.thread
        )
    return next(call for call in sorted(log, key=lambda call: call.began) if after.before(call))


def test_success_comes_after_the_disk_has_everything(receiver: Receiver) -> None:
    """Fsync of the file < rename < fsync of the folder < synced commit < answer: each is over when the next begins."""
    image = fresh(receiver.folder)
    with receiver.running():
        assert receiver.send(image) == ["stored"]
    trace = [call for call in calls(receiver.trace) if call.succeeded]
    [renamed] = touching(trace, "rename", ".part")
    [synced_file] = touching(trace, "fsync", ".part>")
    [stored] = receiver.inbox
    [synced_folder] = touching(trace, "fsync", f"{stored.parent}>")
    committed = synced_commit(trace, synced_folder)
    answered = touching(trace, "sendto", P_DATA)[-1]
    order = [synced_file, renamed, synced_folder, committed, answered]
    assert [earlier.before(later) for earlier, later in pairwise(order)] == [True] * 4, order
    assert data_set_digest(stored) == data_set_digest(image)


def test_postgres_waits_for_its_disk_before_it_says_committed(postgres_url: str) -> None:
    """What a COMMIT means is the server's setting; the daemon leaves it, and the server's default is to wait."""
    url = make_url(postgres_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_failed_fsync_is_final_for_its_file(receiver: Receiver) -> None:
    """It is tried once, the file is gone and the sender told 0xA700; its next attempt, a new file, succeeds."""
    first, image = fresh(receiver.folder), fresh(receiver.folder)
    with receiver.running("-e", FIRST_FSYNC_FAILS):
        # The first association's fsync is that of the folders, which are made then.
        assert receiver.send(first, first)[1] == "stored"
        [before] = receiver.inbox
        refused, stored = receiver.send(image, image)
        assert f"0x{OUT_OF_RESOURCES:04X}" in refused
        assert stored == "stored"
        [kept] = set(receiver.inbox) - {before}
    synced = touching(calls(receiver.trace), "fsync", ".part>")
    [failed] = [call for call in synced if not call.succeeded]
    assert "INJECTED" in failed.result
    assert len(touching(synced, "fsync", failed.arguments)) == 1
    assert touching(calls(receiver.trace), "unlink", _path(failed))[0].succeeded
    assert len({call.arguments for call in synced}) == len(synced) == 3
    assert data_set_digest(kept) == data_set_digest(image)


def _path(call: Call) -> str:
    """Of an fsync: "7</path>"."""
    return call.arguments.partition("<")[2].removesuffix(">")
