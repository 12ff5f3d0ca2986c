"""A receiving PACS that keeps nothing in memory but counts: each arrival is a line of a file."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from daemons import SUCCESS
from journal import references

AE_TITLE = "SOAKPACS"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One object that was sent here, as one answered C-STORE."""

    sop_instance_uid: str
    #: Whether it is a SEG; else it is an SR.
    is_seg: bool
    #: Of its data set as it came.
    sha256: str
    #: Every SOP Instance UID that it refers to, but for those of earlier reports.
    references: list[str]
    #: The reports that it takes the place of (PS3.3 C.17.2).
    predecessors: list[str]


class CountingPacs:
    """Answers success, writes down what came, and forgets it."""

    def __init__(self, path: Path) -> None:
        """Describe it; `running` starts it.

        Args:
            path: a file that does not exist yet, for one line of JSON per arrival.
        """
        self.path = path
        self.port = 0
        #: Arrivals of SEGs: one per image, if nothing is sent twice.
        self.segs = 0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Serve for as long as the block lasts."""
        ae = AE(ae_title=AE_TITLE)
        for sop_class in (Verification, SegmentationStorage, Comprehensive3DSRStorage):
            ae.add_supported_context(sop_class)
        with self.path.open("x") as lines:
            handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, self._store, [lines])]
            server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
            assert server is not None
            assert server.socket is not None
            self.port = int(server.socket.getsockname()[1])
            try:
                yield self
            finally:
                server.shutdown()

    def arrivals(self) -> Iterator[Arrival]:
        """What has arrived, in that order."""
        with self.path.open() as lines:
            for line in lines:
                yield Arrival(**json.loads(line))

    def _store(self, event: Event, lines: IO[str]) -> int:
        assert isinstance(event.request, C_STORE)
        encoded = event.encoded_dataset(include_meta=False)
        arrival = _arrival(event.dataset, hashlib.sha256(encoded).hexdigest())
        with self._lock:
            lines.write(json.dumps(asdict(arrival)) + "\n")
            lines.flush()
            self.segs += arrival.is_seg
        return SUCCESS


def _arrival(ds: Dataset, sha256: str) -> Arrival:
    predecessors = sorted(uid for item in ds.get("PredecessorDocumentsSequence", []) for uid in references(item))
    return Arrival(
        sop_instance_uid=str(ds.SOPInstanceUID),
        is_seg=ds.SOPClassUID == SegmentationStorage,
        sha256=sha256,
        references=sorted(references(ds).difference(predecessors)),
        predecessors=predecessors,
    )
