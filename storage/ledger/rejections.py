"""What the report role writes of objects that are not to be used any more: destinations are told so by notes."""

from collections.abc import Collection
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.ledger import headers
from cxr_triage.storage.ledger.objects import object_of, take_object
from cxr_triage.storage.ledger.revisions import is_usable, predictions_of, revision_of
from cxr_triage.storage.ledger.studies import locked_study
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import (
    WITHOUT_PREDECESSORS,
    ObjectKind,
    Reason,
    Rejection,
    ResultObject,
    RevisionState,
)
from cxr_triage.storage.schema import (
    DeliveryRow,
    Event,
    HeaderRow,
    InstanceRow,
    ObjectRow,
    RevisionImageRow,
    RevisionObjectRow,
    RevisionRow,
)

#: Who acted, in the audit trail.
_ACTOR: Final = "report"
#: What a destination has.
_HAS: Final = (DeliveryState.STORED, DeliveryState.COMMITTED)


class _Group(NamedTuple):
    """What one note is about."""

    study_instance_uid: str
    destination: str
    reason: Reason


class Rejections:
    """Finds what destinations are to be told to use no more, and records the notes that tell them."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def due(self, destinations: Collection[str], limit: int, *, but_of: Collection[str] = ()) -> list[Rejection]:
        """What these destinations have and have not been told to use no more.

        A destination is told only once it has what stands instead, so that its readers never have nothing. Of what it
        has not got, it is told nothing: a PACS may refuse a note about what it does not know.

        Args:
            destinations: those that take notes, by name.
            limit: how many at most.
            but_of: studies that are left out.
        """
        waiting = _to_tell() & DeliveryRow.destination.in_(destinations) & ObjectRow.study_instance_uid.not_in(but_of)
        groups = (
            select(ObjectRow.study_instance_uid, DeliveryRow.destination, ObjectRow.rejected)
            .join(DeliveryRow, DeliveryRow.object_id == ObjectRow.id)
            .where(waiting)
            .distinct()
            .order_by(ObjectRow.study_instance_uid, DeliveryRow.destination, ObjectRow.rejected)
            .limit(limit)
        )
        with self._database.read() as session:
            return [
                self._rejection(session, _Group(study, destination, reason))
                for study, destination, reason in session.execute(groups).all()
                if reason is not None
            ]

    def record_note(self, rejection: Rejection, made: ResultObject) -> bool:
        """Put a note up for delivery, and remember of what it tells; at once.

        Returns:
            Whether the ledger owns its file now; not where the same note was made for another destination.

        Raises:
            StaleAttemptError: something else is due by now: nothing is recorded.
            ResultError: the note's UID is known with other bytes: nothing is recorded.
            StorageError: the database refused, or its answer to the commit got lost.
        """
        with self._database.transaction() as session:
            locked_study(session, made.study_instance_uid)
            if not self._is_still_due(session, rejection):
                raise StaleAttemptError(f"{rejection.destination} is to be told something else by now")
            now = self._clock()
            row = take_object(session, made, None, now)
            _be_part_of(session, row, rejection.revision.id)
            session.add(_delivery(row, rejection.destination, now=now))
            for delivery in session.scalars(
                select(DeliveryRow).where(DeliveryRow.id.in_(rejection.delivery_ids)).with_for_update()
            ):
                delivery.rejected_by_id = row.id
            told = f"{made.kind.value} to {rejection.destination}: {len(rejection.objects)}, {rejection.reason.value}"
            note(session, now, _ACTOR, Event.REJECTION_NOTE_MADE, row, told)
            return row.path == made.path.as_posix()

    def _rejection(self, session: Session, group: _Group) -> Rejection:
        rows = _of_group(session, group)
        revision = session.scalars(
            select(RevisionRow).where(
                RevisionRow.study_instance_uid == group.study_instance_uid,
                RevisionRow.state == RevisionState.REPORTED,
            )
        ).one()
        return Rejection(
            destination=group.destination,
            reason=group.reason,
            revision=revision_of(session, revision),
            objects=[object_of(made) for _, made in rows],
            delivery_ids=[delivery.id for delivery, _ in rows],
            predictions=(images := predictions_of(session, revision.id)),
            header=headers.header_of(session.get_one(HeaderRow, images[0].instance_id)),
        )

    def _is_still_due(self, session: Session, rejection: Rejection) -> bool:
        group = _Group(rejection.revision.study_instance_uid, rejection.destination, rejection.reason)
        found = [delivery.id for delivery, _ in _of_group(session, group)]
        state = session.get_one(RevisionRow, rejection.revision.id).state
        return found == list(rejection.delivery_ids) and state is RevisionState.REPORTED


def supersede_objects(session: Session, revision: RevisionRow) -> None:
    """Mark what a revision takes the place of: objects of earlier ones about its images, and about no other image.

    What is about an image that it does not speak of stays as it is: an image that has left the inbox after its time has
    not left the study.
    """
    mine = set(session.scalars(_objects_of(revision.id)))
    images = set(session.scalars(_images_of(revision.id)))
    others = select(ObjectRow).where(
        ObjectRow.study_instance_uid == revision.study_instance_uid,
        ObjectRow.kind.in_(WITHOUT_PREDECESSORS),
        is_usable(),
    )
    for made in session.scalars(others.order_by(ObjectRow.id)):
        if made.id in mine:
            made.rejected = None
        elif _is_about(session, made) <= images:
            made.rejected = Reason.SUPERSEDED


def _is_about(session: Session, made: ObjectRow) -> set[str]:
    """Name the images that an object speaks of."""
    if made.kind.per_image:
        return {made.source_sop_instance_uid}
    revisions = session.scalars(
        select(RevisionObjectRow.revision_id).where(RevisionObjectRow.object_id == made.id)
    ).all()
    return {uid for revision_id in revisions for uid in session.scalars(_images_of(revision_id))}


def _objects_of(revision_id: int) -> Select[int]:
    return select(RevisionObjectRow.object_id).where(RevisionObjectRow.revision_id == revision_id)


def _images_of(revision_id: int) -> Select[str]:
    return (
        select(InstanceRow.sop_instance_uid)
        .join(RevisionImageRow, RevisionImageRow.instance_id == InstanceRow.id)
        .where(RevisionImageRow.revision_id == revision_id)
    )


def _of_group(session: Session, group: _Group) -> list[tuple[DeliveryRow, ObjectRow]]:
    rows = (
        select(DeliveryRow, ObjectRow)
        .join(ObjectRow, ObjectRow.id == DeliveryRow.object_id)
        .where(
            _to_tell(),
            ObjectRow.study_instance_uid == group.study_instance_uid,
            DeliveryRow.destination == group.destination,
            ObjectRow.rejected == group.reason,
        )
        .order_by(ObjectRow.id)
    )
    return [(delivery, made) for delivery, made in session.execute(rows)]


def _to_tell() -> ColumnElement[bool]:
    """Whether a destination has an object that is rejected, was not told so, and has what stands instead."""
    stands, link = aliased(RevisionRow), aliased(RevisionObjectRow)
    instead, delivery = aliased(ObjectRow), aliased(DeliveryRow)
    standing = (
        stands.study_instance_uid == ObjectRow.study_instance_uid,
        stands.state == RevisionState.REPORTED,
    )
    awaited = exists().where(
        *standing,
        link.revision_id == stands.id,
        instead.id == link.object_id,
        instead.kind != ObjectKind.NOTE,
        delivery.object_id == instead.id,
        delivery.destination == DeliveryRow.destination,
        or_(
            delivery.state == DeliveryState.PENDING,
            # What was given up is worth waiting for where it stands instead, not where nothing does.
            and_(delivery.state == DeliveryState.DEAD, ObjectRow.rejected == Reason.SUPERSEDED),
            delivery.instead == Instead.DUE,
        ),
    )
    return and_(
        ObjectRow.rejected.is_not(None),
        DeliveryRow.state.in_(_HAS),
        DeliveryRow.rejected_by_id.is_(None),
        exists().where(*standing),
        ~awaited,
    )


def _be_part_of(session: Session, made: ObjectRow, revision_id: int) -> None:
    """Make a note part of the revision that stands."""
    if session.get(RevisionObjectRow, (revision_id, made.id)) is None:
        session.add(RevisionObjectRow(revision_id=revision_id, object_id=made.id))


def _delivery(made: ObjectRow, destination: str, *, now: datetime) -> DeliveryRow:
    return DeliveryRow(
        object_id=made.id,
        destination=destination,
        state=DeliveryState.PENDING,
        created_at=now,
        changed_at=now,
        attempt=0,
        failures=0,
    )
