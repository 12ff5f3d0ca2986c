"""What the deliver role writes: one object, one destination."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.objects import object_of
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.records import Delivery, DeliveryState, ObjectKind
from cxr_triage.storage.schema import DeliveryRow, Event, ObjectRow, RevisionObjectRow

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"


class Dispatch:
    """Hands out deliveries by lease, and keeps them until each is stored or a person must look."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def claim(self, owner: str, destination: str, limit: int) -> list[Delivery]:
        """Claim due deliveries, oldest first. An SR waits until the SEGs of its revision are stored there."""
        now = self._clock()
        waiting = (
            (DeliveryRow.destination == destination)
            & (DeliveryRow.state == DeliveryState.PENDING)
            & leases.is_due(DeliveryRow, now)
            & ~_cites_what_is_not_there()
        )
        if not leases.any_of(self._database, DeliveryRow, waiting):
            return []
        jobs = select(DeliveryRow).where(waiting).order_by(DeliveryRow.id).limit(limit)
        with self._database.transaction() as session:
            rows = leases.claim(session, jobs, DeliveryRow, owner, now + self._lease)
            return [_as_delivery(session, row) for row in rows]

    def record_stored(self, delivery: Delivery) -> None:
        """Record that the destination answered success.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            self._settle(session, row, DeliveryState.STORED, Event.DELIVERED)
            row.last_error = None

    def record_attempt_failed(self, delivery: Delivery, *, error: str, retry_at: datetime) -> None:
        """Record that an attempt failed and when the next is due.

        Args:
            delivery: the attempt.
            error: one sentence for a person, without patient data.
            retry_at: UTC.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            self._note(session, row, Event.DELIVERY_RETRIED, error)
            row.failures += 1
            row.last_error = error
            leases.give_back(row, retry_at)

    def record_dead(self, delivery: Delivery, error: str) -> None:
        """Give a delivery up until a person replays it.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            row.failures += 1
            row.last_error = error
            self._settle(session, row, DeliveryState.DEAD, Event.DELIVERY_DEAD, error)

    def replay_dead(self, destination: str, *, actor: str = "operator") -> int:
        """Put every dead delivery of a destination up again.

        Returns:
            How many.
        """
        dead = select(DeliveryRow).where(
            DeliveryRow.destination == destination, DeliveryRow.state == DeliveryState.DEAD
        )
        with self._database.transaction() as session:
            rows = session.scalars(dead.order_by(DeliveryRow.id).with_for_update()).all()
            for row in rows:
                row.failures = 0
                row.commitment_failures = 0
                self._settle(session, row, DeliveryState.PENDING, Event.REPLAYED, actor=actor)
            return len(rows)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the deliveries whose owner is dead or whose lease has run out; how many."""
        lost = leases.lost(self._database, DeliveryRow, is_alive, now)
        if not leases.any_of(self._database, DeliveryRow, lost):
            return 0
        with self._database.transaction() as session:
            jobs = select(DeliveryRow).where(lost).order_by(DeliveryRow.id)
            rows = session.scalars(jobs.with_for_update(skip_locked=True)).all()
            for row in rows:
                self._note(session, row, Event.RELEASED, f"attempt {row.attempt}")
                leases.give_back(row)
            return len(rows)

    def _settle(
        self,
        session: Session,
        row: DeliveryRow,
        state: DeliveryState,
        event: Event,
        detail: str = "",
        actor: str | None = None,
    ) -> None:
        """End an attempt with a new state."""
        self._note(session, row, event, detail, actor)
        row.state = state
        row.changed_at = self._clock()
        leases.give_back(row)

    def _note(
        self, session: Session, row: DeliveryRow, event: Event, detail: str = "", actor: str | None = None
    ) -> None:
        made = session.get_one(ObjectRow, row.object_id)
        told = f"{made.kind.value} to {row.destination}"
        note(session, self._clock(), actor or row.owner or _ACTOR, event, made, f"{told}: {detail}" if detail else told)


def _cites_what_is_not_there() -> ColumnElement[bool]:
    """Whether a delivery is of an SR, and a SEG of the same revision is not yet at the destination."""
    mine, other = aliased(RevisionObjectRow), aliased(RevisionObjectRow)
    sr, seg, seg_delivery = aliased(ObjectRow), aliased(ObjectRow), aliased(DeliveryRow)
    return exists().where(
        sr.id == DeliveryRow.object_id,
        sr.kind == ObjectKind.SR,
        mine.object_id == sr.id,
        other.revision_id == mine.revision_id,
        seg.id == other.object_id,
        seg.kind == ObjectKind.SEG,
        seg_delivery.object_id == seg.id,
        seg_delivery.destination == DeliveryRow.destination,
        seg_delivery.state.in_((DeliveryState.PENDING, DeliveryState.DEAD)),
    )


def _as_delivery(session: Session, row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        destination=row.destination,
        attempt=row.attempt,
        object=object_of(session.get_one(ObjectRow, row.object_id)),
        failures=row.failures,
    )
