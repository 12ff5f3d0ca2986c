"""The whole product as processes, and what the acceptance tests push into it and take out of it."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Self

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, _config, evt
from pynetdicom.events import Event, EventHandlerType

from cxr_triage.daemon.demo.serving import free_ports
from journal import Arrival
from peers import storage_scp, storescu

READY = "cxr-triage ready:"
SUCCESS = 0x0000
START_SECONDS = 240
#: The demo's files that show an adult's chest from the front.
CHESTS = ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11")
#: What makes storescu propose a transfer syntax.
DCMTK_OPTIONS = {
    ImplicitVRLittleEndian: "-xi",
    ExplicitVRLittleEndian: "-xe",
    JPEGLosslessSV1: "-xs",
    JPEGLSLossless: "-xt",
    JPEG2000Lossless: "-xv",
    RLELossless: "-xr",
}


def radiographs() -> list[Path]:
    """The demo's files, in their order."""
    return sorted(Path(str(files("cxr_triage.daemon.demo") / "radiographs")).glob("*.dcm"))


def chest_radiographs() -> list[Path]:
    """Those of the demo's files that can be triaged."""
    return [path for path in radiographs() if path.name.startswith(CHESTS)]


def another(path: Path, folder: Path, *, study: str = "", **changes: Any) -> Path:
    """Copy a radiograph as a new instance, of a new study unless one is named; its file."""
    ds = dcmread(path)
    uid = generate_uid()
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid
    ds.StudyInstanceUID = study or generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    made = folder / f"{uid}.dcm"
    ds.save_as(made, enforce_file_format=True)
    return made


def wait_until(reached: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return once it is so; fail when it does not become so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.2)


class Daemon:
    """`cxr-triage serve` with a configuration of its own, started and killed at will."""

    def __init__(
        self,
        folder: Path,
        *,
        destinations: Mapping[str, tuple[str, int]],
        dicom_port: int | None = None,
        database: str = "sqlite:///triage.db",
        extra: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Write the configuration; `start` starts.

        Args:
            folder: everything is below it.
            destinations: AE title and port on loopback by name.
            dicom_port: a free one unless given.
            database: its URL; a file in the folder unless given.
            extra: more TOML tables; `[worklist]` is on already.
            environment: variables of its processes, besides those of this one.
        """
        self.folder = folder
        self.log = folder / "service.log"
        free_port, self.worklist_port, self.web_port = free_ports(3)
        self.dicom_port = dicom_port or free_port
        self.config = folder / "cxr-triage.toml"
        tables = "".join(
            f'[[destination]]\nname = "{name}"\nae_title = "{title}"\nhost = "127.0.0.1"\nport = {port}\n'
            for name, (title, port) in destinations.items()
        )
        self.config.write_text(
            f'[dicom]\nport = {self.dicom_port}\n[storage]\nroot = "."\ndatabase = "{database}"\n'
            f"[worklist]\nenabled = true\nport = {self.worklist_port}\n[web]\nport = {self.web_port}\n{tables}{extra}"
        )
        #: Looked at by each start.
        self.environment = {"CXR_TRIAGE_REPORT__QUIET_SECONDS": "0"} | dict(environment or {})
        self.process: subprocess.Popen[str] | None = None
        #: What every process started here wrote to standard output.
        self.said: list[str] = []

    def start(self, *, wait: bool = True) -> Self:
        """Start it, by default until every port answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command("serve"), env=self._environment(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True).start()
        while wait and (line := lines.get(timeout=START_SECONDS)) is not None:
            if line.startswith(READY):
                return self
        assert not wait, f"serve ended with {self.process.wait()}:\n{self.log.read_text()[-4000:]}"
        return self

    def stop(self) -> None:
        """End it in order, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=120) == 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill everything that is left of it."""
        for pid in self.processes():
            kill_process(pid)
        if self.process is not None:
            self.process.wait()

    def processes(self) -> list[int]:
        """The supervisor and everything below it."""
        if self.process is None or self.process.poll() is not None:
            return []
        return [self.process.pid, *descendants(self.process.pid)]

    def run(self, *arguments: str) -> str:
        """Run another command on the same configuration; its standard output."""
        done = subprocess.run(
            self._command(*arguments), env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cxr_triage.daemon", "--config", str(self.config), *arguments]

    def _environment(self) -> dict[str, str]:
        # Which weights are tested is the caller's choice; nothing else of the configuration is.
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CXR_TRIAGE_") or name.startswith("CXR_TRIAGE_MODEL__")
        }
        return ours | self.environment

    def _read(self, stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
        with stream:
            for line in stream:
                self.said.append(line)
                lines.put(line)
        lines.put(None)


def children(pid: int) -> list[int]:
    """What a process has started, and still runs (proc(5): /proc/pid/task/tid/children)."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def lives(pid: int) -> bool:
    """Whether a process has not ended: one whose parent has not asked how it ended is a zombie (proc(5), stat)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def descendants(pid: int) -> list[int]:
    """Children, and theirs."""
    return [process for child in children(pid) for process in (child, *descendants(child))]


def kill_process(pid: int) -> None:
    """Send SIGKILL, if it still runs."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def send(path: Path, *, port: int, ae_title: str = "CXRTRIAGE") -> bool:
    """Send one file by C-STORE on an association of its own; whether it was acknowledged."""
    meta = read_file_meta_info(path)
    ae = AE(ae_title="TESTMODALITY")
    ae.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    ae.connection_timeout = 5
    association = ae.associate("127.0.0.1", port, ae_title=ae_title)
    if not association.is_established:
        return False
    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True  # the file's own bytes
    try:
        return bool(association.send_c_store(path).get("Status") == SUCCESS)
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before
        association.release()


def send_by_dcmtk(path: Path, *, port: int) -> bool:
    """Send one file by DCMTK's storescu, in the transfer syntax that it is in; whether it was acknowledged."""
    syntax: UID = read_file_meta_info(path).TransferSyntaxUID
    return storescu(port, path, options=["-R", DCMTK_OPTIONS[syntax]]).returncode == 0


class RecordingPacs:
    """A receiving PACS that remembers every arrival."""

    def __init__(self) -> None:
        #: How often each SOP Instance UID came, and with how many different contents.
        self.arrivals: Counter[str] = Counter()
        self.contents: dict[str, set[str]] = defaultdict(set)
        self.objects: dict[str, Dataset] = {}
        #: Every arrival, in their order.
        self.journal: list[Arrival] = []
        #: What a C-STORE is answered; what is not a success is not kept.
        self.answer = SUCCESS
        self.port = 0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve for as long as the block lasts."""
        handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _event: SUCCESS)]
        with storage_scp("TESTPACS", handlers) as self.port:
            yield self

    def of_class(self, sop_class: str) -> list[Dataset]:
        """What arrived of one SOP class, each instance once."""
        with self._lock:
            return [ds for ds in self.objects.values() if ds.SOPClassUID == sop_class]

    def _store(self, event: Event) -> int:
        if self.answer != SUCCESS:
            return self.answer
        arrival = Arrival.of(event.dataset, event.encoded_dataset(include_meta=False))
        uid = arrival.sop_instance_uid
        with self._lock:
            self.arrivals[uid] += 1
            self.contents[uid].add(arrival.sha256)
            self.objects[uid] = event.dataset
            self.journal.append(arrival)
        return SUCCESS
