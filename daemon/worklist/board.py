"""The reading list in its order, read once for all who ask while it stays as it is."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from cxr_triage.model.priority import Policy, Ranked
from cxr_triage.storage.list_records import ListChange, ListedImage, ListedStudy, ListMark, ListVersion, Snapshot

#: A study with its place on the list.
Place = Ranked[ListedStudy]


class Source(Protocol):
    """What the ledger gives (`ReadingList`)."""

    def mark(self) -> ListMark:
        """What a snapshot would say, in short."""

    def snapshot(self) -> Snapshot:
        """The list at one instant."""

    def images(self) -> Mapping[str, Sequence[ListedImage]]:
        """Images of the listed studies."""

    def changes_after(self, number: int, limit: int) -> Sequence[ListChange]:
        """The next changes of the list after that many."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """The list at one version."""

    version: ListVersion
    #: Since when this is the order, UTC: the same for the same version.
    since: datetime
    #: The study to be read first at the front.
    places: Sequence[Place]
    read_images: Callable[[], Mapping[str, Sequence[ListedImage]]]

    @cached_property
    def images(self) -> Mapping[str, Sequence[ListedImage]]:
        """Images by Study Instance UID, read when somebody asks for one first."""
        return self.read_images()


class Boards:
    """Gives the list as it is now. Threads may share it."""

    def __init__(self, source: Source, policy: Policy) -> None:
        self._source = source
        self._policy = policy
        self._lock = threading.Lock()
        self._last: tuple[ListMark, Board] | None = None

    def now(self) -> Board:
        """Give the list, read anew only if it has changed.

        Raises:
            StorageError: the ledger could not be reached.
        """
        with self._lock:
            # Asked before the snapshot is taken: what happens between both only has it read once more.
            mark = self._source.mark()
            if self._last is None or self._last[0] != mark:
                self._last = None  # a hundred thousand studies need not be in memory twice
                self._last = (mark, self._read())
            return self._last[1]

    def _read(self) -> Board:
        snapshot = self._source.snapshot()
        return Board(
            version=snapshot.version,
            since=self._since(snapshot),
            places=snapshot.ranked(self._policy),
            read_images=self._source.images,
        )

    def _since(self, snapshot: Snapshot) -> datetime:
        """When the last change was written down, or the last study became overdue."""
        changes = self._source.changes_after(snapshot.version.changes - 1, 1)
        waiting = (study for study in snapshot.studies if study.claimed_at is None)
        overdue = (study.priority.overdue_at for study in waiting if study.priority.overdue_at < snapshot.at)
        arrived = (study.arrived_at for study in snapshot.studies)
        return max([change.at for change in changes] + [*overdue], default=max(arrived, default=snapshot.at))
