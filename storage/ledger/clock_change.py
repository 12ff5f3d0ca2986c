"""What the ledger does when a person says that the machine's clock was set rightly: nobody has waited for longer."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, DateTime, Interval, Table, func, literal, select, type_coerce, update
from sqlalchemy.orm import Session

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.columns import UtcTime
from cxr_triage.storage.database import Database
from cxr_triage.storage.schema import AuditRow, Base, Event, ListChangeRow, PredictionRow, RevisionRow

#: What was told outside (dates in reports, the history) stays as it was told; no wait is counted from it.
_TOLD: Final = {row.__tablename__ for row in (AuditRow, ListChangeRow, PredictionRow, RevisionRow)}
#: Our function within SQLite, which keeps times as text.
_MOVE: Final = "cxr_triage_move"


class ClockChange:
    """Moves the times that waits are counted from. No role may be at work meanwhile."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def move(self, by: timedelta, *, anchor: str, actor: str) -> bool:
        """Move every time that is compared with the present, in one transaction.

        Args:
            by: how far the clock that counts from now on is ahead of the one before.
            anchor: names the time from before; a second move away from it does nothing.
            actor: who says so.

        Returns:
            Whether anything was done.
        """
        with self._database.transaction() as session:
            if self._is_done(session, anchor):
                return False
            move = _mover(session, by)
            for table in Base.metadata.sorted_tables:
                if table.name not in _TOLD and (times := _times(table)):
                    session.execute(update(table).values({column: move(column) for column in times}))
            session.add(
                AuditRow(
                    at=self._clock(),
                    actor=actor,
                    event=Event.CLOCK_ACCEPTED.value,
                    detail=f"{_since(anchor)}: moved by {by.total_seconds():.3f} s",
                )
            )
            return True

    def _is_done(self, session: Session, anchor: str) -> bool:
        done = select(AuditRow.id).where(
            AuditRow.event == Event.CLOCK_ACCEPTED.value, AuditRow.detail.startswith(_since(anchor))
        )
        return session.scalar(done.limit(1)) is not None


def _since(anchor: str) -> str:
    return f"time of anchor {anchor}"


def _times(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if isinstance(column.type, UtcTime)]


def _mover(session: Session, by: timedelta) -> Callable[[Column[Any]], ColumnElement[datetime]]:
    """Say how this database adds to a time; nothing stays nothing."""
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        return lambda column: type_coerce(column, DateTime(timezone=True)) + literal(by, Interval())
    driver: Any = connection.connection.driver_connection
    driver.create_function(_MOVE, 1, lambda text: text and _moved(text, by), deterministic=True)
    moved: Callable[[Column[Any]], ColumnElement[datetime]] = getattr(func, _MOVE)
    return moved


def _moved(text: str, by: timedelta) -> str:
    """As SQLAlchemy writes times into SQLite."""
    return (datetime.fromisoformat(text) + by).isoformat(sep=" ", timespec="microseconds")
