"""A receiver in a thread, and what it keeps: shared by the tests of receiving."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from pydicom import Dataset, dcmwrite, uid
from pynetdicom.dsutils import split_dataset

from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store
from cxr_triage.daemon.dicom_server import DicomServer, Limits
from cxr_triage.daemon.receive import (
    Receiver,
    receiving_server,
)
from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import Inbox
from cxr_triage.storage.ledger import Intake
from cxr_triage.storage.space import LowWater
from peers import LOOPBACK, serving


@dataclass
class Reception:
    """A receiver and what it keeps."""

    port: int
    folder: Path
    intake: Intake
    rings: list[None] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Every file below the inbox, finished or not."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @property
    def peer(self) -> Peer:
        """The receiver as a destination."""
        return Peer(calling_ae_title="MODALITY", ae_title="CXRTRIAGE", host=LOOPBACK, port=self.port)

    def send(self, path: Path) -> int:
        """Send a file's bytes as they are; gives the status."""
        file = Part10File.read(path)
        with associated(self.peer, [file]) as association:
            return store(association, file, self.peer)


@contextmanager
def receiving(
    folder: Path,
    database: Database,
    *,
    allowed_ae_titles: tuple[str, ...] = (),
    require_called_ae_title: bool = False,
    limits: Limits | None = None,
    low_water: LowWater | None = None,
) -> Iterator[Reception]:
    """Run a receiver."""
    reception = Reception(port=0, folder=folder / "inbox", intake=Intake(database))
    receiver = Receiver(
        inbox=Inbox(reception.folder),
        intake=reception.intake,
        low_water=low_water or LowWater(folders=[folder], minimum_free_bytes=0),
        on_received=lambda: reception.rings.append(None),
    )

    def build(listener: socket.socket) -> DicomServer:
        return receiving_server(
            receiver,
            listener=listener,
            ae_title="CXRTRIAGE",
            limits=limits or Limits(),
            allowed_ae_titles=allowed_ae_titles,
            require_called_ae_title=require_called_ae_title,
        )

    with serving(build) as port:
        reception.port = port
        yield reception


def data_set_bytes(path: Path) -> bytes:
    """What follows a file's meta information."""
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """Encode a data set, without file meta information."""
    buffer = BytesIO()
    dcmwrite(
        buffer,
        dataset,
        implicit_vr=uid.UID(syntax).is_implicit_VR,
        little_endian=uid.UID(syntax).is_little_endian,
        force_encoding=True,
    )
    return buffer.getvalue()
