"""The demo's PACS: a Storage SCP that keeps the SR and SEG objects it is sent as files."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydicom import Dataset, dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import ThreadedAssociationServer

AE_TITLE: Final = "DEMOPACS"
#: PS3.7 Annex C, C.1.1.
SUCCESS: Final = 0x0000
#: Which kind of result a SOP class is, and the folder that it is kept in.
KINDS: Final = {
    SegmentationStorage: "SEG",
    Comprehensive3DSRStorage: "SR",
    ComprehensiveSRStorage: "SR",
    EnhancedSRStorage: "SR",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """A result that arrived at the PACS."""

    #: "SR" or "SEG".
    kind: str
    path: Path
    sop_instance_uid: str
    study_instance_uid: str
    #: Every SOP Instance UID that the object refers to, in the order of its data set.
    references: tuple[str, ...]


class DemoPacs:
    """A receiving PACS on a free loopback port, for as long as the `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: ThreadedAssociationServer | None = None
        self._write = threading.Lock()

    def __enter__(self) -> Self:
        for kind in KINDS.values():
            (self._folder / kind).mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=AE_TITLE)
        ae.add_supported_context(Verification)
        for sop_class in KINDS:
            ae.add_supported_context(sop_class)
        handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _event: SUCCESS)]
        self._server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()

    @property
    def port(self) -> int:
        """The port that the operating system gave us."""
        assert self._server is not None, "used outside of its `with` block"
        assert self._server.socket is not None, "the server listens"
        return int(self._server.socket.getsockname()[1])

    def objects(self) -> list[StoredObject]:
        """What arrived so far, SEG before SR, each kind by file name."""
        return [read_object(path) for kind in ("SEG", "SR") for path in sorted((self._folder / kind).glob("*.dcm"))]

    def _store(self, event: Event) -> int:
        request = event.request
        assert isinstance(request, C_STORE), "bound to EVT_C_STORE"
        assert request.AffectedSOPClassUID is not None, "mandatory (PS3.7 Table 9.1-1)"
        path = self._folder / KINDS[request.AffectedSOPClassUID] / f"{request.AffectedSOPInstanceUID}.dcm"
        with self._write:  # one association may resend what another still writes
            part = path.with_suffix(".part")
            part.write_bytes(event.encoded_dataset())
            part.replace(path)
        return SUCCESS


def read_object(path: Path) -> StoredObject:
    """Describe an object that the PACS keeps."""
    ds = dcmread(path, stop_before_pixels=True)
    return StoredObject(
        kind=KINDS[ds.SOPClassUID],
        path=path,
        sop_instance_uid=str(ds.SOPInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        references=_references(ds),
    )


def _references(ds: Dataset) -> tuple[str, ...]:
    found = (str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID")
    return tuple(dict.fromkeys(found))
