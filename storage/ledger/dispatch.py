"""What the deliver role writes: one object, one destination."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Delivery, DeliveryState, Instead
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.objects import object_of
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import ObjectKind
from cxr_triage.storage.schema import DeliveryRow, Event, ObjectRow, RevisionObjectRow

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"
#: Deliveries given up in one transaction, so that other writers get their turn.
_GIVEN_UP_AT_ONCE: Final = 200


class Dispatch:
    """Hands out deliveries by lease, and keeps them until each is stored or a person must look."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts."""
        return self._lease

    def claim(self, owner: str, destination: str, limit: int) -> list[Delivery]:
        """Claim due deliveries: those never tried first, oldest first, then those whose time came earliest.

        An object waits until those of its revision that it may cite are stored there.
        """
        now = self._clock()
        waiting = (
            (DeliveryRow.destination == destination)
            & (DeliveryRow.state == DeliveryState.PENDING)
            & leases.is_due(DeliveryRow, now)
            & ~waits_for_cited(DeliveryState.PENDING, DeliveryState.DEAD)
        )
        if not leases.any_of(self._database, DeliveryRow, waiting):
            return []
        in_turn = (DeliveryRow.next_attempt_at.nulls_first(), DeliveryRow.id)
        jobs = select(DeliveryRow).where(waiting).order_by(*in_turn).limit(limit)
        with self._database.transaction() as session:
            rows = leases.claim(session, jobs, DeliveryRow, owner, now + self._lease)
            return [_as_delivery(session, row) for row in rows]

    def give_back_forgotten(self, owner: str, destination: str) -> int:
        """Give back what this owner holds for a destination though nothing is under way there; how many those were.

        Where the database failed after an object was sent, it is sent again.
        """
        mine = (DeliveryRow.owner == owner) & (DeliveryRow.destination == destination)
        return leases.give_back_forgotten(self._database, mine, DeliveryRow, [])

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
            self._fail(session, row, error, retry_at)

    def record_not_taken(self, delivery: Delivery, *, error: str) -> None:
        """Record that the destination does not support this class of objects: what it gets instead is to be decided.

        Args:
            delivery: the attempt.
            error: one sentence for a person, without patient data.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            row.last_error = error
            row.instead, row.instead_id = Instead.DUE, None
            self._settle(session, row, DeliveryState.NOT_TAKEN, Event.NOT_TAKEN, error)

    def record_refused(self, delivery: Delivery, *, error: str, retry_at: datetime | None) -> None:
        """Record that the destination answered with a permanent failure.

        Args:
            delivery: the attempt.
            error: one sentence for a person, without patient data.
            retry_at: when to offer it again, UTC; None: it is given up until a person replays it.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            row.refusals += 1
            self._fail(session, row, error, retry_at)

    def record_dead(self, delivery: Delivery, error: str) -> None:
        """Give a delivery up until a person replays it.

        Raises:
            StaleAttemptError: a later attempt has the delivery.
        """
        with self._database.transaction() as session:
            row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
            self._fail(session, row, error, None)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Give up claims on what was not tried: nothing happened to it. What a later attempt has is left to it."""
        if not deliveries:
            return
        with self._database.transaction() as session:
            for delivery in deliveries:
                with suppress(StaleAttemptError):
                    row = leases.held(session, DeliveryRow, delivery.id, delivery.attempt)
                    leases.give_back(row, row.next_attempt_at)

    def give_up(self, destination: str, *, pending_since: datetime, error: str) -> int:
        """Give up every delivery to a destination that has been pending since that time, or longer.

        Returns:
            How many, those that somebody is sending just now left out.
        """
        aged = (
            select(DeliveryRow)
            .where(
                DeliveryRow.destination == destination,
                DeliveryRow.state == DeliveryState.PENDING,
                DeliveryRow.changed_at <= pending_since,
                DeliveryRow.owner.is_(None),
            )
            .order_by(DeliveryRow.id)
            .limit(_GIVEN_UP_AT_ONCE)
        )
        given_up = 0
        while True:
            with self._database.transaction() as session:
                rows = session.scalars(aged.with_for_update(skip_locked=True)).all()
                for row in rows:
                    row.last_error = error
                    self._settle(session, row, DeliveryState.DEAD, Event.DELIVERY_DEAD, error)
            given_up += len(rows)
            if len(rows) < _GIVEN_UP_AT_ONCE:
                return given_up

    def replay_dead(self, destination: str, *, actor: str = "operator") -> int:
        """Put every dead delivery of a destination up again.

        Returns:
            How many.
        """
        return len(self._replay(DeliveryRow.destination == destination, DeliveryState.DEAD, actor))

    def replay_not_taken(self, destination: str, *, actor: str = "operator") -> int:
        """Offer a destination again what it did not take, as far as the outbox still has it.

        Not the stand-ins among it: they follow if the destination still does not take what they stand for. And not what
        was superseded or withdrawn since.

        Returns:
            How many.
        """
        in_outbox = exists().where(
            ObjectRow.id == DeliveryRow.object_id,
            ObjectRow.owns_file,
            ObjectRow.stand_in.is_(False),
            ObjectRow.rejected.is_(None),
        )
        which = in_outbox & (DeliveryRow.destination == destination)
        return len(self._replay(which, DeliveryState.NOT_TAKEN, actor))

    def replay_object(
        self, sop_instance_uid: str, destinations: Collection[str], *, actor: str = "operator"
    ) -> list[str]:
        """Put an object up again wherever, of these destinations, its delivery is dead or was not taken.

        Returns:
            Where.
        """
        of_object = exists().where(
            ObjectRow.id == DeliveryRow.object_id, ObjectRow.sop_instance_uid == sop_instance_uid
        )
        here = of_object & DeliveryRow.destination.in_(destinations)
        not_taken = here & exists().where(
            ObjectRow.id == DeliveryRow.object_id, ObjectRow.owns_file, ObjectRow.rejected.is_(None)
        )
        return [
            *self._replay(here, DeliveryState.DEAD, actor),
            *self._replay(not_taken, DeliveryState.NOT_TAKEN, actor),
        ]

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the deliveries whose owner is dead or whose lease has run out; how many."""

        def release(session: Session, row: DeliveryRow) -> None:
            self._note(session, row, Event.RELEASED, f"attempt {row.attempt}")
            leases.give_back(row)

        lost = leases.lost(self._database, DeliveryRow, is_alive, now)
        return leases.end_each(self._database, DeliveryRow, lost, release)

    def _replay(self, which: ColumnElement[bool], state: DeliveryState, actor: str) -> list[str]:
        ended = select(DeliveryRow).where(which, DeliveryRow.state == state)
        with self._database.transaction() as session:
            rows = session.scalars(ended.order_by(DeliveryRow.id).with_for_update()).all()
            for row in rows:
                row.failures = row.refusals = row.commitment_failures = 0
                row.instead = row.instead_id = None
                self._settle(session, row, DeliveryState.PENDING, Event.REPLAYED, actor=actor)
            return [row.destination for row in rows]

    def _fail(self, session: Session, row: DeliveryRow, error: str, retry_at: datetime | None) -> None:
        """End an attempt without success; without a next one, it is given up."""
        row.failures += 1
        row.last_error = error
        if retry_at is None:
            self._settle(session, row, DeliveryState.DEAD, Event.DELIVERY_DEAD, error)
        else:
            self._note(session, row, Event.DELIVERY_RETRIED, error)
            leases.give_back(row, retry_at)

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


def waits_for_cited(*states: DeliveryState) -> ColumnElement[bool]:
    """Whether an object of the same revision that a delivery's may cite is in one of these states there."""
    mine, other = aliased(RevisionObjectRow), aliased(RevisionObjectRow)
    citing, cited, delivery = aliased(ObjectRow), aliased(ObjectRow), aliased(DeliveryRow)
    may_cite = [and_(citing.kind == kind, cited.kind.in_(kind.before)) for kind in ObjectKind if kind.before]
    return exists().where(
        citing.id == DeliveryRow.object_id,
        mine.object_id == citing.id,
        other.revision_id == mine.revision_id,
        cited.id == other.object_id,
        cited.stand_in.is_(False),
        or_(*may_cite),
        delivery.object_id == cited.id,
        delivery.destination == DeliveryRow.destination,
        delivery.state.in_(states),
    )


def _as_delivery(session: Session, row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        destination=row.destination,
        attempt=row.attempt,
        object=object_of(session.get_one(ObjectRow, row.object_id)),
        pending_since=row.changed_at,
        failures=row.failures,
        refusals=row.refusals,
    )
