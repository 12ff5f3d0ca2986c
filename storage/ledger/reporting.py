"""What the report role writes: revisions of a study's result, and the objects made from them."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from cxr_triage.model.errors import StaleAttemptError, StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceHeader, InstanceState, StoredPrediction
from cxr_triage.storage.ledger import headers
from cxr_triage.storage.ledger.lost import disown
from cxr_triage.storage.ledger.objects import object_of, take_object
from cxr_triage.storage.ledger.rejections import supersede_objects
from cxr_triage.storage.ledger.revisions import is_usable, link_stand_ins, predictions_of, revision_of
from cxr_triage.storage.ledger.studies import locked_study
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import PER_IMAGE, ObjectKind, ResultObject, Revision, RevisionState
from cxr_triage.storage.schema import (
    DeliveryRow,
    Event,
    HeaderRow,
    InstanceRow,
    ObjectRow,
    PredictionRow,
    RevisionImageRow,
    RevisionObjectRow,
    RevisionRow,
    StudyRow,
)

#: Who acted, in the audit trail.
_ACTOR: Final = "report"
_IS_OPEN_WITHDRAWAL: Final = (RevisionRow.state == RevisionState.OPEN) & RevisionRow.withdrawal.is_not(None)


class Completeness(NamedTuple):
    """When a study counts as complete. A lateral or otherwise unsuitable image never holds it back."""

    #: Without a new image for so long.
    quiet: timedelta = timedelta(0)
    #: In any case when a scored image has waited for so long.
    force: timedelta = timedelta.max


class _Image(NamedTuple):
    """A scored content of a SOP Instance."""

    id: int
    sop_instance_uid: str
    sha256: str
    bundle_sha256: str
    edition: int


_AT_ONCE: Final = Completeness()


class Reporting:
    """Turns scored images into revisions. An open revision is made again from the same rows until it is complete."""

    def __init__(self, database: Database, *, completeness: Completeness = _AT_ONCE, clock: Clock = utc_now) -> None:
        self._database = database
        self._completeness = completeness
        self._clock = clock

    def studies_to_report(self, limit: int) -> list[str]:
        """Studies with scored images that no reported revision covers, and that are complete.

        Before them, studies whose result was withdrawn and where no report says so yet.
        """
        withdrawn = select(RevisionRow.study_instance_uid).where(_IS_OPEN_WITHDRAWAL).order_by(RevisionRow.id)
        studies = (
            select(InstanceRow.study_instance_uid)
            .where(
                InstanceRow.state == InstanceState.SCORED,
                InstanceRow.covered_by.is_(None),
                InstanceRow.withdrawn.is_(False),
                _is_complete(self._completeness, self._clock()),
            )
            .group_by(InstanceRow.study_instance_uid)
            .order_by(func.min(InstanceRow.ordered), func.min(InstanceRow.received_at))
            .limit(limit)
        )
        with self._database.read() as session:
            found = [*session.scalars(withdrawn.limit(limit)), *session.scalars(studies)]
            return list(dict.fromkeys(uid for uid in found if uid is not None))[:limit]

    def open_withdrawal(self, study_instance_uid: str) -> Revision | None:
        """Give the revision of a study that is to say that its result is withdrawn; None: there is none to be made."""
        with self._database.read() as session:
            row = _withdrawal_of(session, study_instance_uid)
            return None if row is None else revision_of(session, row)

    def open_revision(self, study_instance_uid: str, policy_digest: str) -> Revision:
        """Fix which images the next revision is about. The same images, bundle and policy give the same revision.

        It is about every scored image whose file is still there: one that was removed after its time has been
        reported, and nothing new can be made of it.

        An open revision of fewer images is superseded: it can no longer be completed.

        Raises:
            StaleAttemptError: what was reported was withdrawn meanwhile: that is to be said first.
            StorageError: the study has no scored image.
        """
        with self._database.transaction() as session:
            study = locked_study(session, study_instance_uid)
            if _withdrawal_of(session, study_instance_uid) is not None:
                raise StaleAttemptError(f"the result of study {study_instance_uid} was withdrawn meanwhile")
            images = _reportable(session, study_instance_uid)
            if not images:
                raise StorageError(f"study {study_instance_uid} has no scored image: there is nothing to report")
            digest = _digest(study_instance_uid, images, policy_digest)
            row = session.scalar(select(RevisionRow).where(RevisionRow.digest == digest))
            if row is None:
                row = self._begin(session, study, images, digest, policy_digest)
            elif row.reported_at is None and row.state is RevisionState.SUPERSEDED:
                self._resume(session, study, row)
            return revision_of(session, row)

    def predictions(self, revision: Revision) -> list[StoredPrediction]:
        """Predictions that a revision is about, in the order in which the images were received.

        Where a SOP Instance UID came with several contents, the latest received one that was scored.
        """
        with self._database.read() as session:
            return predictions_of(session, revision.id)

    def reported_of_images(self, study_instance_uid: str) -> list[ResultObject]:
        """Objects about one image that reported revisions of the study made, whose files are still in the outbox.

        Later revisions use them again: one of each kind per scored image (content), result of it and profile.
        """
        made = (
            select(ObjectRow)
            .where(
                ObjectRow.study_instance_uid == study_instance_uid,
                ObjectRow.kind.in_(PER_IMAGE),
                ObjectRow.stand_in.is_(False),
                ObjectRow.owns_file,
                is_usable(),
            )
            .order_by(ObjectRow.id)
        )
        with self._database.read() as session:
            current = _latest(_reportable(session, study_instance_uid))
            return [
                object_of(row)
                for row in session.scalars(made)
                if (row.source_instance_id, row.source_edition) in current
            ]

    def header(self, study_instance_uid: str) -> InstanceHeader:
        """Header of the study's first received image that was indexed.

        Raises:
            StorageError: the study has no indexed image.
        """
        first = (
            select(HeaderRow)
            .join(InstanceRow, InstanceRow.id == HeaderRow.instance_id)
            .where(InstanceRow.study_instance_uid == study_instance_uid)
            .order_by(InstanceRow.received_at, InstanceRow.id)
            .limit(1)
        )
        with self._database.read() as session:
            row = session.scalar(first)
            if row is None:
                raise StorageError(f"study {study_instance_uid} has no indexed image: it has no header yet")
            return headers.header_of(row)

    def record_lost(self, stored: StoredPrediction) -> None:
        """Record that the file of an image that is to be reported is gone: without it, no object can name its patient.

        The image ends as failed until it is sent again, and the study is reported without it.
        """
        explanation = (
            "Its file is missing from the inbox, and its result was not reported: restore it, or have it sent again."
        )
        with self._database.transaction() as session:
            locked_study(session, stored.study_instance_uid)
            row = session.get_one(InstanceRow, stored.instance_id, with_for_update=True)
            if row.owns_file and Path(row.path) == stored.path:
                disown(session, row, "missing", explanation, actor=_ACTOR, now=self._clock())

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Mark a revision reported, supersede the one before, and put its objects up for delivery; at once.

        Doing so again changes nothing.

        Args:
            revision: an open one.
            objects: all that it consists of, those of images made by earlier revisions included.
            destinations: (name, profile) pairs: each gets the objects of its profile that it was not given before. Of
                a withdrawal, those are told that may have what was withdrawn.

        Raises:
            StaleAttemptError: a later revision took over: nothing is recorded.
            ResultError: an object's UID is known with other bytes: nothing is recorded.
            StorageError: the database refused, or its answer to the commit got lost.
        """
        with self._database.transaction() as session:
            study = locked_study(session, revision.study_instance_uid)
            row = session.get_one(RevisionRow, revision.id)
            if row.state is RevisionState.REPORTED:
                return
            if row.state is not RevisionState.OPEN:
                raise StaleAttemptError(
                    f"revision {row.number} of study {row.study_instance_uid} is {row.state.value} since it was begun: "
                    "nothing of it is recorded"
                )
            rows = [take_object(session, each, _source(session, row, each), self._clock()) for each in objects]
            session.add_all(RevisionObjectRow(revision_id=row.id, object_id=each.id) for each in rows)
            link_stand_ins(session, row, rows)
            supersede_objects(session, row)
            told = destinations if row.withdrawal is None else _told(session, study, destinations)
            self._address(session, rows, told)
            self._supersede(session, study, RevisionState.REPORTED)
            self._mark_reported(session, study, row)

    def objects(self) -> list[ResultObject]:
        """Every result object whose file is still in the outbox, oldest first."""
        with self._database.read() as session:
            rows = session.scalars(select(ObjectRow).where(ObjectRow.owns_file).order_by(ObjectRow.id))
            return [object_of(row) for row in rows]

    def _begin(
        self, session: Session, study: StudyRow, images: Sequence[_Image], digest: str, policy_digest: str
    ) -> RevisionRow:
        self._supersede(session, study, RevisionState.OPEN)
        uid = study.study_instance_uid
        last = session.scalar(select(func.max(RevisionRow.number)).where(RevisionRow.study_instance_uid == uid))
        row = RevisionRow(
            study_instance_uid=uid,
            number=(last or 0) + 1,
            digest=digest,
            policy_digest=policy_digest,
            priority_reason=study.reason,
            state=RevisionState.OPEN,
            created_at=self._clock(),
            predecessor_id=_reported(session, study),
        )
        session.add(row)
        session.flush()
        session.add_all(RevisionImageRow(revision_id=row.id, instance_id=image.id) for image in images)
        note(session, self._clock(), _ACTOR, Event.REVISION_OPENED, study, f"revision {row.number}")
        return row

    def _resume(self, session: Session, study: StudyRow, row: RevisionRow) -> None:
        """Open a revision again that another took over before it was reported, as when a policy is changed back."""
        self._supersede(session, study, RevisionState.OPEN)
        row.state = RevisionState.OPEN
        row.predecessor_id = _reported(session, study)
        note(session, self._clock(), _ACTOR, Event.REVISION_OPENED, study, f"revision {row.number}")

    def _address(self, session: Session, objects: Sequence[ObjectRow], destinations: Sequence[tuple[str, str]]) -> None:
        """Put objects up for delivery where they have not been put up before."""
        known = {
            (object_id, destination)
            for object_id, destination in session.execute(
                select(DeliveryRow.object_id, DeliveryRow.destination).where(
                    DeliveryRow.object_id.in_([row.id for row in objects])
                )
            )
        }
        session.add_all(
            DeliveryRow(
                object_id=row.id,
                destination=destination,
                state=DeliveryState.PENDING,
                created_at=self._clock(),
                changed_at=self._clock(),
                attempt=0,
                failures=0,
            )
            for row in objects
            for destination, profile in destinations
            if row.profile == profile and (row.id, destination) not in known
        )

    def _supersede(self, session: Session, study: StudyRow, state: RevisionState) -> None:
        rows = session.scalars(
            select(RevisionRow).where(
                RevisionRow.study_instance_uid == study.study_instance_uid, RevisionRow.state == state
            )
        )
        for row in rows:
            row.state = RevisionState.SUPERSEDED
            note(session, self._clock(), _ACTOR, Event.REVISION_SUPERSEDED, study, f"revision {row.number}")

    def _mark_reported(self, session: Session, study: StudyRow, row: RevisionRow) -> None:
        row.state = RevisionState.REPORTED
        row.reported_at = self._clock()
        covered = select(RevisionImageRow.instance_id).where(RevisionImageRow.revision_id == row.id)
        session.execute(
            update(InstanceRow)
            .where(InstanceRow.id.in_(covered), InstanceRow.covered_by.is_(None))
            .values(covered_by=row.id)
        )
        note(session, self._clock(), _ACTOR, Event.REVISION_REPORTED, study, f"revision {row.number}")


def _reportable(session: Session, study_instance_uid: str) -> list[_Image]:
    rows = session.execute(
        select(
            InstanceRow.id,
            InstanceRow.sop_instance_uid,
            InstanceRow.sha256,
            PredictionRow.bundle_sha256,
            InstanceRow.edition,
        )
        .join(PredictionRow, PredictionRow.instance_id == InstanceRow.id)
        .where(
            InstanceRow.study_instance_uid == study_instance_uid,
            InstanceRow.state == InstanceState.SCORED,
            InstanceRow.withdrawn.is_(False),
            InstanceRow.owns_file,
        )
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    return [_Image(*row) for row in rows]


def _latest(images: Sequence[_Image]) -> set[tuple[int, int]]:
    """Which content counts of each SOP Instance UID, and which result of it: the one that was received last."""
    latest = {image.sop_instance_uid: image for image in images}
    return {(image.id, image.edition) for image in latest.values()}


def _digest(study_instance_uid: str, images: Sequence[_Image], policy_digest: str) -> str:
    contents = sorted(
        (image.sop_instance_uid, image.sha256, image.bundle_sha256, *([image.edition] if image.edition else []))
        for image in images
    )
    identity = json.dumps([study_instance_uid, contents, policy_digest], separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()


def _is_complete(completeness: Completeness, now: datetime) -> ColumnElement[bool]:
    """Whether the study of an image waits for no other image of it, or has waited long enough."""
    other, earlier = aliased(InstanceRow), aliased(InstanceRow)
    of_study = other.study_instance_uid == InstanceRow.study_instance_uid
    newcomer = other.state.in_((InstanceState.INDEXED, InstanceState.SCORED)) & (
        other.received_at > _before(now, completeness.quiet)
    )
    awaited = exists().where(of_study, or_(other.state == InstanceState.INDEXED, newcomer))
    waited = exists().where(
        earlier.study_instance_uid == InstanceRow.study_instance_uid,
        earlier.state == InstanceState.SCORED,
        earlier.covered_by.is_(None),
        earlier.withdrawn.is_(False),
        earlier.received_at <= _before(now, completeness.force),
    )
    return or_(~awaited, waited)


def _before(now: datetime, wait: timedelta) -> datetime:
    """Subtract, down to the beginning of time."""
    beginning = datetime.min.replace(tzinfo=UTC)
    return now - wait if wait < now - beginning else beginning


def _withdrawal_of(session: Session, study_instance_uid: str) -> RevisionRow | None:
    """Give the withdrawal of a study that is to be reported: there is one at most."""
    of_study = select(RevisionRow).where(_IS_OPEN_WITHDRAWAL, RevisionRow.study_instance_uid == study_instance_uid)
    return session.scalar(of_study)


def _told(session: Session, study: StudyRow, destinations: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of these destinations, those that may have a result of a study."""
    may_have = select(DeliveryRow.destination).where(
        ObjectRow.id == DeliveryRow.object_id,
        ObjectRow.study_instance_uid == study.study_instance_uid,
        ObjectRow.kind != ObjectKind.NOTE,
        DeliveryRow.state.in_((DeliveryState.PENDING, DeliveryState.STORED, DeliveryState.COMMITTED)),
    )
    names = set(session.scalars(may_have))
    return [(name, profile) for name, profile in destinations if name in names]


def _reported(session: Session, study: StudyRow) -> int | None:
    """Which revision of a study stands."""
    return session.scalar(
        select(RevisionRow.id).where(
            RevisionRow.study_instance_uid == study.study_instance_uid, RevisionRow.state == RevisionState.REPORTED
        )
    )


def _source(session: Session, revision: RevisionRow, made: ResultObject) -> InstanceRow | None:
    """Which content of its source an object was made from."""
    return session.scalar(
        select(InstanceRow)
        .join(RevisionImageRow, RevisionImageRow.instance_id == InstanceRow.id)
        .where(
            RevisionImageRow.revision_id == revision.id,
            InstanceRow.sop_instance_uid == made.source_sop_instance_uid,
        )
        .order_by(InstanceRow.received_at.desc(), InstanceRow.id.desc())
        .limit(1)
    )
