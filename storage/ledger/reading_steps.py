"""Our own procedure steps: one for each study that waits for a reader, and always where the study is.

The study's row is locked by whoever calls, so nobody else changes its steps meanwhile.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from cxr_triage.storage.database import lock_name
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.order_records import Identity, Verdict, verdict
from cxr_triage.storage.schema import AnnouncementRow, Event, HeaderRow, ProcedureStepRow, StepSubscriptionRow, StudyRow
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    INTERPRETATION,
    PERFORMED,
    UPS_FACE,
    AnnouncementState,
    Json,
    StepState,
    Told,
    cancelled,
    code,
    date_time,
    element,
    named_study,
    payload_of,
    state_report,
    step_uid,
)

#: Under this name, no step and no subscription to all of them pass each other unseen.
NEW_STEPS: Final = "new procedure steps"
#: Performed Station Name Code Sequence of a reading that did not come as a procedure step.
_STATION: Final = code("READER", "99CXRTRIAGE", "Reader of the reading list")
READ_ELSEWHERE: Final = "The study left the reading list without this step."
#: States in which a step stays.
FINAL_STATES: Final = tuple(state for state in StepState if state.is_final)
GIVEN_BACK: Final = "The reader gave the study back unread."


def follow(session: Session, study: StudyRow, change: Change, now: datetime) -> None:
    """Bring a study's steps to where it is after a change of the reading list."""
    if change is Change.LISTED:
        _schedule(session, study.study_instance_uid, now)
        _keep_claim(session, study, now)
    elif change is Change.CLAIMED:
        _begin(session, study.study_instance_uid, now)
    elif change is Change.GIVEN_BACK:
        for row in open_steps(session, study.study_instance_uid):
            if row.state is StepState.IN_PROGRESS:
                cancel(session, row, now, GIVEN_BACK)
        _schedule(session, study.study_instance_uid, now)
    elif change is Change.FINISHED:
        _end(session, study.study_instance_uid, now)


def open_steps(session: Session, study_instance_uid: str) -> Sequence[ProcedureStepRow]:
    """Lock the steps of a study that are not at their end."""
    row = ProcedureStepRow
    mine = select(row).where(row.study_instance_uid == study_instance_uid, ~row.state.in_(FINAL_STATES))
    return session.scalars(mine.order_by(row.id).with_for_update()).all()


def add(session: Session, row: ProcedureStepRow, now: datetime) -> None:
    """Add a step; whoever subscribed to all steps is told of it. After any change of the list: one order of locks."""
    lock_name(session, NEW_STEPS)
    filtered = exists().where(StepSubscriptionRow.sop_instance_uid == FILTERED_GLOBAL_SUBSCRIPTION)
    row.considered = not session.scalar(select(filtered))
    session.add(row)
    session.flush()
    everybody = select(StepSubscriptionRow).where(StepSubscriptionRow.sop_instance_uid == GLOBAL_SUBSCRIPTION)
    for known in session.scalars(everybody).all():
        session.add(
            StepSubscriptionRow(
                sop_instance_uid=row.sop_instance_uid,
                receiver=known.receiver,
                deletion_lock=known.deletion_lock,
                filter={},
                created_at=now,
            )
        )
    tell(session, row, [state_report(row.attributes, row.state)], now)


def move(session: Session, row: ProcedureStepRow, state: StepState, now: datetime) -> None:
    """Give a step another state, and tell of it."""
    row.state, row.changed_at = state, now
    tell(session, row, [state_report(row.attributes, state)], now)


def cancel(session: Session, row: ProcedureStepRow, now: datetime, reason: str) -> None:
    """Cancel a step; a scheduled one goes through IN PROGRESS (PS3.4 Table CC.1.1-2)."""
    if row.state is StepState.SCHEDULED:
        move(session, row, StepState.IN_PROGRESS, now)
    row.attributes = cancelled(row.attributes, now, reason)
    move(session, row, StepState.CANCELED, now)


def tell(
    session: Session, row: ProcedureStepRow, told: Sequence[Told], now: datetime, receivers: Sequence[str] | None = None
) -> None:
    """Write down events for these receivers; None: for all who subscribed to the step."""
    if receivers is None:
        mine = select(StepSubscriptionRow.receiver).where(StepSubscriptionRow.sop_instance_uid == row.sop_instance_uid)
        receivers = session.scalars(mine.order_by(StepSubscriptionRow.id)).all()
    for each in told:
        for receiver in receivers:
            session.add(announcement(each, row.sop_instance_uid, receiver, now))
            session.flush()  # in this order


def announcement(told: Told, sop_instance_uid: str, receiver: str, now: datetime) -> AnnouncementRow:
    """Give the row of an event that is to be told."""
    message_id = uuid4()
    return AnnouncementRow(
        face=UPS_FACE,
        receiver=receiver,
        sop_instance_uid=sop_instance_uid,
        message_id=str(message_id),
        payload=payload_of(told, sop_instance_uid, message_id),
        state=AnnouncementState.PENDING,
        created_at=now,
        changed_at=now,
        attempt=0,
        failures=0,
    )


def _schedule(session: Session, study_instance_uid: str, now: datetime) -> None:
    """Make a step for the study, unless one waits or is under way: then somebody placed it before the images came."""
    placed = open_steps(session, study_instance_uid)
    of_others = [row for row in placed if _is_of_another_patient(session, row, study_instance_uid)]
    for row in of_others:
        row.study_instance_uid = None  # it is not this study that it wants read: it goes on by itself
    if len(placed) > len(of_others):
        return
    add(session, new_step(_free_uid(session, study_instance_uid), study_instance_uid, {}, now, own=True), now)


def _free_uid(session: Session, study_instance_uid: str) -> str:
    """Give the UID of the next step of a study that nobody has given to another one."""
    lock_name(session, NEW_STEPS)  # from this look on, nobody else adds a step
    mine = select(func.count()).where(ProcedureStepRow.study_instance_uid == study_instance_uid, ProcedureStepRow.own)
    number = (session.scalar(mine) or 0) + 1
    while _is_known(session, step_uid(study_instance_uid, number)):
        number += 1
    return step_uid(study_instance_uid, number)


def _is_known(session: Session, sop_instance_uid: str) -> bool:
    return bool(session.scalar(select(exists().where(ProcedureStepRow.sop_instance_uid == sop_instance_uid))))


def _is_of_another_patient(session: Session, row: ProcedureStepRow, study_instance_uid: str) -> bool:
    headers = session.scalars(select(HeaderRow).where(HeaderRow.study_instance_uid == study_instance_uid))
    images = [
        Identity(
            study_instance_uid=study_instance_uid,
            patient_id=header.patient_id,
            issuer_of_patient_id=header.issuer_of_patient_id,
            patient_birth_date=header.patient_birth_date,
        ).trimmed()
        for header in headers
    ]
    named = named_study(row.attributes, study_instance_uid)
    return verdict(named, study_instance_uid, images) is Verdict.OTHER_PATIENT


def _keep_claim(session: Session, study: StudyRow, now: datetime) -> None:
    """Whoever claimed the step before the images came has the study from the beginning."""
    begun = [row for row in open_steps(session, study.study_instance_uid) if row.performer is not None]
    if begun and study.claimed_at is None:
        study.claimed_at, study.claimed_by = now, begun[0].performer
        note(session, now, str(begun[0].performer), Event.CLAIMED, study, f"by {begun[0].performer}, before it came")


def new_step(
    sop_instance_uid: str, study_instance_uid: str | None, attributes: Json, now: datetime, *, own: bool
) -> ProcedureStepRow:
    """Give the row of a step that begins."""
    return ProcedureStepRow(
        sop_instance_uid=sop_instance_uid,
        study_instance_uid=study_instance_uid,
        state=StepState.SCHEDULED,
        own=own,
        attributes=attributes,
        considered=False,
        created_at=now,
        changed_at=now,
    )


def _begin(session: Session, study_instance_uid: str, now: datetime) -> None:
    """A reader came by another way: the step is under way, and nobody has its Transaction UID."""
    steps = open_steps(session, study_instance_uid)
    if any(row.state is StepState.IN_PROGRESS for row in steps):
        return
    for row in steps[:1]:
        row.transaction_uid = f"2.25.{uuid4().int}"
        move(session, row, StepState.IN_PROGRESS, now)


def _end(session: Session, study_instance_uid: str, now: datetime) -> None:
    """What waited is cancelled, what a reader of another way had is complete; a performer ends its step by itself."""
    for row in open_steps(session, study_instance_uid):
        if row.state is StepState.SCHEDULED:
            cancel(session, row, now, READ_ELSEWHERE)
        elif row.performer is None:
            row.attributes = row.attributes | {PERFORMED: element("SQ", _performed(row.changed_at, now))}
            move(session, row, StepState.COMPLETED, now)


def _performed(begun_at: datetime, now: datetime) -> Json:
    """What must be there of a completed step (PS3.4 Table CC.2.5-3, P)."""
    return {
        "00404028": element("SQ", _STATION),
        "00404050": element("DT", date_time(begun_at)),
        "00404051": element("DT", date_time(now)),
        "00404019": element("SQ", INTERPRETATION),
        "00404033": element("SQ"),
    }
