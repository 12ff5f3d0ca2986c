"""What the worklist role and people read and write: which studies wait, and how urgent they were ordered."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import changes, snapshots
from cxr_triage.storage.ledger.claims import claim_study, finish_study, give_back_study
from cxr_triage.storage.ledger.orders import Orders
from cxr_triage.storage.ledger.snapshots import LISTED
from cxr_triage.storage.ledger.studies import BATCH, recompute, sightings_of
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.list_records import (
    Change,
    ListChange,
    ListedImage,
    ListedStudy,
    ListMark,
    ListVersion,
    PastList,
    Pause,
    Sighting,
    Snapshot,
)
from cxr_triage.storage.order_records import Identity, Order, OrderSource
from cxr_triage.storage.schema import (
    AuditRow,
    Event,
    ListChangeRow,
    ReadingListRow,
    StudyRow,
)
from cxr_triage.storage.upkeep_records import AuditEntry

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"


class ReadingList:
    """The studies that wait for a reader."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def snapshot(self) -> Snapshot:
        """Every open study with an indexed image at one instant, with the version that this order has."""
        with self._database.read() as session:
            now = self._clock()
            return Snapshot(
                version=changes.version(session, now),
                at=now,
                pause=changes.pause(session),
                studies=snapshots.studies(session),
            )

    def studies(self) -> list[ListedStudy]:
        """Every open study with an indexed image, as one snapshot, in the order of arrival: not yet ranked."""
        with self._database.read() as session:
            return snapshots.studies(session)

    def images(self) -> dict[str, list[ListedImage]]:
        """Give the images of every open study by its Study Instance UID, in the order in which they were received."""
        with self._database.read() as session:
            return snapshots.images(session)

    def mark(self) -> ListMark:
        """Give what tells a reader of snapshots, at little cost, whether a new one would say anything else."""
        with self._database.read() as session:
            return ListMark(changes.version(session, self._clock()), snapshots.state_of_remarks(session))

    def version(self) -> ListVersion:
        """Give the version of the list now: whoever has a snapshot of this version need not read it again."""
        with self._database.read() as session:
            return changes.version(session, self._clock())

    def set_ordered(self, study_instance_uid: str, level: Level, *, actor: str, policy: Policy) -> None:
        """Set what a person ordered, up or down, also before the first image of the study is here."""
        order = Order(
            source=OrderSource.PERSON,
            sender=actor,
            message_id=uuid.uuid4().hex,
            at=self._clock(),
            about=Identity(study_instance_uid=study_instance_uid),
            level=level,
        )
        Orders(self._database, clock=self._clock).record(order, policy)

    def finish(self, study_instance_uid: str, *, actor: str) -> bool:
        """Take a study off the list, since it was read.

        Returns:
            Whether it was on the list.
        """
        with self._database.transaction() as session:
            study = _locked_listed(session, study_instance_uid)
            if study is None:
                return False
            finish_study(session, study, now=self._clock(), actor=actor)
            return True

    def claim(self, study_instance_uid: str, *, by: str, actor: str) -> bool:
        """Open a study for a reader: it keeps its place, and no other reader is given it.

        Returns:
            Whether it is this reader's now. If not, it is another's, or not on the list.
        """
        with self._database.transaction() as session:
            study = _locked_listed(session, study_instance_uid)
            return study is not None and claim_study(session, study, by=by, now=self._clock(), actor=actor)

    def give_back(self, study_instance_uid: str, *, actor: str) -> bool:
        """Put a study back unread that a reader had opened.

        Returns:
            Whether one had.
        """
        with self._database.transaction() as session:
            study = _locked_listed(session, study_instance_uid)
            return study is not None and give_back_study(session, study, now=self._clock(), actor=actor)

    def finish_aged(self, before: datetime) -> int:
        """Take the studies off the list that arrived, and were last opened, before that time; how many."""
        unread = StudyRow.claimed_at.is_(None) | (StudyRow.claimed_at < before)
        aged = LISTED & (StudyRow.arrived_at < before) & unread
        with self._database.read() as session:
            if session.scalar(select(StudyRow.study_instance_uid).where(aged).limit(1)) is None:
                return 0
        with self._database.transaction() as session:
            rows = session.scalars(_locked(aged)).all()
            for study in rows:
                finish_study(session, study, now=self._clock(), actor=_ACTOR, detail="by age")
            return len(rows)

    def note_overdue(self) -> int:
        """Write down which studies have become overdue; how many.

        The order shows it without: this is for those who are told of changes.
        """
        told = exists().where(
            ListChangeRow.study_instance_uid == StudyRow.study_instance_uid,
            ListChangeRow.change == Change.OVERDUE,
            ListChangeRow.at >= StudyRow.overdue_at,
        )
        overdue = LISTED & StudyRow.claimed_at.is_(None) & (StudyRow.overdue_at < self._clock()) & ~told
        with self._database.read() as session:
            if session.scalar(select(StudyRow.study_instance_uid).where(overdue).limit(1)) is None:
                return 0
        with self._database.transaction() as session:
            rows = session.scalars(_locked(overdue)).all()
            for study in rows:
                changes.changed(session, study, Change.OVERDUE, now=self._clock(), actor=_ACTOR)
            return len(rows)

    def pause(self, reason: str, *, actor: str, policy: Policy) -> bool:
        """Let findings move nothing until `resume`: the order is the ordered one.

        Returns:
            Whether that is new: paused already, it stays so for the reason that was given first.
        """
        return self._switch(Pause(at=self._clock(), by=actor, reason=reason), actor, policy)

    def resume(self, *, actor: str, policy: Policy) -> bool:
        """Let findings move studies again, as the policy says.

        Returns:
            Whether triage was paused.
        """
        return self._switch(None, actor, policy)

    def _switch(self, pause: Pause | None, actor: str, policy: Policy) -> bool:
        """Every later recomputation follows it; then those before are done again."""
        with self._database.transaction() as session:
            row = changes.locked_list(session)
            is_new = (row.paused_at is None) != (pause is None)
            if is_new:
                row.changes += 1  # the order is another one from now on, before any study is recomputed
                self._write_pause(session, row, pause, actor)
        self.reprioritise(policy)  # also where it was cut off the last time
        return is_new

    def _write_pause(self, session: Session, row: ReadingListRow, pause: Pause | None, actor: str) -> None:
        row.paused_at = pause.at if pause else None
        row.paused_by = pause.by if pause else None
        row.pause_reason = pause.reason if pause else None
        event, why = (Event.PAUSED, pause.reason) if pause else (Event.RESUMED, "")
        note(session, self._clock(), actor, event, None, why)

    def paused(self) -> Pause | None:
        """Say whether triage is paused."""
        with self._database.read() as session:
            return changes.pause(session)

    def reprioritise(self, policy: Policy) -> int:
        """Recompute every open study under a changed policy; a batch at a time, so that nobody has to wait for all.

        Returns:
            How many changed.
        """
        with self._database.read() as session:
            waiting = session.scalars(select(StudyRow.study_instance_uid).where(LISTED)).all()
        batches = (waiting[first : first + BATCH] for first in range(0, len(waiting), BATCH))
        return sum(self._recompute(batch, policy) for batch in batches)

    def _recompute(self, batch: Sequence[str], policy: Policy) -> int:
        with self._database.transaction() as session:
            studies = session.scalars(_locked(LISTED & StudyRow.study_instance_uid.in_(batch))).all()
            now = self._clock()
            return sum(recompute(session, study, policy, now=now, actor=_ACTOR) for study in studies)

    def changes_of(self, study_instance_uid: str) -> Sequence[ListChange]:
        """Give every change of the list that was about a study, oldest first."""
        with self._database.read() as session:
            return changes.changes_of(session, study_instance_uid)

    def sightings(self, study_instance_uid: str) -> list[Sighting]:
        """Give the maximum per label over the images of a study that count, the most probable label first."""
        with self._database.read() as session:
            return sightings_of(session, study_instance_uid)

    def stood_at(self, when: datetime) -> PastList:
        """Give the list of a past instant, as far as it is kept: not yet ranked."""
        with self._database.read() as session:
            return changes.stood_at(session, when)

    def changes_after(self, number: int, limit: int) -> Sequence[ListChange]:
        """Give the next changes of the list after that many, in order."""
        with self._database.read() as session:
            return changes.changes_after(session, number, limit)

    def history(self, study_instance_uid: str) -> list[AuditEntry]:
        """What happened to a study and its images, oldest first: why it stood where it stood, and when."""
        entries = select(AuditRow).where(AuditRow.study_instance_uid == study_instance_uid).order_by(AuditRow.id)
        with self._database.read() as session:
            return [
                AuditEntry(
                    at=row.at,
                    actor=row.actor,
                    event=row.event,
                    sop_instance_uid=row.sop_instance_uid,
                    detail=row.detail,
                )
                for row in session.scalars(entries)
            ]


def _locked_listed(session: Session, study_instance_uid: str) -> StudyRow | None:
    """Lock a study that is on the list; None: it is not."""
    return session.scalar(_locked(LISTED & (StudyRow.study_instance_uid == study_instance_uid)))


def _locked(which: ColumnElement[bool]) -> Select[StudyRow]:
    """Lock studies in one order, so that no two who lock several wait for each other."""
    return select(StudyRow).where(which).order_by(StudyRow.study_instance_uid).with_for_update()
