"""Studies whose order the RIS is asked for: handed out by lease, and answered in the transaction that orders."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.ordering import identities_of
from cxr_triage.storage.ledger.orders import is_ordered, take
from cxr_triage.storage.ledger.snapshots import LISTED
from cxr_triage.storage.order_records import Identity, Inquiry, InquiryState, Order, Verdict
from cxr_triage.storage.schema import InquiryRow, OrderRow, StudyRow

#: The listed studies of which nobody has said how urgent they are.
_UNKNOWN: Final = LISTED & ~is_ordered()
_IS_ANSWERED: Final = InquiryRow.state == InquiryState.ANSWERED
_OF_STUDY: Final = StudyRow.study_instance_uid == InquiryRow.study_instance_uid


class Inquiries:
    """One per study: its place on the list does not wait for it."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def claim(self, owner: str) -> Inquiry | None:
        """Claim the study to ask for next, the one tried least often first; None: nothing is due."""
        if not self._any_due():
            return None
        now = self._clock()
        with self._database.transaction() as session:
            self._plan(session, now)
            next_one = (
                select(InquiryRow)
                .join(StudyRow, _OF_STUDY)
                .where(_due(now))
                .order_by(_IS_ANSWERED, InquiryRow.failures, InquiryRow.next_attempt_at, InquiryRow.id)
                .limit(1)
            )
            rows = leases.claim(session, next_one, InquiryRow, owner, now + self._lease)
            return next((_as_inquiry(session, row) for row in rows), None)

    def record_answer(
        self,
        inquiry: Inquiry,
        orders: Sequence[Order],
        policy: Policy,
        *,
        retry_at: datetime | None,
        again_at: datetime | None = None,
    ) -> bool:
        """Take the orders that the RIS answered with, once: what it says again unchanged is no new word of it.

        Args:
            inquiry: the attempt.
            orders: the answer.
            policy: what the site decided.
            retry_at: when to ask again where none of them counts, UTC; None: no more.
            again_at: when to ask again where one counts, since it may be changed there, UTC; None: no more.

        Returns:
            Whether one counts.

        Raises:
            StaleAttemptError: a later attempt has the study.
        """
        with self._database.transaction() as session:
            row = leases.held(session, InquiryRow, inquiry.id, inquiry.attempt)
            recorded = take(session, _words(session, orders, row), policy, now=self._clock())
            found = {each.verdicts.get(row.study_instance_uid) for each in recorded}
            if Verdict.AGREES in found:
                row.state, row.last_error, row.changed_at = InquiryState.ANSWERED, None, self._clock()
                leases.give_back(row, again_at)
            else:
                self._put_off(row, "the RIS names another patient", retry_at)
            return Verdict.AGREES in found

    def record_unanswered(self, inquiry: Inquiry, *, error: str, retry_at: datetime | None) -> None:
        """Record that an attempt came to nothing; a study that is answered for stays so.

        Args:
            inquiry: the attempt.
            error: why, in one sentence for a person, without patient data.
            retry_at: when to ask again, UTC; None: no more.

        Raises:
            StaleAttemptError: a later attempt has the study.
        """
        with self._database.transaction() as session:
            row = leases.held(session, InquiryRow, inquiry.id, inquiry.attempt)
            self._put_off(row, error, retry_at)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the studies whose owner is dead or whose lease has run out; how many."""

        def release(_session: Session, row: InquiryRow) -> None:
            leases.give_back(row, row.next_attempt_at)

        lost = leases.lost(self._database, InquiryRow, is_alive, now)
        return leases.end_each(self._database, InquiryRow, lost, release)

    def _any_due(self) -> bool:
        """Reads only: an idle ledger takes no write lock."""
        due = select(InquiryRow.id).join(StudyRow, _OF_STUDY).where(_due(self._clock())).limit(1)
        with self._database.read() as session:
            return session.scalar(due) is not None or session.scalar(_unplanned().limit(1)) is not None

    def _plan(self, session: Session, now: datetime) -> None:
        """Ask for what came onto the list since."""
        lock_name(session, "inquiries")
        session.add_all(
            InquiryRow(
                study_instance_uid=uid,
                state=InquiryState.OPEN,
                created_at=now,
                changed_at=now,
                attempt=0,
                failures=0,
            )
            for uid in session.scalars(_unplanned())
        )
        session.flush()

    def _put_off(self, row: InquiryRow, error: str, retry_at: datetime | None) -> None:
        if row.state is not InquiryState.ANSWERED:
            row.state = InquiryState.OPEN if retry_at else InquiryState.GIVEN_UP
            row.failures += 1
        row.last_error, row.changed_at = error, self._clock()
        leases.give_back(row, retry_at)


def count_inquiries(database: Database) -> dict[InquiryState, int]:
    """Count the studies that the RIS was asked for; open are those alone that still wait for its answer."""
    counted = (
        select(InquiryRow.state, func.count())
        .join(StudyRow, _OF_STUDY)
        .where((InquiryRow.state != InquiryState.OPEN) | _UNKNOWN)
        .group_by(InquiryRow.state)
    )
    with database.read() as session:
        return dict.fromkeys(InquiryState, 0) | dict(session.execute(counted).all())


def _unplanned() -> Select[str]:
    planned = exists().where(InquiryRow.study_instance_uid == StudyRow.study_instance_uid)
    return select(StudyRow.study_instance_uid).where(_UNKNOWN, ~planned).order_by(StudyRow.study_instance_uid)


def _due(now: datetime) -> ColumnElement[bool]:
    unanswered = _UNKNOWN & (InquiryRow.state == InquiryState.OPEN)
    waits = LISTED & StudyRow.claimed_at.is_(None)
    again = waits & _IS_ANSWERED & InquiryRow.next_attempt_at.is_not(None)
    return or_(unanswered, again) & leases.is_due(InquiryRow, now)


def _words(session: Session, orders: Sequence[Order], row: InquiryRow) -> list[Order]:
    """Tell what a RIS says anew from what it says again.

    Its entries have no identity of their own: one that goes back to what it was looks like the message of then. So an
    answer in which anything differs from the last word about the same is a new word as a whole, at its instant.
    """
    by_study: dict[Identity, Order] = {}
    for each in sorted(orders, key=lambda order: order.level, reverse=True):
        by_study[each.about] = each  # the most urgent one of an instant counts: `counting`
    last = {about: _last_word(session, each) for about, each in by_study.items()}
    if not any(last.values()):
        return list(by_study.values())
    known = {about: word.message_id for about, word in last.items() if word and word.level is by_study[about].level}
    if len(known) == len(by_study):
        return [replace(each, message_id=known[about]) for about, each in by_study.items()]
    return [replace(each, message_id=f"{each.message_id} {row.id}.{row.attempt}") for each in by_study.values()]


def _last_word(session: Session, order: Order) -> OrderRow | None:
    of_it = select(OrderRow).filter_by(source=order.source, sender=order.sender, **asdict(order.about))
    return session.scalar(of_it.order_by(OrderRow.at.desc(), OrderRow.id.desc()).limit(1))


def _as_inquiry(session: Session, row: InquiryRow) -> Inquiry:
    """Name the study by the first of its images that has an accession number, else by its first."""
    images = identities_of(session, row.study_instance_uid)
    numbered = [image for image in images if image.accession_number]
    about = next(iter(numbered or images), Identity(study_instance_uid=row.study_instance_uid))
    return Inquiry(
        id=row.id,
        attempt=row.attempt,
        failures=row.failures,
        since=row.created_at,
        is_answered=row.state is InquiryState.ANSWERED,
        about=about,
    )
