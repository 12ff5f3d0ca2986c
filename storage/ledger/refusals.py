"""What destinations did not take, counted."""

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.storage.delivery_records import DeliveryState, Instead, NotTaken
from cxr_triage.storage.result_records import PER_IMAGE, ObjectKind
from cxr_triage.storage.schema import DeliveryRow, ObjectRow, RevisionObjectRow, StudyRow


def not_taken(session: Session) -> dict[str, list[NotTaken]]:
    """Count what was not taken by destination, SOP Class and what is sent instead."""
    stand_in = aliased(ObjectRow)
    keys = (
        DeliveryRow.destination,
        ObjectRow.sop_class_uid,
        DeliveryRow.instead,
        stand_in.sop_class_uid,
    )
    counted = session.execute(
        select(*keys, func.count(), func.max(DeliveryRow.last_error), func.max(DeliveryRow.changed_at))
        .join(ObjectRow, ObjectRow.id == DeliveryRow.object_id)
        .outerjoin(stand_in, stand_in.id == DeliveryRow.instead_id)
        .where(DeliveryRow.state == DeliveryState.NOT_TAKEN)
        .group_by(*keys)
        .order_by(*keys)
    )
    found: dict[str, list[NotTaken]] = {}
    for destination, sop_class, instead, instead_class, count, reason, last_at in counted:
        taken = and_(
            DeliveryRow.destination == destination,
            DeliveryRow.state.in_((DeliveryState.STORED, DeliveryState.COMMITTED)),
            DeliveryRow.changed_at > last_at,
            ObjectRow.id == DeliveryRow.object_id,
            ObjectRow.sop_class_uid == sop_class,
        )
        found.setdefault(destination, []).append(
            NotTaken(
                sop_class_uid=sop_class,
                instead=instead or Instead.DUE,
                instead_class_uid=instead_class or "",
                count=count,
                reason=reason or "",
                last_at=last_at,
                taken_since=bool(session.scalar(select(exists().where(taken)))),
            )
        )
    return found


def untold(session: Session) -> dict[str, int]:
    """Count unread studies of which a destination gets a report or the outlines in no form, by destination."""
    counted = session.execute(
        select(DeliveryRow.destination, func.count(ObjectRow.study_instance_uid.distinct()))
        .join(ObjectRow, ObjectRow.id == DeliveryRow.object_id)
        .join(StudyRow, StudyRow.study_instance_uid == ObjectRow.study_instance_uid)
        .where(
            DeliveryRow.state == DeliveryState.NOT_TAKEN,
            DeliveryRow.instead == Instead.NOTHING,
            # A flag or a note says nothing that the report does not say.
            ObjectRow.kind.not_in((ObjectKind.KO, ObjectKind.NOTE)),
            ObjectRow.rejected.is_(None),
            StudyRow.finished_at.is_(None),
            ~_told_otherwise(),
        )
        .group_by(DeliveryRow.destination)
        .order_by(DeliveryRow.destination)
    )
    return dict(iter(counted))


def _told_otherwise() -> ColumnElement[bool]:
    """Whether the destination of a delivery has, or will have, another object that says the same."""
    other, delivery = aliased(ObjectRow), aliased(DeliveryRow)
    mine, its = aliased(RevisionObjectRow), aliased(RevisionObjectRow)
    of_image = and_(other.kind.in_(PER_IMAGE), other.source_instance_id == ObjectRow.source_instance_id)
    of_revision = and_(
        other.kind == ObjectKind.SR,
        ObjectRow.kind == ObjectKind.SR,
        exists().where(mine.object_id == ObjectRow.id, its.revision_id == mine.revision_id, its.object_id == other.id),
    )
    return exists().where(
        delivery.destination == DeliveryRow.destination,
        delivery.state.in_((DeliveryState.PENDING, DeliveryState.STORED, DeliveryState.COMMITTED)),
        other.id == delivery.object_id,
        other.study_instance_uid == ObjectRow.study_instance_uid,
        or_(of_image, of_revision),
    )
