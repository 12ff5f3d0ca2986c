"""What a person takes back, and brings back: the results of a study's images."""

import hashlib
import json
from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, true
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.studies import recompute
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.result_records import ObjectKind, Reason, RevisionState
from cxr_triage.storage.schema import (
    DeliveryRow,
    Event,
    InstanceRow,
    ObjectRow,
    RevisionImageRow,
    RevisionObjectRow,
    RevisionRow,
    StudyRow,
)

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "report"
#: Why a person may withdraw a result.
WITHDRAWALS: Final = tuple(reason for reason in Reason if reason is not Reason.SUPERSEDED)


class Withdrawn(NamedTuple):
    """What a withdrawal was about."""

    images: int
    #: Finished objects, whether anybody was sent them or not.
    objects: int


class Withdrawals:
    """Takes results back: they count no more, and who has them is told so."""

    def __init__(self, database: Database, *, rejecting: Collection[str], clock: Clock = utc_now) -> None:
        """Describe the work.

        Args:
            database: of the ledger.
            rejecting: destinations that take rejection notes, by name.
            clock: gives the present.
        """
        self._database = database
        self._rejecting = rejecting
        self._clock = clock

    def withdraw(self, study_instance_uid: str, reason: Reason, *, actor: str, policy: Policy) -> Withdrawn | None:
        """Withdraw the results of the images that a study has now, those still to be made included; at once.

        Its findings leave the reading list, where it stands as it was ordered. What was not sent yet is not sent. Where
        a result was reported, another revision says that it is withdrawn, and is open from now on.

        Returns:
            What was withdrawn, which is nothing where that was done before; None: no such study has any image.
        """
        with self._database.transaction() as session:
            study = session.get(StudyRow, study_instance_uid, with_for_update=True)
            images = session.scalars(_images(study_instance_uid)).all()
            if study is None or not images:
                return None
            counting = [row for row in images if not row.withdrawn]
            if not counting:
                return Withdrawn(0, 0)
            for row in counting:
                row.withdrawn = True
            objects = _reject(session, study_instance_uid, reason)
            self._end_revisions(session, study, reason, actor)
            session.flush()
            self._drop(session, ObjectRow.study_instance_uid == study_instance_uid, actor)
            told = f"{reason.value}: {len(counting)} images, {objects} objects"
            note(session, self._clock(), actor, Event.WITHDRAWN, study, told)
            recompute(session, study, policy, now=self._clock(), actor=actor)
            return Withdrawn(len(counting), objects)

    def undo(self, study_instance_uid: str, *, actor: str, policy: Policy) -> int:
        """Let the results of a study's images count again, and be made and sent anew.

        They are other objects, under other UIDs: a PACS may refuse what it was told to use no more (IHE RAD TF-2 4.66).

        Returns:
            Of how many images: those that were withdrawn and whose file is still there.
        """
        with self._database.transaction() as session:
            study = session.get(StudyRow, study_instance_uid, with_for_update=True)
            mine = _images(study_instance_uid).where(InstanceRow.withdrawn, InstanceRow.owns_file)
            again = session.scalars(mine).all()
            if study is None or not again:
                return 0
            for row in again:
                row.withdrawn, row.edition, row.covered_by = False, row.edition + 1, None
            note(session, self._clock(), actor, Event.WITHDRAWAL_UNDONE, study, f"{len(again)} images")
            session.flush()
            recompute(session, study, policy, now=self._clock(), actor=actor)
            return len(again)

    def drop_pending(self) -> int:
        """Settle what was being sent when it was withdrawn, and did not arrive; how many.

        What was offered before may have arrived without an answer: where a note can reject it, it is sent to its end.
        """
        with self._database.read() as session:
            if session.scalar(self._droppable(true()).limit(1)) is None:
                return 0
        with self._database.transaction() as session:
            return self._drop(session, true(), _ACTOR)

    def _end_revisions(self, session: Session, study: StudyRow, reason: Reason, actor: str) -> None:
        """End a study's results; the one that stood is followed by a revision that says so."""
        results = session.scalars(
            select(RevisionRow)
            .where(
                RevisionRow.study_instance_uid == study.study_instance_uid,
                RevisionRow.withdrawal.is_(None),
                RevisionRow.state != RevisionState.WITHDRAWN,
            )
            .order_by(RevisionRow.id)
        ).all()
        stood = next((row for row in results if row.state is RevisionState.REPORTED), None)
        for row in results:
            row.state = RevisionState.WITHDRAWN
        if stood is not None:
            self._follow(session, study, stood, reason, actor)

    def _follow(self, session: Session, study: StudyRow, stood: RevisionRow, reason: Reason, actor: str) -> None:
        uid = study.study_instance_uid
        last = session.scalar(select(func.max(RevisionRow.number)).where(RevisionRow.study_instance_uid == uid))
        identity = json.dumps(["withdrawal", stood.digest, reason.value])
        row = RevisionRow(
            study_instance_uid=uid,
            number=(last or 0) + 1,
            digest=hashlib.sha256(identity.encode()).hexdigest(),
            policy_digest=stood.policy_digest,
            priority_reason="",
            state=RevisionState.OPEN,
            created_at=self._clock(),
            predecessor_id=stood.id,
            withdrawal=reason,
        )
        session.add(row)
        session.flush()
        images = select(RevisionImageRow.instance_id).where(RevisionImageRow.revision_id == stood.id)
        session.add_all(RevisionImageRow(revision_id=row.id, instance_id=each) for each in session.scalars(images))
        note(session, self._clock(), actor, Event.REVISION_OPENED, study, f"revision {row.number}, a withdrawal")

    def _drop(self, session: Session, which: ColumnElement[bool], actor: str) -> int:
        """End the deliveries of what was withdrawn, and decide that nothing stands in for it."""
        jobs = self._droppable(which).order_by(DeliveryRow.id).with_for_update(of=DeliveryRow)
        rows = session.scalars(jobs).all()
        for row in rows:
            if row.state is DeliveryState.NOT_TAKEN:
                row.instead = Instead.NOTHING
                continue
            made = session.get_one(ObjectRow, row.object_id)
            row.state, row.changed_at = DeliveryState.WITHDRAWN, self._clock()
            leases.give_back(row)
            told = f"{made.kind.value} to {row.destination}"
            note(session, self._clock(), actor, Event.DELIVERY_WITHDRAWN, made, told)
        return len(rows)

    def _droppable(self, which: ColumnElement[bool]) -> Select[DeliveryRow]:
        unknown = (DeliveryRow.attempt > 0) & DeliveryRow.destination.in_(self._rejecting)
        unsent = (DeliveryRow.state == DeliveryState.PENDING) & DeliveryRow.owner.is_(None) & ~unknown
        undecided = (DeliveryRow.state == DeliveryState.NOT_TAKEN) & (DeliveryRow.instead == Instead.DUE)
        return (
            select(DeliveryRow)
            .join(ObjectRow, ObjectRow.id == DeliveryRow.object_id)
            .where(
                which,
                ObjectRow.rejected.in_(WITHDRAWALS),
                or_(unsent, DeliveryRow.state == DeliveryState.DEAD, undecided),
            )
        )


def _images(study_instance_uid: str) -> Select[InstanceRow]:
    of_study = select(InstanceRow).where(InstanceRow.study_instance_uid == study_instance_uid)
    return of_study.order_by(InstanceRow.id).with_for_update()


def _reject(session: Session, study_instance_uid: str, reason: Reason) -> int:
    """Mark what a study has as rejected, but for what says that results are withdrawn; how many objects."""
    of_withdrawal = exists().where(
        RevisionObjectRow.object_id == ObjectRow.id,
        RevisionRow.id == RevisionObjectRow.revision_id,
        RevisionRow.withdrawal.is_not(None),
    )
    rows = session.scalars(
        select(ObjectRow).where(
            ObjectRow.study_instance_uid == study_instance_uid,
            ObjectRow.kind != ObjectKind.NOTE,
            or_(ObjectRow.rejected.is_(None), ObjectRow.rejected == Reason.SUPERSEDED),
            ~of_withdrawal,
        )
    ).all()
    for row in rows:
        row.rejected = reason
    return len(rows)
