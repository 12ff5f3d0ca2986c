"""A revision as it is read back: what it is about, what it consists of, and what it follows."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session

from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.ledger import predictions
from cxr_triage.storage.result_records import PER_IMAGE, ObjectKind, ObjectReference, Reason, Revision
from cxr_triage.storage.schema import (
    DeliveryRow,
    HeaderRow,
    InstanceRow,
    ObjectRow,
    PredictionRow,
    RevisionImageRow,
    RevisionObjectRow,
    RevisionRow,
)


def revision_of(session: Session, row: RevisionRow) -> Revision:
    """Read a revision back."""
    return Revision(
        id=row.id,
        study_instance_uid=row.study_instance_uid,
        number=row.number,
        digest=row.digest,
        created_at=row.created_at,
        predecessors=_predecessors(session, row),
        priority_reason=row.priority_reason,
        withdrawal=row.withdrawal,
    )


def predictions_of(session: Session, revision_id: int) -> list[StoredPrediction]:
    """Give what `Reporting.predictions` gives."""
    images = (
        select(InstanceRow, PredictionRow)
        .join(PredictionRow, PredictionRow.instance_id == InstanceRow.id)
        .join(RevisionImageRow, RevisionImageRow.instance_id == InstanceRow.id)
        .where(RevisionImageRow.revision_id == revision_id)
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    # A dict keeps the last: the latest content of each SOP Instance UID.
    latest = {instance.sop_instance_uid: (instance, row) for instance, row in session.execute(images)}
    return [stored_prediction(session, *pair) for pair in sorted(latest.values(), key=_arrival)]


def stored_prediction(session: Session, instance: InstanceRow, row: PredictionRow) -> StoredPrediction:
    """Read the prediction of an image back."""
    header = session.get_one(HeaderRow, instance.id)
    return StoredPrediction(
        instance_id=instance.id,
        sop_instance_uid=instance.sop_instance_uid,
        sop_class_uid=instance.sop_class_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        sha256=instance.sha256,
        path=Path(instance.path),
        received_at=instance.received_at,
        scored_at=row.scored_at,
        prediction=predictions.restore(session, row),
        version=_version(session, instance),
    )


def link_stand_ins(session: Session, revision: RevisionRow, objects: Sequence[ObjectRow]) -> None:
    """Make the stand-ins of an earlier revision's objects part of a revision that uses these again."""
    reused = {_made_of(each) for each in objects if each.source_instance_id is not None}
    made = select(ObjectRow).where(
        ObjectRow.study_instance_uid == revision.study_instance_uid,
        ObjectRow.kind.in_(PER_IMAGE),
        ObjectRow.stand_in,
        is_usable(),
    )
    session.add_all(
        RevisionObjectRow(revision_id=revision.id, object_id=row.id)
        for row in session.scalars(made)
        if _made_of(row) in reused
    )


def _made_of(made: ObjectRow) -> tuple[int | None, int, str]:
    return made.source_instance_id, made.source_edition, made.profile


def is_usable() -> ColumnElement[bool]:
    """Whether an object may be part of a revision to come: it was not withdrawn."""
    return or_(ObjectRow.rejected.is_(None), ObjectRow.rejected == Reason.SUPERSEDED)


def _predecessors(session: Session, row: RevisionRow) -> dict[str, list[ObjectReference]]:
    """Name the SRs that a revision supersedes, by profile: a destination has only those of its own.

    One that no destination takes was told to nobody: its stand-in was. Neither was one that was withdrawn before.
    """
    delivery = DeliveryRow.object_id == ObjectRow.id
    untaken = and_(DeliveryRow.state == DeliveryState.NOT_TAKEN, DeliveryRow.instead != Instead.DUE)
    ended = or_(untaken, DeliveryRow.state == DeliveryState.WITHDRAWN)
    told = or_(~exists().where(delivery), exists().where(delivery, ~ended))
    reports = session.scalars(
        select(ObjectRow)
        .join(RevisionObjectRow, RevisionObjectRow.object_id == ObjectRow.id)
        .where(RevisionObjectRow.revision_id == row.predecessor_id, ObjectRow.kind == ObjectKind.SR, told)
        .order_by(ObjectRow.id)
    )
    named: dict[str, list[ObjectReference]] = {}
    for sr in reports:
        reference = ObjectReference(
            sr.sop_class_uid, sr.sop_instance_uid, sr.series_instance_uid, sr.study_instance_uid
        )
        named.setdefault(sr.profile, []).append(reference)
    return named


def _version(session: Session, instance: InstanceRow) -> int:
    """Say which result of its SOP Instance UID an image's is. Contents that objects were made of count before it."""
    reported = exists().where(ObjectRow.source_instance_id == InstanceRow.id)
    earlier = or_(
        InstanceRow.received_at < instance.received_at,
        and_(InstanceRow.received_at == instance.received_at, InstanceRow.id < instance.id),
    )
    before = select(func.coalesce(func.sum(1 + InstanceRow.edition), 0)).where(
        InstanceRow.sop_instance_uid == instance.sop_instance_uid, earlier, reported
    )
    return 1 + instance.edition + int(session.scalar(before) or 0)


def _arrival(pair: tuple[InstanceRow, PredictionRow]) -> tuple[datetime, int]:
    return pair[0].received_at, pair[0].id
