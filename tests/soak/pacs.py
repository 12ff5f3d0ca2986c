"""A receiving PACS that keeps nothing in memory but counts: each arrival is a line of a file."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Self

from pydicom.uid import SegmentationStorage
from pynetdicom import evt
from pynetdicom.events import Event

from daemons import SUCCESS
from journal import Arrival
from peers import storage_scp

AE_TITLE = "SOAKPACS"


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
        with (
            self.path.open("x") as lines,
            storage_scp(AE_TITLE, [(evt.EVT_C_STORE, self._store, [lines])]) as self.port,
        ):
            yield self

    def arrivals(self) -> Iterator[Arrival]:
        """What has arrived, in that order."""
        with self.path.open() as lines:
            for line in lines:
                yield _from_line(line)

    def _store(self, event: Event, lines: IO[str]) -> int:
        arrival = Arrival.of(event.dataset, event.encoded_dataset(include_meta=False))
        with self._lock:
            lines.write(_as_line(arrival))
            lines.flush()
            self.segs += arrival.sop_class_uid == SegmentationStorage
        return SUCCESS


def _as_line(arrival: Arrival) -> str:
    return json.dumps(asdict(arrival), default=sorted) + "\n"


def _from_line(line: str) -> Arrival:
    told = json.loads(line)
    told["references"], told["predecessors"] = frozenset(told["references"]), frozenset(told["predecessors"])
    return Arrival(**told)
