"""What upkeep, status and the health checks read and write."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import refusals
from cxr_triage.storage.ledger.circuits import circuits_in
from cxr_triage.storage.ledger.dispatch import waits_for_cited
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import Reason, RevisionState
from cxr_triage.storage.schema import DeliveryRow, Event, InstanceRow, ObjectRow, RevisionRow, StudyRow
from cxr_triage.storage.upkeep_records import Counts, OwnedFile, Place, SetAside

#: Who acted, in the audit trail.
_ACTOR: Final = "upkeep"
#: Which table's rows own the files of a place.
OWNERS: Final[Mapping[Place, type[InstanceRow] | type[ObjectRow]]] = {"inbox": InstanceRow, "outbox": ObjectRow}
#: Paths per question, below what SQLite takes (SQLITE_MAX_VARIABLE_NUMBER, 999 in old builds).
_PATHS_AT_ONCE: Final = 500


class Housekeeping:
    """Counts, and the end of files."""

    def __init__(
        self,
        database: Database,
        *,
        committing: Collection[str] = (),
        destinations: Collection[str] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Keep house.

        Args:
            database: of the ledger.
            committing: destinations where an object counts as delivered only once they have committed to it.
            destinations: those that are configured; None: all that the ledger knows. No image stays for others.
            clock: gives the present.
        """
        self._database = database
        self._committing = committing
        self._destinations = destinations
        self._clock = clock

    def ping(self) -> None:
        """Ask the database for nothing but an answer.

        Raises:
            StorageError: it gave none.
        """
        with self._database.read() as session:
            session.execute(select(1))

    def counts(self) -> Counts:
        """Count everything by state, as one snapshot."""
        with self._database.read() as session:
            return Counts(
                instances=_instances(session),
                revisions=_revisions(session),
                deliveries=_deliveries(session),
                held_back=_held_back(session),
                not_taken=refusals.not_taken(session),
                untold=refusals.untold(session),
                circuits=circuits_in(session),
                listed_studies=_count(session, StudyRow.arrived_at.is_not(None) & StudyRow.finished_at.is_(None)),
                other_bytes=_count(session, InstanceRow.other_bytes.is_(True)),
                failed_unread=_count(session, _failed_unread()),
                oldest_unscored_at=session.scalar(
                    select(func.min(InstanceRow.received_at)).where(
                        InstanceRow.state.in_((InstanceState.RECEIVED, InstanceState.INDEXED))
                    )
                ),
                oldest_undelivered_at=session.scalar(
                    select(func.min(DeliveryRow.created_at)).where(
                        or_(
                            DeliveryRow.state == DeliveryState.PENDING,
                            DeliveryRow.instead == Instead.DUE,
                            _uncommitted(self._committing),
                        )
                    )
                ),
            )

    def set_aside(self, limit: int = 1000) -> list[SetAside]:
        """Images that have no result and why, the latest first."""
        latest = (
            select(InstanceRow)
            .where(InstanceRow.state.in_((InstanceState.UNSUITABLE, InstanceState.FAILED)))
            .order_by(InstanceRow.changed_at.desc(), InstanceRow.id.desc())
            .limit(limit)
        )
        with self._database.read() as session:
            return [_as_set_aside(row) for row in session.scalars(latest)]

    def forgettable_files(self, before: datetime, limit: int = 500) -> list[OwnedFile]:
        """Files that nothing needs any more, oldest first, at most `limit` of each place: ask again for the rest.

        Images received before that time, scored and reported or unsuitable, of finished studies; objects made before
        that time whose deliveries are all done: stored, or committed to where the destination does that, or not taken
        and decided upon. Files of failed images and of dead deliveries stay, and images while results of their study
        are on their way to a configured destination: a stand-in may have to be made of them.
        """
        with self._database.read() as session:
            images = session.execute(_forgettable_images(before, self._destinations).limit(limit))
            objects = session.execute(_forgettable_objects(before, self._committing).limit(limit))
            return [
                *(OwnedFile(place="inbox", id=row_id, path=Path(path)) for row_id, path in images),
                *(OwnedFile(place="outbox", id=row_id, path=Path(path)) for row_id, path in objects),
            ]

    def record_forgotten(self, files: Sequence[OwnedFile]) -> None:
        """Record that files were removed. Remove first, record after: a crash between is repaired by the next run."""
        with self._database.transaction() as session:
            for file in files:
                row = owner_row(session, file.place, file.id)
                row.owns_file = False
                note(session, self._clock(), _ACTOR, Event.FILE_FORGOTTEN, row, file.place)

    def unowned(self, place: Place, paths: Iterable[str]) -> list[Path]:
        """Of these files, those that no row owns: left by a crash between file and row, and never acknowledged.

        Args:
            place: where they are.
            paths: as the ledger writes them: `Path` would keep memory for every name (it interns them).
        """
        ordered = sorted(paths)
        owned: set[str] = set()
        with self._database.read() as session:
            for start in range(0, len(ordered), _PATHS_AT_ONCE):
                owned.update(_owned(session, OWNERS[place], ordered[start : start + _PATHS_AT_ONCE]))
        return [Path(path) for path in ordered if path not in owned]


def owner_row(session: Session, place: Place, row_id: int) -> InstanceRow | ObjectRow:
    """Give the row that owns a file."""
    if place == "inbox":
        return session.get_one(InstanceRow, row_id)
    return session.get_one(ObjectRow, row_id)


def _owned(session: Session, table: type[InstanceRow] | type[ObjectRow], paths: list[str]) -> Iterable[str]:
    # Always as many: each other number is another statement, which the driver prepares and keeps.
    asked = [*paths, *paths[-1:] * (_PATHS_AT_ONCE - len(paths))]
    return session.scalars(select(table.path).where(table.path.in_(asked), table.owns_file))


def _forgettable_images(before: datetime, destinations: Collection[str] | None) -> Select[int, str]:
    reported = and_(
        InstanceRow.state == InstanceState.SCORED, or_(InstanceRow.covered_by.is_not(None), InstanceRow.withdrawn)
    )
    finished = exists().where(
        StudyRow.study_instance_uid == InstanceRow.study_instance_uid, StudyRow.finished_at.is_not(None)
    )
    # What is on its way may turn out not to be taken, and then its stand-in is made of the image.
    stand_in_possible = exists().where(
        or_(DeliveryRow.instead == Instead.DUE, DeliveryRow.state == DeliveryState.PENDING),
        ObjectRow.id == DeliveryRow.object_id,
        ObjectRow.study_instance_uid == InstanceRow.study_instance_uid,
        # Nobody sends to another one, nor decides for it.
        true() if destinations is None else DeliveryRow.destination.in_(destinations),
    )
    needless = (
        InstanceRow.owns_file,
        InstanceRow.received_at < before,
        or_(reported, InstanceRow.state == InstanceState.UNSUITABLE),
        or_(InstanceRow.study_instance_uid.is_(None), finished),
        ~stand_in_possible,
    )
    return select(InstanceRow.id, InstanceRow.path).where(*needless).order_by(InstanceRow.received_at, InstanceRow.id)


def _forgettable_objects(before: datetime, committing: Collection[str]) -> Select[int, str]:
    undelivered = or_(
        DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.DEAD)), DeliveryRow.instead == Instead.DUE
    )
    unfinished = exists().where(DeliveryRow.object_id == ObjectRow.id, or_(undelivered, _uncommitted(committing)))
    needless = (ObjectRow.owns_file, ObjectRow.created_at < before, ~unfinished)
    return select(ObjectRow.id, ObjectRow.path).where(*needless).order_by(ObjectRow.created_at, ObjectRow.id)


def _uncommitted(committing: Collection[str]) -> ColumnElement[bool]:
    """Which deliveries are stored and still need their destination's commitment, and their file in the outbox.

    Objects whose files went before the destination was asked for commitment are done, and so is what was withdrawn.
    """
    made = aliased(ObjectRow)
    withdrawn = and_(made.rejected.is_not(None), made.rejected != Reason.SUPERSEDED)
    in_outbox = exists().where(made.id == DeliveryRow.object_id, made.owns_file, ~withdrawn)
    return and_(
        DeliveryRow.state == DeliveryState.STORED,
        DeliveryRow.rejected_by_id.is_(None),
        DeliveryRow.destination.in_(committing),
        in_outbox,
    )


def _instances(session: Session) -> dict[InstanceState, int]:
    counted = session.execute(select(InstanceRow.state, func.count()).group_by(InstanceRow.state))
    return dict.fromkeys(InstanceState, 0) | dict(iter(counted))


def _revisions(session: Session) -> dict[RevisionState, int]:
    counted = session.execute(select(RevisionRow.state, func.count()).group_by(RevisionRow.state))
    return dict.fromkeys(RevisionState, 0) | dict(iter(counted))


def _deliveries(session: Session) -> dict[str, dict[DeliveryState, int]]:
    counted = session.execute(
        select(DeliveryRow.destination, DeliveryRow.state, func.count())
        .group_by(DeliveryRow.destination, DeliveryRow.state)
        .order_by(DeliveryRow.destination)
    )
    deliveries: dict[str, dict[DeliveryState, int]] = {}
    for destination, state, count in counted:
        deliveries.setdefault(destination, dict.fromkeys(DeliveryState, 0))[state] = count
    return deliveries


def _held_back(session: Session) -> dict[str, int]:
    counted = session.execute(
        select(DeliveryRow.destination, func.count())
        .where(DeliveryRow.state == DeliveryState.PENDING, waits_for_cited(DeliveryState.DEAD))
        .group_by(DeliveryRow.destination)
        .order_by(DeliveryRow.destination)
    )
    return dict(iter(counted))


def _failed_unread() -> ColumnElement[bool]:
    unread = select(StudyRow.study_instance_uid).where(StudyRow.finished_at.is_(None))
    of_a_reader = or_(InstanceRow.study_instance_uid.is_(None), InstanceRow.study_instance_uid.in_(unread))
    return (InstanceRow.state == InstanceState.FAILED) & of_a_reader


def _count(session: Session, which: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(which)) or 0


def _as_set_aside(row: InstanceRow) -> SetAside:
    return SetAside(
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        state=row.state,
        reason=row.reason or "",
        explanation=row.explanation or "",
        path=Path(row.path),
    )
