"""The PACS: what it has is on its disk before it answers, and sometimes the sender dies before the answer."""

import os
from collections.abc import Callable
from pathlib import Path

from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event

from chaos.world import JsonLines
from daemons import SUCCESS, RecordingPacs
from journal import Arrival


class DiskPacs(RecordingPacs):
    """A PACS that keeps files and a journal, which outlive it."""

    def __init__(self, folder: Path, *, before_answer: Callable[[], None]) -> None:
        """Go on with the journal that is there.

        Args:
            folder: for `journal.jsonl` and the objects.
            before_answer: called when an object is on disk.
        """
        super().__init__()
        self._objects = folder / "objects"
        self._objects.mkdir(exist_ok=True)
        self._lines = JsonLines(folder / "journal.jsonl")
        self._before_answer = before_answer
        self.journal = [_arrival(line) for line in self._lines]

    def _store(self, event: Event) -> int:
        encoded = event.encoded_dataset(include_meta=False)
        arrival = Arrival.of(event.dataset, encoded)
        self._write(event, arrival, encoded)
        with self._lock:
            self._lines.append(_line(arrival))
            self.journal.append(arrival)
        self._before_answer()
        return SUCCESS

    def _write(self, event: Event, arrival: Arrival, encoded: bytes) -> None:
        with (self._objects / f"{arrival.sop_instance_uid}-{arrival.sha256[:16]}.dcm").open("wb") as file:
            file.write(bytes(128) + b"DICM" + encode_file_meta(event.file_meta) + encoded)
            file.flush()
            os.fsync(file.fileno())


def _line(arrival: Arrival) -> dict[str, object]:
    return {
        "sop_instance_uid": arrival.sop_instance_uid,
        "sop_class_uid": arrival.sop_class_uid,
        "sha256": arrival.sha256,
        "references": sorted(arrival.references),
        "predecessors": sorted(arrival.predecessors),
    }


def _arrival(line: dict[str, object]) -> Arrival:
    references, predecessors = line["references"], line["predecessors"]
    assert isinstance(references, list)
    assert isinstance(predecessors, list)
    return Arrival(
        sop_instance_uid=str(line["sop_instance_uid"]),
        sop_class_uid=str(line["sop_class_uid"]),
        sha256=str(line["sha256"]),
        references=frozenset(references),
        predecessors=frozenset(predecessors),
    )
