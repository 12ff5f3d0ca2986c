"""A daemon, a PACS, modalities and one more peer, while something goes wrong; and what must hold when it is over."""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.image_records import InstanceState
from daemons import SUCCESS, Daemon, RecordingPacs, another, chest_radiographs, wait_until
from invariants import PLANTED, Echo, Folders, at_rest, check_rest, check_said, read_books
from journal import Sent

ECHO_PEER = Path(__file__).with_name("chaos") / "echo.py"
#: Limits of the other peer's answers on a machine that is busy with other things; `make chaos` measures the strict one.
MEDIAN_ECHO_SECONDS, LONGEST_ECHO_SECONDS = 1.0, 5.0
#: For whatever is left to do when a fault is over.
REST_SECONDS = 300
#: Often enough that a test need not wait: leases of the dead, files without a row, failed attempts.
BRISK = """
[infer]
retry_first_seconds = 0.5
retry_longest_seconds = 2
poll_seconds = 0.5
[report]
poll_seconds = 0.5
[deliver]
retry_first_seconds = 0.5
retry_longest_seconds = 2
poll_seconds = 0.5
[upkeep]
interval_seconds = 1
leftover_seconds = 2
[service]
restart_first_seconds = 0.2
restart_longest_seconds = 2
"""

# The file's own bytes are sent: their digest is what the daemon has to have.
_config.STORE_SEND_CHUNKED_DATASET = True


def answer(path: Path, *, port: int) -> int | None:
    """Send a file on an association of its own; the status that it was answered with, None: there was no answer."""
    meta = read_file_meta_info(path)
    entity = AE(ae_title="TESTMODALITY")
    entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    entity.connection_timeout = entity.acse_timeout = 10
    entity.dimse_timeout = entity.network_timeout = 120
    association = entity.associate("127.0.0.1", port, ae_title="CXRTRIAGE")
    if not association.is_established:
        return None
    try:
        status = association.send_c_store(path).get("Status")
        return None if status is None else int(status)
    except RuntimeError:  # pynetdicom's word for an association that ended before it looked
        return None
    finally:
        association.release()


class Modality:
    """Pushes each image until it is acknowledged, as several stations at the same time."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.images.mkdir()
        self.offered: list[Sent] = []
        self.acknowledged: list[Sent] = []
        #: Every answer so far.
        self.answers: list[int | None] = []
        self._made = 0

    def image(self) -> Path:
        """Make another image, of a patient whom nothing may name."""
        sources = chest_radiographs()
        self._made += 1
        return another(sources[self._made % len(sources)], self.images, **PLANTED)

    def offer(self, image: Path, *, port: int) -> int | None:
        """Send once."""
        sent = Sent.file(image)
        self.offered.append(sent)
        status = answer(image, port=port)
        self.answers.append(status)
        if status == SUCCESS:
            self.acknowledged.append(sent)
        return status

    def push(self, images: Sequence[Path], *, ports: Sequence[int]) -> None:
        """Send each until it is acknowledged, by one port after the other; raise nothing else than a failed test."""
        give_up_at = time.monotonic() + REST_SECONDS
        for number, image in enumerate(images):
            tries = number
            while self.offer(image, port=ports[tries % len(ports)]) != SUCCESS:
                assert time.monotonic() < give_up_at, "never acknowledged"
                tries += 1
                time.sleep(0.3)

    @contextmanager
    def pushing(self, count: int, *, ports: Sequence[int], stations: int = 3) -> Iterator[None]:
        """Push so many images while the block runs, and to the end of them after it."""
        images = [self.image() for _ in range(count)]
        errors: list[BaseException] = []

        def push(share: list[Path]) -> None:
            try:
                self.push(share, ports=ports)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        threads = [threading.Thread(target=push, args=(images[station::stations],)) for station in range(stations)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()
        for error in errors:
            raise error


class Scene:
    """Everything around one ledger."""

    def __init__(self, daemon: Daemon, *, folders: Folders, database_url: str, modality: Modality) -> None:
        self.daemon = daemon
        self.folders = folders
        self.database_url = database_url
        self.modality = modality
        self.pacs = RecordingPacs()

    def acknowledge(self, count: int) -> None:
        """Push so many images, one after the other."""
        self.modality.push([self.modality.image() for _ in range(count)], ports=[self.daemon.dicom_port])

    def rest(self) -> None:
        """Return when there is nothing left to do; fail when that never comes to be."""
        wait_until(lambda: _asked(lambda: at_rest(self.database_url)), seconds=REST_SECONDS, what="all work is done")

    def states(self) -> dict[InstanceState, int]:
        """How many images are in each state."""
        images = read_books(self.database_url).images
        return {state: sum(image.state is state for image in images) for state in InstanceState}

    def check(self) -> None:
        """Fail unless all that was acknowledged has come to its one result, and nothing else is anywhere."""
        self.rest()
        found: list[str] = ["not looked at"]

        def fine() -> bool:
            found[:] = check_rest(
                self.database_url,
                self.folders,
                acknowledged=self.modality.acknowledged,
                offered=self.modality.offered,
                arrivals=list(self.pacs.journal),
            )
            return not found

        try:  # a file that a crash left without a row is adopted by the next looks of upkeep
            wait_until(lambda: at_rest(self.database_url) and fine(), seconds=60, what="the invariants")
        except AssertionError:
            assert found == []
            raise
        assert self.states()[InstanceState.FAILED] == 0
        assert check_said({"log": self.daemon.log.read_text()}) == []


@contextmanager
def staged(
    folder: Path, *, database_url: str, data: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Scene]:
    """Run a daemon, its PACS, and another peer that asks for a C-ECHO all the time.

    Args:
        folder: for all of it.
        database_url: an empty or migrated database.
        data: the daemon's own folder, where it is another one.
        settings: more of them, by the name of the variable that sets them, without prefix.
    """
    data = data or folder / "daemon"
    data.mkdir(exist_ok=True)
    modality = Modality(folder / "images")
    environment = {f"CXR_TRIAGE_{name}": value for name, value in (settings or {}).items()}
    pacs = RecordingPacs()
    with pacs.running():
        daemon = Daemon(
            data,
            destinations={"pacs": ("TESTPACS", pacs.port)},
            extra=BRISK,
            environment={"CXR_TRIAGE_STORAGE__DATABASE": database_url, **environment},
        )
        scene = Scene(daemon, folders=Folders.below(data), database_url=database_url, modality=modality)
        scene.pacs = pacs
        with daemon, asked_all_the_time(daemon.dicom_port, folder / "echoes.jsonl"):
            yield scene


@contextmanager
def asked_all_the_time(port: int, file: Path) -> Iterator[None]:
    """Let another peer ask for C-ECHO every quarter of a second; afterwards, fail unless it was answered in time."""
    with subprocess.Popen([sys.executable, str(ECHO_PEER), str(port), str(file)]) as peer:
        try:
            yield
        finally:
            peer.kill()
    echoes = [Echo(*json.loads(line)) for line in file.read_text().splitlines() if line.endswith("]")]
    assert echoes
    assert [echo for echo in echoes if not echo.answered] == []
    seconds = sorted(echo.seconds for echo in echoes)
    print(f"{len(seconds)} C-ECHO, median {statistics.median(seconds):.3f} s, longest {seconds[-1]:.3f} s")  # noqa: T201
    assert statistics.median(seconds) <= MEDIAN_ECHO_SECONDS
    assert seconds[-1] <= LONGEST_ECHO_SECONDS


def _asked(question: Callable[[], bool]) -> bool:
    """Ask a database that may not answer."""
    try:
        return question()
    except StorageError:
        return False
