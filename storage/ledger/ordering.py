"""Which orders are about a study, and what follows: within the transaction of whoever locked the study.

A study's order is computed from all that was said of it and from all its images, never from what it was before. So it
comes to the same in whatever order messages and images come.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import lock_name
from cxr_triage.storage.ledger.claims import finish_study
from cxr_triage.storage.ledger.studies import ORDERED_BY_DEFAULT, locked_study, recompute
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.order_records import Candidate, Identity, Verdict, counting, verdict
from cxr_triage.storage.schema import Event, HeaderRow, InstanceRow, OrderMatchRow, OrderRow, StudyRow

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"
_NOT_COUNTED: Final = {
    Verdict.OTHER_PATIENT: "it names another patient",
    Verdict.UNCONFIRMED: "nothing says that it is this patient's",
}


def lock_accession_numbers(session: Session, *numbers: str) -> None:
    """Let no order and no image of an accession number pass each other unseen; before any lock on a study."""
    for number in sorted(set(numbers) - {""}):
        lock_name(session, f"accession number {number}")


def locked_studies(session: Session, named: Sequence[Identity]) -> list[StudyRow]:
    """Lock the studies that orders may be about, in the one order of locks; those whose images are to come too."""
    numbers = {each.accession_number for each in named} - {""}
    lock_accession_numbers(session, *numbers)
    uids = {each.study_instance_uid for each in named} - {""}
    uids.update(
        session.scalars(select(HeaderRow.study_instance_uid).where(HeaderRow.accession_number.in_(numbers)).distinct())
    )
    return [locked_study(session, uid) for uid in sorted(uids)]


def settle(session: Session, study: StudyRow, policy: Policy, *, now: datetime, actor: str = _ACTOR) -> None:
    """Bring a locked study to what its orders and its images say: ordered level, priority, and off the list."""
    counted, fresh = _match(session, study, now)
    _order(session, study, [row for row in counted if row.level is not None], fresh, now)
    recompute(session, study, policy, now=now, actor=actor)
    _end(session, study, [row for row in counted if row.ending is not None and _names(row, study)], now)


def identities_of(session: Session, study_instance_uid: str) -> list[Identity]:
    """Give what a study's images name, in the order in which they came, each once."""
    rows = session.scalars(
        select(HeaderRow)
        .join(InstanceRow, InstanceRow.id == HeaderRow.instance_id)
        .where(HeaderRow.study_instance_uid == study_instance_uid)
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    return list(dict.fromkeys(identity_of(row).trimmed() for row in rows))


def identity_of(row: HeaderRow | OrderRow) -> Identity:
    """Give what an image or a message names."""
    return Identity(
        study_instance_uid=row.study_instance_uid,
        accession_number=row.accession_number,
        issuer_of_accession_number=row.issuer_of_accession_number,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        patient_birth_date=row.patient_birth_date,
    )


def _match(session: Session, study: StudyRow, now: datetime) -> tuple[list[OrderRow], set[int]]:
    """Find the orders about a study, and write down what each is to it.

    Returns:
        Those that count, and the numbers of those of which this is new.
    """
    uid = study.study_instance_uid
    images = identities_of(session, uid)
    numbers = {image.accession_number for image in images} - {""}
    about = or_(OrderRow.study_instance_uid == uid, OrderRow.accession_number.in_(numbers))
    known = {row.order_id: row for row in session.scalars(select(OrderMatchRow).filter_by(study_instance_uid=uid))}
    counted, fresh = [], set()
    for order in session.scalars(select(OrderRow).where(about).order_by(OrderRow.id)):
        found = verdict(identity_of(order), uid, images)
        if found is Verdict.AGREES:
            counted.append(order)
        if found is not None and (order.id not in known or known[order.id].verdict is not found):
            session.merge(OrderMatchRow(order_id=order.id, study_instance_uid=uid, verdict=found))
            fresh.add(order.id)
            _note_match(session, study, order, found, now)
    return counted, fresh


def _note_match(session: Session, study: StudyRow, order: OrderRow, found: Verdict, now: datetime) -> None:
    said = order.level.name if order.level is not None else _in_words(order)
    if found is not Verdict.AGREES:
        detail = f"{said} by {order.source} does not count: {_NOT_COUNTED[found]}"
        note(session, now, order.sender, Event.ORDER_NOT_COUNTED, study, detail)
    elif order.ending is not None and _names(order, study):
        note(session, now, order.sender, Event.ORDER_ENDED, study, f"{said} by {order.source}")


def _order(
    session: Session, study: StudyRow, orders: Sequence[OrderRow], fresh: AbstractSet[int], now: datetime
) -> None:
    """Set a study's ordered level to that of the order that counts, up or down."""
    chosen = counting(_candidate(order, study) for order in orders)
    before, level = study.ordered, ORDERED_BY_DEFAULT if chosen is None else chosen.level
    if level is not before or (chosen is not None and chosen.number in fresh):
        by = _ACTOR if chosen is None else chosen.sender
        note(session, now, by, Event.ORDERED, study, f"{before.name} -> {level.name}")
    for order in orders:
        if order.id in fresh and chosen is not None and order.id != chosen.number and order.level is not None:
            detail = f"{order.level.name} by {order.source}: {level.name} stands"
            note(session, now, order.sender, Event.ORDERED, study, detail)
    if level is not before:
        study.ordered = level
        study.effective = min(study.effective, level)
        of_study = InstanceRow.study_instance_uid == study.study_instance_uid
        session.execute(update(InstanceRow).where(of_study).values(ordered=level))


def _candidate(order: OrderRow, study: StudyRow) -> Candidate:
    assert order.level is not None
    return Candidate(
        source=order.source,
        sender=order.sender,
        message_id=order.message_id,
        at=order.at,
        level=order.level,
        names_this=_names(order, study),
        number=order.id,
    )


def _names(order: OrderRow, study: StudyRow) -> bool:
    """Whether a message names this study, or none: one request may be of several studies, each with its own UID."""
    return order.study_instance_uid in ("", study.study_instance_uid)


def _end(session: Session, study: StudyRow, endings: Sequence[OrderRow], now: datetime) -> None:
    """Take a study off the list that was done with after its last image came: by our clock, as all that reopens it."""
    if not endings or study.arrived_at is None or study.finished_at is not None:
        return
    last = max(endings, key=lambda row: (row.recorded_at, row.id))
    latest_image = session.scalar(
        select(func.max(InstanceRow.received_at)).where(InstanceRow.study_instance_uid == study.study_instance_uid)
    )
    if latest_image is not None and latest_image > last.recorded_at:
        return
    finish_study(session, study, now=now, actor=last.sender, detail=_in_words(last))
    study.finished_at = last.recorded_at


def _in_words(order: OrderRow) -> str:
    assert order.ending is not None
    return order.ending.replace("_", " ")
