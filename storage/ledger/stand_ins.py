"""What the report role writes of objects that a destination does not take: what that gets instead."""

from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session, aliased

from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState, Instead, Untaken
from cxr_triage.storage.image_records import InstanceHeader, StoredPrediction
from cxr_triage.storage.ledger import headers
from cxr_triage.storage.ledger.objects import object_of, take_object
from cxr_triage.storage.ledger.revisions import predictions_of, revision_of, stored_prediction
from cxr_triage.storage.ledger.studies import locked_study
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import PER_IMAGE, ResultObject, Revision, RevisionState
from cxr_triage.storage.schema import (
    DeliveryRow,
    Event,
    HeaderRow,
    InstanceRow,
    ObjectRow,
    PredictionRow,
    RevisionObjectRow,
    RevisionRow,
)

#: Who acted, in the audit trail.
_ACTOR: Final = "report"


class ReportedRevision(NamedTuple):
    """A revision as its documents were made from it."""

    revision: Revision
    #: In the order in which the images were received.
    predictions: list[StoredPrediction]
    #: Objects about its images that its documents cite.
    cited: list[ResultObject]
    #: Of the first image.
    header: InstanceHeader


class StandIns:
    """Decides each delivery that was not taken, once."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def due(self, destinations: Collection[str], limit: int, *, but_of: Collection[str] = ()) -> list[Untaken]:
        """Objects for which is to be decided what these destinations get instead, oldest first.

        Nothing stands in for what was withdrawn.

        Args:
            destinations: by name.
            limit: how many at most.
            but_of: studies that are left out.
        """
        stands = exists().where(
            RevisionObjectRow.object_id == DeliveryRow.object_id,
            RevisionRow.id == RevisionObjectRow.revision_id,
            RevisionRow.state.in_((RevisionState.REPORTED, RevisionState.SUPERSEDED)),
        )
        untaken = (
            select(DeliveryRow, ObjectRow)
            .join(ObjectRow, ObjectRow.id == DeliveryRow.object_id)
            .where(
                DeliveryRow.instead == Instead.DUE,
                DeliveryRow.state == DeliveryState.NOT_TAKEN,
                DeliveryRow.destination.in_(destinations),
                ObjectRow.study_instance_uid.not_in(but_of),
                stands,
            )
            .order_by(DeliveryRow.id)
            .limit(limit)
        )
        with self._database.read() as session:
            return [
                Untaken(delivery_id=delivery.id, destination=delivery.destination, object=object_of(made))
                for delivery, made in session.execute(untaken)
            ]

    def image_of(self, untaken: Untaken) -> StoredPrediction:
        """Give the image, as it was scored, that an object of a kind per image is about."""
        image = (
            select(InstanceRow, PredictionRow)
            .join(PredictionRow, PredictionRow.instance_id == InstanceRow.id)
            .join(ObjectRow, ObjectRow.source_instance_id == InstanceRow.id)
            .where(ObjectRow.sop_instance_uid == untaken.object.sop_instance_uid)
        )
        with self._database.read() as session:
            return stored_prediction(session, *session.execute(image).one())

    def revision_of(self, untaken: Untaken) -> ReportedRevision:
        """Give the revision whose document this is; as its predecessors count those that any destination got."""
        revisions = (
            select(RevisionRow)
            .join(RevisionObjectRow, RevisionObjectRow.revision_id == RevisionRow.id)
            .join(ObjectRow, ObjectRow.id == RevisionObjectRow.object_id)
            .where(ObjectRow.sop_instance_uid == untaken.object.sop_instance_uid)
        )
        with self._database.read() as session:
            row = session.scalars(revisions).one()
            cited = (
                select(ObjectRow)
                .join(RevisionObjectRow, RevisionObjectRow.object_id == ObjectRow.id)
                .where(
                    RevisionObjectRow.revision_id == row.id,
                    ObjectRow.profile == untaken.object.profile,
                    ObjectRow.kind.in_(PER_IMAGE),
                    ObjectRow.stand_in.is_(False),
                )
                .order_by(ObjectRow.id)
            )
            images = predictions_of(session, row.id)
            return ReportedRevision(
                revision_of(session, row),
                images,
                [object_of(each) for each in session.scalars(cited)],
                headers.header_of(session.get_one(HeaderRow, images[0].instance_id)),
            )

    def use_again(self, untaken: Untaken, sop_class_uid: str) -> bool:
        """Decide by a stand-in of this SOP Class that was made of the same before; whether there is one.

        It may have been made for another destination, under other words of the profile, or by an earlier release: what
        it stands for has one stand-in of each class, whenever it is asked for.

        Raises:
            StaleAttemptError: it was decided otherwise meanwhile: nothing is recorded.
        """
        with self._database.transaction() as session:
            locked_study(session, untaken.object.study_instance_uid)
            delivery, original = self._undecided(session, untaken)
            row = _made_before(session, original, sop_class_uid, untaken.destination)
            if row is None:
                return False
            _link_as(session, original, row)
            self._put_up(session, row, untaken.destination)
            delivery.instead, delivery.instead_id = Instead.STAND_IN, row.id
            told = f"{row.kind.value} {row.sop_instance_uid}, made before, to {untaken.destination}"
            note(session, self._clock(), _ACTOR, Event.STAND_IN_MADE, original, told)
            return True

    def record_stand_in(self, untaken: Untaken, made: ResultObject) -> bool:
        """Put a stand-in up for delivery to that destination, and decide by it; at once.

        Returns:
            Whether the ledger owns its file now; not where the same object was made before.

        Raises:
            StaleAttemptError: it was decided otherwise meanwhile: nothing is recorded.
            ResultError: the stand-in's UID is known with other bytes: nothing is recorded.
            StorageError: the database refused, or its answer to the commit got lost.
        """
        with self._database.transaction() as session:
            locked_study(session, made.study_instance_uid)
            delivery, original = self._undecided(session, untaken)
            source = session.get(InstanceRow, original.source_instance_id) if original.source_instance_id else None
            row = take_object(session, made, source, self._clock())
            row.rejected = original.rejected
            _link_as(session, original, row)
            self._put_up(session, row, untaken.destination)
            delivery.instead, delivery.instead_id = Instead.STAND_IN, row.id
            told = f"{made.kind.value} {made.sop_instance_uid} to {untaken.destination}"
            note(session, self._clock(), _ACTOR, Event.STAND_IN_MADE, original, told)
            return row.path == made.path.as_posix()

    def record_without(self, untaken: Untaken, instead: Instead) -> None:
        """Decide that no stand-in is sent.

        Args:
            untaken: what was not taken.
            instead: PROFILE or NOTHING.

        Raises:
            StaleAttemptError: it was decided otherwise meanwhile: nothing is recorded.
        """
        with self._database.transaction() as session:
            delivery, _ = self._undecided(session, untaken)
            delivery.instead = instead

    def _undecided(self, session: Session, untaken: Untaken) -> tuple[DeliveryRow, ObjectRow]:
        row = session.get_one(DeliveryRow, untaken.delivery_id, with_for_update=True)
        if row.state is not DeliveryState.NOT_TAKEN or row.instead is not Instead.DUE:
            raise StaleAttemptError(f"what {row.destination} gets instead of an object was decided meanwhile")
        return row, session.get_one(ObjectRow, row.object_id)

    def _put_up(self, session: Session, made: ObjectRow, destination: str) -> None:
        """Send a stand-in; one that was not taken before is offered again, since what it stands for was."""
        row = session.scalar(
            select(DeliveryRow)
            .where(DeliveryRow.object_id == made.id, DeliveryRow.destination == destination)
            .with_for_update()
        )
        now = self._clock()
        if row is None:
            row = DeliveryRow(object_id=made.id, destination=destination, created_at=now, attempt=0, failures=0)
            session.add(row)
        elif row.state is not DeliveryState.NOT_TAKEN:
            return
        row.state, row.changed_at = DeliveryState.PENDING, now
        row.instead = row.instead_id = None


def _made_before(session: Session, original: ObjectRow, sop_class_uid: str, destination: str) -> ObjectRow | None:
    """A stand-in that this destination has, or else one whose file is still there; the first that was made."""
    theirs = aliased(RevisionObjectRow)
    ours = aliased(RevisionObjectRow)
    same_revision = exists().where(
        theirs.object_id == ObjectRow.id, ours.object_id == original.id, ours.revision_id == theirs.revision_id
    )
    has_it = exists().where(
        DeliveryRow.object_id == ObjectRow.id,
        DeliveryRow.destination == destination,
        DeliveryRow.state.in_((DeliveryState.STORED, DeliveryState.COMMITTED)),
    )
    of_the_same = (
        ObjectRow.source_instance_id == original.source_instance_id
        if original.source_instance_id is not None
        else same_revision
    )
    return session.scalar(
        select(ObjectRow)
        .where(
            ObjectRow.stand_in,
            ObjectRow.study_instance_uid == original.study_instance_uid,
            ObjectRow.profile == original.profile,
            ObjectRow.sop_class_uid == sop_class_uid,
            # What was rejected comes back under other UIDs.
            ObjectRow.rejected.is_not_distinct_from(original.rejected),
            of_the_same,
            or_(has_it, ObjectRow.owns_file),
        )
        .order_by(has_it.desc(), ObjectRow.id)
        .limit(1)
    )


def _link_as(session: Session, original: ObjectRow, made: ObjectRow) -> None:
    """Make a stand-in part of each revision that what it stands for is part of."""
    linked = select(RevisionObjectRow.revision_id)
    missing = set(session.scalars(linked.where(RevisionObjectRow.object_id == original.id))) - set(
        session.scalars(linked.where(RevisionObjectRow.object_id == made.id))
    )
    session.add_all(RevisionObjectRow(revision_id=revision, object_id=made.id) for revision in sorted(missing))
