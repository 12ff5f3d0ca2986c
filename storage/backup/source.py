"""What is backed up and restored: one service's database and its two folders."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxr_triage.storage.ledger.housekeeping import OWNERS, owner_row
from cxr_triage.storage.ledger.lost import disown
from cxr_triage.storage.upkeep_records import Place

PLACES: Final = tuple(OWNERS)
#: Who acted, in the audit trail.
_ACTOR: Final = "backup"
#: Rows fetched at a time: they hold masks.
ROWS_AT_ONCE: Final = 100
#: Told how far a step has come: its name, how much is done, and of how much (None: not known).
Advance = Callable[[str, int, int | None], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """Where a service keeps what must survive."""

    #: May hold a password: never print it.
    database_url: str
    #: The same without a password.
    printable_database: str
    #: Absolute.
    inbox: Path
    outbox: Path

    def folder(self, place: Place) -> Path:
        """The folder of a place."""
        return self.inbox if place == "inbox" else self.outbox


@dataclass(frozen=True, kw_only=True, slots=True)
class Owned:
    """A file that a row owns."""

    place: Place
    #: Of the row.
    id: int
    #: Relative to the place.
    path: str
    #: SHA-256 of the data set, without the file meta information.
    data_set_sha256: str
    sop_instance_uid: str


def owned_files(session: Session) -> Iterator[Owned]:
    """Every file that a row owns, in the order of the rows."""
    for place, table in OWNERS.items():
        columns = (table.id, table.path, table.sha256, table.sop_instance_uid)
        query = select(*columns).where(table.owns_file).order_by(table.id)
        for row_id, path, digest, uid in session.execute(query.execution_options(yield_per=ROWS_AT_ONCE)):
            yield Owned(place=place, id=row_id, path=path, data_set_sha256=digest, sop_instance_uid=uid)


def in_silence(step: str, done: int, whole: int | None) -> None:
    """Tell nobody."""


def record_lost(session: Session, owned: Owned, problem: str, *, now: datetime) -> None:
    """Record in a backup's ledger that a file is not in the backup.

    Args:
        session: of the backup's ledger.
        owned: the file.
        problem: why, a stable word.
        now: UTC.
    """
    row = owner_row(session, owned.place, owned.id)
    explanation = f"When the backup was made, the image's file was {problem}: have it sent again."
    disown(session, row, problem, explanation, actor=_ACTOR, now=now)
