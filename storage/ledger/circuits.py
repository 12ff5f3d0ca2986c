"""Circuit breakers of the destinations: shared by all senders, and kept over their restarts."""

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import CircuitRow, Event

#: Of a destination that has never failed.
_CLOSED: Final = Circuit()


class Circuits:
    """One row per destination that has ever failed. When to open and to close is the sender's rule."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def of(self, destination: str) -> Circuit:
        """Look one up."""
        with self._database.read() as session:
            return _as_circuit(session.get(CircuitRow, destination))

    def record(self, destination: str, *, before: Circuit, after: Circuit, actor: str) -> bool:
        """Write a transition.

        Args:
            destination: whose.
            before: what the sender decided upon.
            after: what it decided.
            actor: who it is, for the audit trail, which tells of opening and closing.

        Returns:
            Whether it was written: another sender's failures in a row may have been counted since.
        """
        with self._database.transaction() as session:
            row = _locked(session, destination)
            if _as_circuit(row).failures != before.failures:
                return False
            session.merge(
                CircuitRow(
                    destination=destination,
                    failures=after.failures,
                    open_until=after.open_until,
                    reason=after.reason,
                    changed_at=after.changed_at or self._clock(),
                )
            )
            if before.is_open is not after.is_open:
                event = Event.CIRCUIT_OPENED if after.is_open else Event.CIRCUIT_CLOSED
                note(session, self._clock(), actor, event, None, f"{destination}: {after.reason or before.reason}")
            return True

    def forget(self, destination: str, *, actor: str) -> bool:
        """Forget what is not tried any more, however it stood; whether it ever failed."""
        with self._database.read() as session:
            if session.get(CircuitRow, destination) is None:
                return False
        with self._database.transaction() as session:
            row = _locked(session, destination)
            if row is None:
                return False
            if _as_circuit(row).is_open:
                note(session, self._clock(), actor, Event.CIRCUIT_CLOSED, None, f"{destination}: not tried any more")
            session.delete(row)
            return True

    def end_pauses(self, *destinations: str) -> None:
        """Let open circuits be probed at once; how often they failed is still known."""
        with self._database.transaction() as session:
            for destination in sorted(destinations):
                row = _locked(session, destination)
                if row is not None and row.open_until is not None:
                    row.open_until = self._clock()


def circuits_in(session: Session) -> dict[str, Circuit]:
    """Every circuit that was ever opened, by destination."""
    rows = session.scalars(select(CircuitRow).order_by(CircuitRow.destination))
    return {row.destination: _as_circuit(row) for row in rows}


def _locked(session: Session, destination: str) -> CircuitRow | None:
    # By its name, since the row may not be there yet.
    lock_name(session, f"circuit {destination}")
    return session.get(CircuitRow, destination)


def _as_circuit(row: CircuitRow | None) -> Circuit:
    if row is None:
        return _CLOSED
    return Circuit(failures=row.failures, open_until=row.open_until, reason=row.reason, changed_at=row.changed_at)
