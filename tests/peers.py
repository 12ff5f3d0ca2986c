"""Real peers on loopback: DCMTK's programs, Orthanc, and our own services in a thread."""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom import AE
from pynetdicom.events import EventHandlerType

from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer
from cxr_triage.daemon.sockets import listening_socket

LOOPBACK = "127.0.0.1"
#: By absolute path: pynetdicom puts programs of the same names into the environment.
STORESCU = "/usr/bin/storescu"
STORESCP = "/usr/bin/storescp"
FINDSCU = "/usr/bin/findscu"
WLMSCPFS = "/usr/bin/wlmscpfs"
ORTHANC = "/usr/sbin/Orthanc"
#: Orthanc's plugin that serves DICOMweb.
DICOM_WEB = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
#: Orthanc's plugin that serves a modality worklist from files.
WORKLISTS = "/usr/share/orthanc/plugins/libModalityWorklists.so"
#: pynetdicom drops its socket unclosed when nobody accepts the connection; it is closed when it is collected.
REFUSED_CONNECTION = "ignore:unclosed <socket:ResourceWarning"
#: Until a peer must answer, on a machine that is busy with other things.
PATIENCE_SECONDS = 60


def free_port() -> int:
    """Give a port on which nobody listens now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


@contextmanager
def serving(build: Callable[[socket.socket], DicomServer]) -> Iterator[int]:
    """Run one of our servers in a thread; gives its port. Leaving drains it, and raises what it raised."""
    listener = listening_socket(LOOPBACK, 0, name="test")
    port = listener.getsockname()[1]
    server = build(listener)
    with running(server.serve):
        yield port


@contextmanager
def running(serve: Callable[[threading.Event, Callable[[], None]], None]) -> Iterator[threading.Event]:
    """Run a role in a thread from readiness to the end of the block; gives the event that stops it."""
    stop, ready = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            serve(stop, ready.set)
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            errors.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(PATIENCE_SECONDS)
        yield stop
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    for error in errors:
        raise error


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds; it is a failure when that takes much longer than it ever should."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


def storescu(
    port: int, *files: Path, options: Sequence[str] = (), calling: str = "MODALITY", called: str = "CXRTRIAGE"
) -> "subprocess.CompletedProcess[str]":
    """Push files with DCMTK."""
    command = [STORESCU, "-v", "-aet", calling, "-aec", called, *options, LOOPBACK, str(port), *map(str, files)]
    return _run(command)


def findscu(
    port: int,
    *keys: str,
    folder: Path,
    calling: str = "READER",
    called: str = "CXRLIST",
    options: Sequence[str] = ("-W",),
) -> tuple["subprocess.CompletedProcess[str]", list[Dataset]]:
    """Query with DCMTK, a modality worklist unless said otherwise; gives the answers in the order in which they came.

    Keys are `Name=value`, or a file that holds them.
    """
    folder.mkdir(exist_ok=True)
    arguments = [argument for key in keys if "/" not in key for argument in ("-k", key)]
    files = [key for key in keys if "/" in key]
    command = [FINDSCU, "-v", *options, "-X", "-od", str(folder), "-aet", calling, "-aec", called, *arguments]
    finished = _run([*command, LOOPBACK, str(port), *files])
    return finished, [dcmread(path) for path in sorted(folder.glob("rsp*.dcm"))]


@contextmanager
def storescp(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """Receive with DCMTK into a folder, bytes as they come; gives the port."""
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    command = [STORESCP, "-aet", "PACS", "-B", "-od", str(folder), *options, str(port)]
    with _started(command, answers=lambda: _accepts(port)):
        yield port


@contextmanager
def wlmscpfs(folder: Path, entries: Sequence[Dataset], *options: str, ae_title: str = "RIS") -> Iterator[int]:
    """Run DCMTK's modality worklist with these entries; gives its port."""
    port = free_port()
    write_entries(folder / ae_title, entries)
    (folder / ae_title / "lockfile").touch()
    with _started([WLMSCPFS, "-dfp", str(folder), *options, str(port)], answers=lambda: _accepts(port)):
        yield port


def write_entries(folder: Path, entries: Sequence[Dataset]) -> None:
    """Write worklist entries as files, as DCMTK and Orthanc read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(entries):
        entry.save_as(folder / f"{number}.wl", enforce_file_format=True)


@contextmanager
def storage_scp(ae_title: str, handlers: list[EventHandlerType]) -> Iterator[int]:
    """Run a PACS of pynetdicom that takes our results; gives its port."""
    ae = AE(ae_title=ae_title)
    for sop_class in (VERIFICATION, SegmentationStorage, Comprehensive3DSRStorage):
        ae.add_supported_context(sop_class)
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=handlers)
    assert server is not None
    assert server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


@contextmanager
def stalling(port: int, *, after_bytes: int) -> Iterator[int]:
    """Stand between a sender and a port, and go silent after association set-up and so many bytes more.

    Both connections stay open, as when a cable is pulled or a machine hangs. Gives the port to send to.
    """
    with socket.create_server((LOOPBACK, 0)) as listener, socket.create_connection((LOOPBACK, port)) as receiver:

        def relay() -> None:
            sender, _ = listener.accept()
            held.append(sender)
            receiver.sendall(sender.recv(65536))  # A-ASSOCIATE-RQ
            sender.sendall(receiver.recv(65536))  # A-ASSOCIATE-AC
            left = after_bytes
            while left and (part := sender.recv(left)):
                receiver.sendall(part)
                left -= len(part)

        held: list[socket.socket] = []
        relaying = threading.Thread(target=relay)
        relaying.start()
        try:
            yield listener.getsockname()[1]
        finally:
            relaying.join(PATIENCE_SECONDS)
            for sender in held:
                sender.close()


class Orthanc:
    """A running Orthanc."""

    def __init__(self, *, dicom_port: int, http_port: int) -> None:
        self.dicom_port = dicom_port
        #: Address of its REST API and plugins.
        self.http = f"http://{LOOPBACK}:{http_port}"

    def get(self, path: str) -> Any:
        """Ask its REST API for JSON."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """Ask its REST API for a file."""
        with urllib.request.urlopen(self.http + path, timeout=PATIENCE_SECONDS) as answer:
            content = answer.read()
        assert isinstance(content, bytes)
        return content

    def post(self, path: str, body: bytes) -> Any:
        """Send something to its REST API."""
        request = urllib.request.Request(self.http + path, data=body, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read())

    def delete(self, path: str) -> None:
        """Remove a resource."""
        request = urllib.request.Request(self.http + path, method="DELETE")
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            answer.read()

    def instances(self) -> list[str]:
        """SOP Instance UIDs that it has, sorted."""
        return sorted(each["MainDicomTags"]["SOPInstanceUID"] for each in self.get("/instances?expand"))

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def orthanc(
    folder: Path,
    *,
    modalities: dict[str, tuple[str, str, int]] | None = None,
    plugins: Sequence[str] = (),
    ae_title: str = "PACS",
    worklists: Path | None = None,
) -> Iterator[Orthanc]:
    """Run Orthanc, reachable from this machine only.

    Args:
        folder: for its configuration and data.
        modalities: what it may send to, by name: AE title, host, port.
        plugins: paths of shared objects.
        ae_title: its own.
        worklists: folder of entries, for the plugin that serves them.
    """
    folder.mkdir(exist_ok=True)
    server = Orthanc(dicom_port=free_port(), http_port=(http_port := free_port()))
    configuration = {
        "Name": "PACS",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": ae_title,
        "DicomPort": server.dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowFindWorklist": True,
        "DicomModalities": modalities or {},
        "Plugins": list(plugins),
        "Worklists": {"Enable": worklists is not None, "Database": str(worklists)},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with _started([ORTHANC, str(path)], answers=server.answers):
        yield server


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_SECONDS, check=False
    )


@contextmanager
def _started(command: Sequence[str], *, answers: Callable[[], bool]) -> Iterator[None]:
    """Run a server until the end of the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()) as server:
        try:
            eventually(lambda: answers() or server.poll() is not None)
            assert server.poll() is None, f"{command[0]} ended at once"
            yield
        finally:
            server.terminate()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1):
            return True
    except OSError:
        return False
