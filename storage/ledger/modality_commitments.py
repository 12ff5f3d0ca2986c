"""What modalities ask us to commit to (PS3.4 Annex J, as SCP): the PACS decides, and we remember and pass it on."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentReport,
    Failure,
    ModalityReport,
    ModalityRequest,
    ModalityRequestState,
    Outcome,
    Reference,
)
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import CommitmentItemRow, Event, InstanceRow, ModalityRequestItemRow, ModalityRequestRow

#: UIDs per question, below what SQLite takes (SQLITE_MAX_VARIABLE_NUMBER, 999 in old builds).
_UIDS_AT_ONCE: Final = 500


class ModalityCommitments:
    """Requests of modalities, from the moment before they are acknowledged until their result is reported."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def record_request(self, request: ModalityRequest, owner: str) -> ModalityReport | None:
        """Take a request in. Once this returns, it may be acknowledged.

        An image that we have not acknowledged ourselves fails at once; the others wait for the PACS. The same request
        again is one request: its result is reported again. Another one under a transaction UID that is in use fails.

        Args:
            request: as it came.
            owner: who reports a result that stands already.

        Returns:
            The result, claimed by `owner`; None: it is still to come, or somebody else is reporting it.
        """
        with self._database.transaction() as session:
            lock_name(session, f"commitment {request.transaction_uid}")
            references = list(dict.fromkeys(request.references))
            row = self._known(session, request, references) or self._add(session, request, references)
            if row.state is not ModalityRequestState.ANSWERED or row.owner is not None:
                return None
            self._claim(row, owner)
            return _as_report(session, row)

    def claim_report(self, owner: str, calling_ae_title: str) -> ModalityReport | None:
        """Claim the next result that a modality is to be told; None: there is none."""
        due = and_(
            ModalityRequestRow.state == ModalityRequestState.ANSWERED,
            ModalityRequestRow.calling_ae_title == calling_ae_title,
            leases.is_due(ModalityRequestRow, self._clock()),
        )
        if not leases.any_of(self._database, ModalityRequestRow, due):
            return None
        jobs = select(ModalityRequestRow).where(due).order_by(ModalityRequestRow.id).limit(1)
        with self._database.transaction() as session:
            rows = leases.claim(session, jobs, ModalityRequestRow, owner, self._clock() + self._lease)
            return _as_report(session, rows[0]) if rows else None

    def record_reported(self, told: ModalityReport) -> None:
        """Record that the modality has taken the result.

        Raises:
            StaleAttemptError: a later attempt has it.
        """
        with self._database.transaction() as session:
            row = leases.held(session, ModalityRequestRow, told.id, told.attempt)
            self._settle(row, ModalityRequestState.REPORTED, None)
            for reference in told.report.committed:
                image = session.scalars(_instances([reference.sop_instance_uid]).order_by(InstanceRow.id)).first()
                if image is not None:
                    actor = row.calling_ae_title
                    note(session, self._clock(), actor, Event.MODALITY_TOLD_COMMITTED, image, f"to {actor}")

    def record_report_failed(self, told: ModalityReport, *, error: str, retry_at: datetime | None) -> None:
        """Record that the modality could not be told, and when it is tried again; None: not again.

        Raises:
            StaleAttemptError: a later attempt has it.
        """
        with self._database.transaction() as session:
            row = leases.held(session, ModalityRequestRow, told.id, told.attempt)
            row.failures += 1
            row.last_error = error
            if retry_at is None:
                self._settle(row, ModalityRequestState.ABANDONED, error)
            else:
                leases.give_back(row, retry_at)

    def put_back(self, told: ModalityReport) -> None:
        """Give up a claim without an attempt: it is due at once.

        Raises:
            StaleAttemptError: a later attempt has it.
        """
        with self._database.transaction() as session:
            leases.give_back(leases.held(session, ModalityRequestRow, told.id, told.attempt))

    def give_up(self, before: datetime) -> int:
        """Decide the requests received before that time: what the PACS has not committed to fails; how many."""
        late = and_(ModalityRequestRow.state == ModalityRequestState.WAITING, ModalityRequestRow.received_at < before)

        def decide(session: Session, row: ModalityRequestRow) -> None:
            for item in session.scalars(_undecided(row.id).with_for_update()):
                _decide(item, Outcome.FAILED, item.failure_reason or PROCESSING_FAILURE)
            self._settle(row, ModalityRequestState.ANSWERED, None)

        return leases.end_each(self._database, ModalityRequestRow, late, decide)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the results whose reporter is dead or too slow; how many."""
        lost = leases.lost(self._database, ModalityRequestRow, is_alive, now)
        return leases.end_each(self._database, ModalityRequestRow, lost, lambda _session, row: leases.give_back(row))

    def _known(
        self, session: Session, request: ModalityRequest, references: Sequence[Reference]
    ) -> ModalityRequestRow | None:
        row = session.scalar(
            select(ModalityRequestRow)
            .where(
                ModalityRequestRow.transaction_uid == request.transaction_uid,
                ModalityRequestRow.calling_ae_title == request.calling_ae_title,
                ModalityRequestRow.digest == _digest(references),
            )
            .with_for_update()
        )
        if row is not None and row.state in {ModalityRequestState.REPORTED, ModalityRequestState.ABANDONED}:
            row.failures = 0
            self._settle(row, ModalityRequestState.ANSWERED, None)
        return row

    def _add(self, session: Session, request: ModalityRequest, references: Sequence[Reference]) -> ModalityRequestRow:
        in_use = exists().where(ModalityRequestRow.transaction_uid == request.transaction_uid)
        duplicate = bool(session.scalar(select(in_use)))
        row = ModalityRequestRow(
            transaction_uid=request.transaction_uid,
            calling_ae_title=request.calling_ae_title,
            digest=_digest(references),
            state=ModalityRequestState.WAITING,
            received_at=request.received_at,
            changed_at=request.received_at,
            attempt=0,
            failures=0,
        )
        session.add(row)
        session.flush()
        known = _known_classes(session, [uid for _, uid in references])
        items = [_item(row.id, each, known.get(each.sop_instance_uid), duplicate=duplicate) for each in references]
        session.add_all(items)
        if all(item.outcome is not None for item in items):
            row.state = ModalityRequestState.ANSWERED
        return row

    def _claim(self, row: ModalityRequestRow, owner: str) -> None:
        row.owner, row.lease_until = owner, self._clock() + self._lease
        row.attempt += 1

    def _settle(self, row: ModalityRequestRow, state: ModalityRequestState, error: str | None) -> None:
        row.state, row.changed_at, row.last_error = state, self._clock(), error
        leases.give_back(row)


def image_to_ask(now: datetime) -> ColumnElement[bool]:
    """Which images a PACS is to be asked for."""
    item = ModalityRequestItemRow
    due = or_(item.next_attempt_at.is_(None), item.next_attempt_at <= now)
    return and_(item.outcome.is_(None), item.commitment_id.is_(None), due)


def settle_images(
    session: Session, told: Sequence[CommitmentItemRow], now: datetime, ask_again_at: Callable[[int], datetime]
) -> None:
    """Pass on what a PACS said of images, and decide the requests of modalities that now can be.

    Args:
        session: of the transaction that takes the report in.
        told: items whose outcome has just become known; each is of an image.
        now: the present.
        ask_again_at: from how often an image was not committed to, when to ask for it again.
    """
    if not told:
        return
    answers = {answer.modality_item_id: answer for answer in told}
    items = select(ModalityRequestItemRow).where(ModalityRequestItemRow.id.in_(answers))
    concerned = {item.request_id for item in session.scalars(items)}
    requests = select(ModalityRequestRow).where(ModalityRequestRow.id.in_(concerned)).order_by(ModalityRequestRow.id)
    rows = session.scalars(requests.with_for_update()).all()
    for item in session.scalars(items.order_by(ModalityRequestItemRow.id).with_for_update()):
        _take(session, item, answers[item.id], ask_again_at)
    for row in rows:
        if row.state is ModalityRequestState.WAITING and not session.scalars(_undecided(row.id)).first():
            row.state, row.changed_at = ModalityRequestState.ANSWERED, now


def _take(
    session: Session,
    item: ModalityRequestItemRow,
    answer: CommitmentItemRow,
    ask_again_at: Callable[[int], datetime],
) -> None:
    if item.outcome is not None:
        return
    if answer.outcome is Outcome.COMMITTED:
        _decide(item, Outcome.COMMITTED, None)
    elif answer.failure_reason == CLASS_INSTANCE_CONFLICT:  # time does not change that
        _decide(item, Outcome.FAILED, CLASS_INSTANCE_CONFLICT)
    elif not _asked_since(session, answer):
        item.commitment_id = None
        item.failures += 1
        item.next_attempt_at = ask_again_at(item.failures)
        if answer.failure_reason != DUPLICATE_TRANSACTION_UID:  # that says nothing of the image
            item.failure_reason = answer.failure_reason


def _decide(item: ModalityRequestItemRow, outcome: Outcome, reason: int | None) -> None:
    item.outcome, item.failure_reason = outcome, reason
    item.commitment_id = None
    item.next_attempt_at = None


def _item(request_id: int, reference: Reference, known: set[str] | None, *, duplicate: bool) -> ModalityRequestItemRow:
    """One image of a new request; what cannot become better is decided at once."""
    reason = None
    if duplicate:
        reason = DUPLICATE_TRANSACTION_UID
    elif known is None:
        reason = NO_SUCH_OBJECT_INSTANCE
    elif reference.sop_class_uid not in known:
        reason = CLASS_INSTANCE_CONFLICT
    return ModalityRequestItemRow(
        request_id=request_id,
        sop_class_uid=reference.sop_class_uid,
        sop_instance_uid=reference.sop_instance_uid,
        failures=0,
        outcome=None if reason is None else Outcome.FAILED,
        failure_reason=reason,
    )


def _known_classes(session: Session, uids: Sequence[str]) -> dict[str, set[str]]:
    """The SOP classes under which we acknowledged these instances."""
    known: dict[str, set[str]] = {}
    for start in range(0, len(uids), _UIDS_AT_ONCE):
        for row in session.scalars(_instances(uids[start : start + _UIDS_AT_ONCE])):
            known.setdefault(row.sop_instance_uid, set()).add(row.sop_class_uid)
    return known


def _instances(uids: Sequence[str]) -> Select[InstanceRow]:
    return select(InstanceRow).where(InstanceRow.sop_instance_uid.in_(uids))


def _undecided(request_id: int) -> Select[ModalityRequestItemRow]:
    item = ModalityRequestItemRow
    return select(item).where(item.request_id == request_id, item.outcome.is_(None)).order_by(item.id)


def _asked_since(session: Session, answer: CommitmentItemRow) -> bool:
    """Whether a later request asked for the same image: then its answer decides."""
    later = aliased(CommitmentItemRow)
    since = exists().where(
        later.modality_item_id == answer.modality_item_id, later.commitment_id > answer.commitment_id
    )
    return bool(session.scalar(select(since)))


def _digest(references: Sequence[Reference]) -> str:
    return hashlib.sha256(json.dumps(references, separators=(",", ":")).encode()).hexdigest()


def _as_report(session: Session, row: ModalityRequestRow) -> ModalityReport:
    """The result in the order of the request: the same content however often it is asked for."""
    items = session.scalars(
        select(ModalityRequestItemRow)
        .where(ModalityRequestItemRow.request_id == row.id)
        .order_by(ModalityRequestItemRow.id)
    ).all()
    references = [Reference(item.sop_class_uid, item.sop_instance_uid) for item in items]
    pairs = list(zip(references, items, strict=True))
    return ModalityReport(
        id=row.id,
        attempt=row.attempt,
        calling_ae_title=row.calling_ae_title,
        report=CommitmentReport(
            transaction_uid=row.transaction_uid,
            committed=tuple(each for each, item in pairs if item.outcome is Outcome.COMMITTED),
            failed=tuple(
                Failure(each, item.failure_reason or PROCESSING_FAILURE)
                for each, item in pairs
                if item.outcome is not Outcome.COMMITTED
            ),
        ),
        answered_at=row.changed_at,
        failures=row.failures,
    )
