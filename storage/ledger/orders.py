"""The inlet of orders: whoever hears of one says it here, whichever way it came, and once."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, or_, select
from sqlalchemy.orm import Session

from cxr_triage.model.errors import OrderRefusedError
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger.ordering import identity_of, locked_studies, settle
from cxr_triage.storage.ledger.snapshots import LISTED
from cxr_triage.storage.order_records import (
    Ending,
    InquiryState,
    Message,
    Order,
    OrderCounts,
    OrderSource,
    Recorded,
    Verdict,
)
from cxr_triage.storage.schema import Base, InquiryRow, OrderMatchRow, OrderRow, StudyRow


class Orders:
    """Takes what people and other systems order; what is about no study yet waits for its images."""

    def __init__(self, database: Database, *, ours: Collection[str] = (), clock: Clock = utc_now) -> None:
        """Open the inlet.

        Args:
            database: of the ledger.
            ours: AE titles and application names that are this service's own: what they say comes from our own list,
                and would feed it back into itself.
            clock: gives the present.
        """
        self._database = database
        self._ours = frozenset(ours)
        self._clock = clock

    def record(self, order: Order, policy: Policy) -> Recorded:
        """Keep an order, and re-rank the studies that it is about, in one transaction; the same again changes nothing.

        Raises:
            OrderRefusedError: it comes from this service itself.
            StorageError: nothing was written; the sender must be told so.
        """
        return self._take(order, policy)

    def end(self, ending: Ending, policy: Policy) -> Recorded:
        """Keep the end of an order, and take the studies off the list that it is about; the same again changes nothing.

        Images that come later bring a study back.

        Raises:
            OrderRefusedError: it comes from this service itself.
            StorageError: nothing was written; the sender must be told so.
        """
        return self._take(ending, policy)

    def counts(self) -> OrderCounts:
        """Say how orders stand."""
        with self._database.read() as session:
            return _count(session)

    def forget_unmatched(self, before: datetime, limit: int = 100) -> int:
        """Forget what was said before that time of studies whose images never came, and the rows made for them.

        Returns:
            How many, at most `limit`: ask again for the rest.
        """
        needless = select(OrderRow).where(OrderRow.recorded_at < before, ~_arrived()).order_by(OrderRow.id).limit(limit)
        with self._database.read() as session:
            found = {row.id: identity_of(row) for row in session.scalars(needless)}
        if not found:
            return 0
        with self._database.transaction() as session:
            # The locks under which an image looks for its orders; then another look, since images may have come.
            studies = locked_studies(session, list(found.values()))
            ids = session.scalars(select(OrderRow.id).where(OrderRow.id.in_(found), ~_arrived())).all()
            session.execute(delete(OrderMatchRow).where(OrderMatchRow.order_id.in_(ids)))
            session.execute(delete(OrderRow).where(OrderRow.id.in_(ids)))
            needed_by_none = StudyRow.study_instance_uid.in_([study.study_instance_uid for study in studies])
            session.execute(
                delete(StudyRow).where(needed_by_none, StudyRow.arrived_at.is_(None), *_referred_to_by_none())
            )
            return len(ids)

    def _take(self, message: Order | Ending, policy: Policy) -> Recorded:
        if message.source is not OrderSource.PERSON and message.sender in self._ours:
            raise OrderRefusedError(
                f"{message.sender} is this service itself: its own list must not come back to it as orders; have the "
                "RIS, and nothing that shows our list, send them"
            )
        with self._database.transaction() as session:
            (recorded,) = take(session, [message], policy, now=self._clock())
            return recorded


def take(session: Session, messages: Sequence[Order | Ending], policy: Policy, *, now: datetime) -> list[Recorded]:
    """Keep messages within a transaction that holds no lock on a study; those that came before change nothing."""
    for name in sorted({f"order {each.source} {each.sender} {each.message_id}" for each in messages}):
        lock_name(session, name)
    known = [_known(session, each) for each in messages]
    new = [each for each, row in zip(messages, known, strict=True) if row is None]
    studies = locked_studies(session, [each.about for each in new])
    rows = [row or _add(session, each, now) for each, row in zip(messages, known, strict=True)]
    for study in studies:
        settle(session, study, policy, now=now, actor=new[0].sender)
    return [
        Recorded(is_new=before is None, verdicts=_verdicts(session, row))
        for row, before in zip(rows, known, strict=True)
    ]


def is_ordered() -> ColumnElement[bool]:
    """Whether somebody has said how urgent a study is, itself and not another study of its accession number."""
    return exists().where(
        OrderMatchRow.study_instance_uid == StudyRow.study_instance_uid,
        OrderMatchRow.verdict == Verdict.AGREES,
        OrderRow.id == OrderMatchRow.order_id,
        OrderRow.level.is_not(None),
        or_(OrderRow.study_instance_uid == "", OrderRow.study_instance_uid == StudyRow.study_instance_uid),
    )


def _known(session: Session, message: Message) -> OrderRow | None:
    return session.scalar(
        select(OrderRow).filter_by(source=message.source, sender=message.sender, message_id=message.message_id)
    )


def _add(session: Session, message: Order | Ending, now: datetime) -> OrderRow:
    row = OrderRow(
        source=message.source,
        sender=message.sender,
        message_id=message.message_id,
        level=message.level if isinstance(message, Order) else None,
        ending=message.reason if isinstance(message, Ending) else None,
        # A sender whose clock is ahead must not outweigh for ever what is said later.
        at=min(message.at, now),
        recorded_at=now,
        **asdict(message.about),
    )
    session.add(row)
    session.flush()
    return row


def _verdicts(session: Session, row: OrderRow) -> dict[str, Verdict]:
    session.flush()
    found = session.execute(
        select(OrderMatchRow.study_instance_uid, OrderMatchRow.verdict).where(OrderMatchRow.order_id == row.id)
    )
    return {str(uid): verdict for uid, verdict in found}


def _arrived() -> ColumnElement[bool]:
    """Whether a message is about a study of which there are images."""
    return exists().where(
        OrderMatchRow.order_id == OrderRow.id,
        StudyRow.study_instance_uid == OrderMatchRow.study_instance_uid,
        StudyRow.arrived_at.is_not(None),
    )


def _referred_to_by_none() -> Iterator[ColumnElement[bool]]:
    """Whether no row of any table is about a study."""
    key = StudyRow.__table__.c.study_instance_uid
    for table in Base.metadata.sorted_tables:
        for reference in table.foreign_keys:
            if reference.column is key:
                yield ~exists().where(reference.parent == StudyRow.study_instance_uid)


def _count(session: Session) -> OrderCounts:
    unknown = LISTED & ~is_ordered()
    asked = (
        select(func.count())
        .select_from(InquiryRow)
        .join(StudyRow, StudyRow.study_instance_uid == InquiryRow.study_instance_uid)
    )
    last_error = (
        select(InquiryRow.last_error)
        .join(StudyRow, StudyRow.study_instance_uid == InquiryRow.study_instance_uid)
        .where(unknown, InquiryRow.last_error.is_not(None))
        .order_by(InquiryRow.changed_at.desc(), InquiryRow.id.desc())
        .limit(1)
    )
    not_counted = (
        select(func.count())
        .select_from(OrderMatchRow)
        .join(StudyRow, StudyRow.study_instance_uid == OrderMatchRow.study_instance_uid)
        .where(LISTED, OrderMatchRow.verdict != Verdict.AGREES)
    )
    return OrderCounts(
        waiting=session.scalar(asked.where(unknown, InquiryRow.state == InquiryState.OPEN)) or 0,
        given_up=session.scalar(asked.where(unknown, InquiryRow.state == InquiryState.GIVEN_UP)) or 0,
        unmatched=session.scalar(select(func.count()).select_from(OrderRow).where(~_arrived())) or 0,
        not_counted=session.scalar(not_counted) or 0,
        last_error=session.scalar(last_error) or "",
    )
