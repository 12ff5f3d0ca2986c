"""What we ask destinations to commit to (PS3.4 Annex J, as SCU), and what they answer."""

import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import (
    DUPLICATE_TRANSACTION_UID,
    CommitmentCounts,
    CommitmentReport,
    CommitmentRequest,
    CommitmentState,
    ModalityRequestState,
    Outcome,
    Reception,
    Reference,
    Subject,
    in_words,
)
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.modality_commitments import image_to_ask, settle_images
from cxr_triage.storage.ledger.revisions import is_usable
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import (
    CommitmentItemRow,
    CommitmentRow,
    DeliveryRow,
    Event,
    ModalityRequestItemRow,
    ModalityRequestRow,
    ObjectRow,
)

#: What the ledger says where nobody else does.
LOST_SENDER = "its sender ended before the answer: whether it was sent is not known"
NO_REPORT = "no report came in time"


class Commitments:
    """Requests for storage commitment. Each is written down before it is sent, and sent once at most."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def plan(
        self, owner: str, destination: str, *, limit: int, settle: timedelta, subjects: Collection[Subject]
    ) -> CommitmentRequest | None:
        """Write down the next request, under a new transaction UID; None: there is nothing to ask for.

        Args:
            owner: who sends it.
            destination: whom to ask.
            limit: how many objects at most.
            settle: how long a result must have been stored there.
            subjects: what to ask for, results whose files are still in the outbox before images.
        """
        now = self._clock()
        result_waits = _result_to_ask(destination, now, settle)
        image_waits = image_to_ask(now)
        results = Subject.RESULTS in subjects and leases.any_of(self._database, DeliveryRow, result_waits)
        images = not results and Subject.IMAGES in subjects and self._any_image(image_waits)
        if not (results or images):
            return None
        with self._database.transaction() as session:
            if results:
                return self._record(session, owner, destination, _take_results(session, result_waits, limit))
            return self._record(session, owner, destination, _take_images(session, image_waits, limit))

    def record_requested(self, request: CommitmentRequest, *, report_until: datetime) -> bool:
        """Record that the destination took the request; False: more is known already, as when its report came first.

        Args:
            request: as planned.
            report_until: when its objects are asked for again, in another request.
        """
        with self._database.transaction() as session:
            row = _planned(session, request)
            if row is None:
                return False
            row.state = CommitmentState.REQUESTED
            row.changed_at = self._clock()
            leases.give_back(row, report_until)
            return True

    def record_refused(self, request: CommitmentRequest, *, error: str, retry_at: datetime) -> bool:
        """Record that the destination does not take the request; its objects are as before, and asked for later."""
        return self._record_failed(request, CommitmentState.REFUSED, error, retry_at)

    def record_unanswered(self, request: CommitmentRequest, *, error: str, retry_at: datetime) -> bool:
        """Record that nobody knows whether the destination has the request; a report for it still counts."""
        return self._record_failed(request, CommitmentState.UNANSWERED, error, retry_at)

    def is_open(self, request: CommitmentRequest) -> bool:
        """Whether the report for a request is still to come."""
        with self._database.read() as session:
            row = session.get(CommitmentRow, request.id)
            return row is not None and row.state in {CommitmentState.PLANNED, CommitmentState.REQUESTED}

    def record_report(
        self,
        report: CommitmentReport,
        *,
        destinations: Collection[str],
        resend_at: Callable[[int], datetime | None],
        ask_again_at: Callable[[int], datetime],
    ) -> Reception:
        """Take in what a destination reports. It says all of a transaction or a part, now or late, once or again.

        Success counts whenever it comes. A failure counts unless the object was asked for again since.

        Args:
            report: as it came.
            destinations: those that the reporting peer may speak for.
            resend_at: from how often an object was not committed to, when to send it again; None: give it up.
            ask_again_at: the same for images, which we cannot send: when to ask again.

        Returns:
            UNKNOWN or NOT_ASKED: nothing was changed, and the peer must be told so.
        """
        with self._database.transaction() as session:
            row = session.scalar(
                select(CommitmentRow).where(CommitmentRow.transaction_uid == report.transaction_uid).with_for_update()
            )
            if row is None or row.destination not in destinations:
                return Reception.UNKNOWN
            items = {item.sop_instance_uid: item for item in _items(session, row.id)}
            if not _is_about(report, items):
                return Reception.NOT_ASKED
            told = list(_note_outcomes(report, items))
            for item in told:
                if item.delivery_id is not None:
                    self._settle_result(session, row, item, resend_at)
            settle_images(session, [item for item in told if item.delivery_id is None], self._clock(), ask_again_at)
            if told and all(item.outcome is not None for item in items.values()):
                row.state, row.last_error, row.changed_at = CommitmentState.ANSWERED, None, self._clock()
                leases.give_back(row)
            return Reception.RECORDED if told else Reception.REPEATED

    def lapse(self) -> int:
        """Give up waiting for the reports that are overdue: their objects may be asked for again; how many."""
        overdue = and_(CommitmentRow.state == CommitmentState.REQUESTED, CommitmentRow.next_attempt_at <= self._clock())
        return self._free(overdue, NO_REPORT)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Do the same with the requests whose sender died or took too long: nobody knows whether they were sent."""
        return self._free(leases.lost(self._database, CommitmentRow, is_alive, now), LOST_SENDER)

    def _any_image(self, waits: ColumnElement[bool]) -> bool:
        with self._database.read() as session:
            return session.scalar(select(ModalityRequestItemRow.id).where(waits).limit(1)) is not None

    def _record(
        self, session: Session, owner: str, destination: str, items: Sequence[CommitmentItemRow]
    ) -> CommitmentRequest | None:
        """Write a request down with its objects, each of which knows it."""
        if not items:  # another sender was quicker
            return None
        now = self._clock()
        row = CommitmentRow(
            # PS3.5 B.2: a UUID as a UID.
            transaction_uid=f"2.25.{uuid.uuid4().int}",
            destination=destination,
            state=CommitmentState.PLANNED,
            created_at=now,
            changed_at=now,
            attempt=1,
            failures=0,
            owner=owner,
            lease_until=now + self._lease,
        )
        session.add(row)
        session.flush()
        for item in items:
            item.commitment_id = row.id
            _link(session, item)
        session.add_all(items)
        return CommitmentRequest(
            id=row.id,
            transaction_uid=row.transaction_uid,
            destination=destination,
            references=tuple(Reference(item.sop_class_uid, item.sop_instance_uid) for item in items),
        )

    def _record_failed(
        self, request: CommitmentRequest, state: CommitmentState, error: str, retry_at: datetime
    ) -> bool:
        with self._database.transaction() as session:
            row = _planned(session, request)
            if row is None:
                return False
            self._close(session, row, state, error, retry_at)
            return True

    def _free(self, which: ColumnElement[bool], error: str) -> int:
        def close(session: Session, row: CommitmentRow) -> None:
            self._close(session, row, CommitmentState.UNANSWERED, error, None)

        return leases.end_each(self._database, CommitmentRow, which, close)

    def _close(
        self, session: Session, row: CommitmentRow, state: CommitmentState, error: str, retry_at: datetime | None
    ) -> None:
        """End a request without a report; its objects may be asked for again from that time on."""
        row.state, row.last_error, row.changed_at = state, error, self._clock()
        leases.give_back(row)
        deliveries = select(DeliveryRow).where(DeliveryRow.commitment_id == row.id).order_by(DeliveryRow.id)
        for delivery in session.scalars(deliveries.with_for_update()):
            delivery.commitment_id = None
            if delivery.state is DeliveryState.STORED:
                delivery.next_attempt_at = retry_at
        item = ModalityRequestItemRow
        images = select(item).where(item.commitment_id == row.id).order_by(item.id)
        for image in session.scalars(images.with_for_update()):
            image.commitment_id = None
            image.next_attempt_at = retry_at

    def _settle_result(
        self,
        session: Session,
        request: CommitmentRow,
        item: CommitmentItemRow,
        resend_at: Callable[[int], datetime | None],
    ) -> None:
        row = session.get_one(DeliveryRow, item.delivery_id, with_for_update=True)
        if item.outcome is Outcome.COMMITTED:
            if row.state is not DeliveryState.COMMITTED:
                self._settle(session, row, DeliveryState.COMMITTED, Event.COMMITTED)
            return
        if row.state is not DeliveryState.STORED or row.rejected_by_id is not None or _asked_since(session, item):
            return
        if session.scalar(select(~is_usable()).where(ObjectRow.id == row.object_id)):  # withdrawn: not to be sent again
            return
        row.commitment_failures += 1
        # What comes now is a step of its own, with chances of its own.
        row.failures = row.refusals = 0
        retry_at = resend_at(row.commitment_failures)
        reason = f"{request.destination} does not commit to it: {in_words(item.failure_reason or 0)}"
        # A transaction UID in use says nothing of the object: it is asked for again, not sent again.
        again = DeliveryState.STORED if item.failure_reason == DUPLICATE_TRANSACTION_UID else DeliveryState.PENDING
        self._settle(session, row, DeliveryState.DEAD if retry_at is None else again, Event.NOT_COMMITTED, reason)
        row.next_attempt_at = retry_at

    def _settle(
        self, session: Session, row: DeliveryRow, state: DeliveryState, event: Event, reason: str | None = None
    ) -> None:
        row.state, row.changed_at, row.last_error = state, self._clock(), reason
        row.commitment_id = row.instead = row.instead_id = None
        # Whoever is sending it again at this moment finds that it has lost the attempt.
        leases.give_back(row)
        made = session.get_one(ObjectRow, row.object_id)
        told = f"{made.kind.value} to {row.destination}"
        note(session, self._clock(), row.destination, event, made, f"{told}: {reason}" if reason else told)


def _result_to_ask(destination: str, now: datetime, settle: timedelta) -> ColumnElement[bool]:
    """Which deliveries are stored, not asked for, and can be sent again should the destination not have them."""
    in_outbox = exists().where(ObjectRow.id == DeliveryRow.object_id, ObjectRow.owns_file, is_usable())
    return and_(
        DeliveryRow.destination == destination,
        DeliveryRow.state == DeliveryState.STORED,
        DeliveryRow.commitment_id.is_(None),
        # A PACS need not keep what it was told not to use.
        DeliveryRow.rejected_by_id.is_(None),
        DeliveryRow.changed_at <= now - settle,
        leases.is_due(DeliveryRow, now),
        in_outbox,
    )


def _take_results(session: Session, waits: ColumnElement[bool], limit: int) -> list[CommitmentItemRow]:
    jobs = select(DeliveryRow).where(waits).order_by(DeliveryRow.id).limit(limit)
    items = []
    for row in session.scalars(jobs.with_for_update(of=DeliveryRow, skip_locked=True)):
        made = session.get_one(ObjectRow, row.object_id)
        items.append(
            CommitmentItemRow(
                sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid, delivery_id=row.id
            )
        )
    return items


def _take_images(session: Session, waits: ColumnElement[bool], limit: int) -> list[CommitmentItemRow]:
    """Each image once, also where several requests of modalities wait for it: the others go into the next request."""
    jobs = select(ModalityRequestItemRow).where(waits).order_by(ModalityRequestItemRow.id).limit(limit)
    items: dict[str, CommitmentItemRow] = {}
    for row in session.scalars(jobs.with_for_update(skip_locked=True)):
        item = CommitmentItemRow(
            sop_class_uid=row.sop_class_uid, sop_instance_uid=row.sop_instance_uid, modality_item_id=row.id
        )
        items.setdefault(row.sop_instance_uid, item)
    return list(items.values())


def _link(session: Session, item: CommitmentItemRow) -> None:
    """Let the object of a request know it, so that no other request takes it meanwhile."""
    if item.delivery_id is not None:
        session.get_one(DeliveryRow, item.delivery_id).commitment_id = item.commitment_id
    else:
        session.get_one(ModalityRequestItemRow, item.modality_item_id).commitment_id = item.commitment_id


def _planned(session: Session, request: CommitmentRequest) -> CommitmentRow | None:
    """Lock a request, if nothing has become of it yet."""
    row = session.get(CommitmentRow, request.id, with_for_update=True)
    return row if row is not None and row.state is CommitmentState.PLANNED else None


def _items(session: Session, commitment_id: int) -> Sequence[CommitmentItemRow]:
    of_it = select(CommitmentItemRow).where(CommitmentItemRow.commitment_id == commitment_id)
    return session.scalars(of_it.order_by(CommitmentItemRow.id)).all()


def _is_about(report: CommitmentReport, items: dict[str, CommitmentItemRow]) -> bool:
    """Whether a report names only what was asked for, each once. A failure may be that the class is another one."""
    named = [reference.sop_instance_uid for reference in report.committed]
    named += [failure.reference.sop_instance_uid for failure in report.failed]
    if len(set(named)) != len(named) or not set(named) <= items.keys():
        return False
    return all(items[uid].sop_class_uid == sop_class for sop_class, uid in report.committed)


def _note_outcomes(report: CommitmentReport, items: dict[str, CommitmentItemRow]) -> Iterator[CommitmentItemRow]:
    """Note what a report says that was not said before; gives those items, in the order of the request."""
    committed = {reference.sop_instance_uid for reference in report.committed}
    failed = {failure.reference.sop_instance_uid: failure.reason for failure in report.failed}
    for uid, item in items.items():
        if item.outcome is not None or uid not in committed | failed.keys():
            continue
        item.outcome = Outcome.COMMITTED if uid in committed else Outcome.FAILED
        item.failure_reason = failed.get(uid)
        yield item


def _asked_since(session: Session, item: CommitmentItemRow) -> bool:
    """Whether a later request asked for the same delivery: then its answer decides."""
    later = aliased(CommitmentItemRow)
    since = exists().where(later.delivery_id == item.delivery_id, later.commitment_id > item.commitment_id)
    return bool(session.scalar(select(since)))


def count_commitments(database: Database) -> CommitmentCounts:
    """Count the requests in both directions, as one snapshot."""
    with database.read() as session:
        return CommitmentCounts(
            requests=_requests(session),
            troubles=_troubles(session),
            modality_requests=_modality_requests(session),
        )


def _requests(session: Session) -> dict[str, dict[CommitmentState, int]]:
    counted = session.execute(
        select(CommitmentRow.destination, CommitmentRow.state, func.count())
        .group_by(CommitmentRow.destination, CommitmentRow.state)
        .order_by(CommitmentRow.destination)
    )
    requests: dict[str, dict[CommitmentState, int]] = {}
    for destination, state, count in counted:
        requests.setdefault(destination, dict.fromkeys(CommitmentState, 0))[state] = count
    return requests


def _troubles(session: Session) -> dict[str, str]:
    last = select(func.max(CommitmentRow.id)).group_by(CommitmentRow.destination)
    rows = session.execute(
        select(CommitmentRow.destination, CommitmentRow.last_error).where(
            CommitmentRow.id.in_(last),
            CommitmentRow.state.in_((CommitmentState.REFUSED, CommitmentState.UNANSWERED)),
        )
    )
    return {destination: error or "" for destination, error in rows}


def _modality_requests(session: Session) -> dict[ModalityRequestState, int]:
    counted = session.execute(select(ModalityRequestRow.state, func.count()).group_by(ModalityRequestRow.state))
    return dict.fromkeys(ModalityRequestState, 0) | dict(iter(counted))
