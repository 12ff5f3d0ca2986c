"""What the worklist role and people read and write: which studies wait, and how urgent they were ordered."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import changes, headers
from cxr_triage.storage.ledger.claims import claim_study, finish_study, give_back_study
from cxr_triage.storage.ledger.studies import (
    locked_study,
    order_study,
    plain_priority_of,
    priority_of,
    recompute,
    sightings_of,
)
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.list_records import Change, ListChange, ListVersion, Pause, Sighting, Snapshot, Stood
from cxr_triage.storage.records import AuditEntry, InstanceHeader, InstanceState, ListedStudy
from cxr_triage.storage.schema import (
    AuditRow,
    Event,
    HeaderRow,
    InstanceRow,
    ListChangeRow,
    RemarkRow,
    StudyRow,
)

#: Who acted, in the audit trail, where the ledger follows its own rule.
_ACTOR: Final = "ledger"
#: On the list: it has an image, and nobody has read it.
_LISTED: Final = StudyRow.arrived_at.is_not(None) & StudyRow.finished_at.is_(None)


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
                version=changes.version(session, now), at=now, pause=changes.pause(session), studies=_studies(session)
            )

    def studies(self) -> list[ListedStudy]:
        """Every open study with an indexed image, as one snapshot, in the order of arrival: not yet ranked."""
        with self._database.read() as session:
            return _studies(session)

    def version(self) -> ListVersion:
        """Give the version of the list now: whoever has a snapshot of this version need not read it again."""
        with self._database.read() as session:
            return changes.version(session, self._clock())

    def set_ordered(self, study_instance_uid: str, level: Level, *, actor: str, policy: Policy) -> None:
        """Set what a person or their system ordered, up or down, also before the first image of the study is here."""
        with self._database.transaction() as session:
            study = locked_study(session, study_instance_uid)
            order_study(session, study, level, policy, now=self._clock(), actor=actor)

    def finish(self, study_instance_uid: str, *, actor: str) -> bool:
        """Take a study off the list, since it was read.

        Returns:
            Whether it was on the list.
        """
        with self._database.transaction() as session:
            study = session.scalar(
                select(StudyRow).where(_LISTED, StudyRow.study_instance_uid == study_instance_uid).with_for_update()
            )
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
            study = session.scalar(
                select(StudyRow).where(_LISTED, StudyRow.study_instance_uid == study_instance_uid).with_for_update()
            )
            return study is not None and claim_study(session, study, by=by, now=self._clock(), actor=actor)

    def give_back(self, study_instance_uid: str, *, actor: str) -> bool:
        """Put a study back unread that a reader had opened.

        Returns:
            Whether one had.
        """
        with self._database.transaction() as session:
            study = session.scalar(
                select(StudyRow).where(_LISTED, StudyRow.study_instance_uid == study_instance_uid).with_for_update()
            )
            return study is not None and give_back_study(session, study, now=self._clock(), actor=actor)

    def finish_aged(self, before: datetime) -> int:
        """Take the studies off the list that arrived, and were last opened, before that time; how many."""
        unread = StudyRow.claimed_at.is_(None) | (StudyRow.claimed_at < before)
        aged = _LISTED & (StudyRow.arrived_at < before) & unread
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
        overdue = _LISTED & StudyRow.claimed_at.is_(None) & (StudyRow.overdue_at < self._clock()) & ~told
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
            if (row.paused_at is None) == (pause is None):
                return False
            row.paused_at = pause.at if pause else None
            row.paused_by = pause.by if pause else None
            row.pause_reason = pause.reason if pause else None
            event, why = (Event.PAUSED, pause.reason) if pause else (Event.RESUMED, "")
            note(session, self._clock(), actor, event, None, why)
        self.reprioritise(policy)
        return True

    def paused(self) -> Pause | None:
        """Say whether triage is paused."""
        with self._database.read() as session:
            return changes.pause(session)

    def reprioritise(self, policy: Policy) -> int:
        """Recompute every open study under a changed policy.

        Returns:
            How many changed.
        """
        with self._database.transaction() as session:
            studies = session.scalars(_locked(_LISTED)).all()
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

    def stood_at(self, when: datetime) -> list[Stood]:
        """Give the studies that were on the list at a past instant, as they stood then: not yet ranked."""
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


def _studies(session: Session) -> list[ListedStudy]:
    rows = session.scalars(select(StudyRow).where(_LISTED).order_by(StudyRow.arrived_at)).all()
    images, first_headers = _images(session), _first_headers(session)
    remarks = _remarks(session, images)
    return [
        _listed_study(row, images[uid], first_headers[uid], remarks[uid])
        for row in rows
        for uid in (row.study_instance_uid,)
    ]


def _locked(which: ColumnElement[bool]) -> Select[StudyRow]:
    """Lock studies in one order, so that no two who lock several wait for each other."""
    return select(StudyRow).where(which).order_by(StudyRow.study_instance_uid).with_for_update()


def _images(session: Session) -> dict[str, dict[InstanceState, int]]:
    """Count the images of each listed study by state."""
    counted = session.execute(
        select(InstanceRow.study_instance_uid, InstanceRow.state, func.count())
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(_LISTED)
        .group_by(InstanceRow.study_instance_uid, InstanceRow.state)
    )
    images: dict[str, dict[InstanceState, int]] = defaultdict(lambda: dict.fromkeys(InstanceState, 0))
    for uid, state, count in counted:
        images[str(uid)][state] = count
    return images


def _first_headers(session: Session) -> dict[str, InstanceHeader]:
    """Header of the first received image of each listed study."""
    latest_first = session.execute(
        select(InstanceRow.study_instance_uid, HeaderRow)
        .join(HeaderRow, HeaderRow.instance_id == InstanceRow.id)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(_LISTED)
        .order_by(InstanceRow.received_at.desc(), InstanceRow.id.desc())
    )
    return {str(uid): headers.header_of(row) for uid, row in latest_first}


def _reasons(session: Session) -> dict[str, list[str]]:
    """Why images of listed studies have no result; images that are tried again are not among them."""
    set_aside = session.execute(
        select(InstanceRow.study_instance_uid, InstanceRow.explanation)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(_LISTED, InstanceRow.state.in_((InstanceState.UNSUITABLE, InstanceState.FAILED)))
        .order_by(InstanceRow.received_at, InstanceRow.id)
    )
    reasons: dict[str, list[str]] = defaultdict(list)
    for uid, explanation in set_aside:
        reasons[str(uid)].append(explanation or "")
    return reasons


def _remarks_on_images(session: Session) -> dict[str, list[str]]:
    """What a reader should know of the scored images of each listed study, each sentence once."""
    rows = session.execute(
        select(InstanceRow.study_instance_uid, RemarkRow.sentence)
        .join(RemarkRow, RemarkRow.instance_id == InstanceRow.id)
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(_LISTED, InstanceRow.state == InstanceState.SCORED, InstanceRow.withdrawn.is_(False))
        .order_by(InstanceRow.received_at, InstanceRow.id, RemarkRow.position)
    )
    sentences: dict[str, list[str]] = defaultdict(list)
    for uid, sentence in rows:
        if sentence not in sentences[str(uid)]:
            sentences[str(uid)].append(sentence)
    return sentences


def _remarks(session: Session, images: Mapping[str, dict[InstanceState, int]]) -> dict[str, tuple[str, ...]]:
    """Say of each listed study which images the findings do not speak of, and what to know of the others."""
    reasons, remarks, withdrawn = _reasons(session), _remarks_on_images(session), _withdrawn(session)
    return {
        uid: (*_left_out(counted, reasons[uid], withdrawn.get(uid, 0)), *remarks[uid])
        for uid, counted in images.items()
    }


def _withdrawn(session: Session) -> dict[str, int]:
    """Count the images of each listed study whose results were withdrawn."""
    counted = session.execute(
        select(InstanceRow.study_instance_uid, func.count())
        .join(StudyRow, StudyRow.study_instance_uid == InstanceRow.study_instance_uid)
        .where(_LISTED, InstanceRow.withdrawn)
        .group_by(InstanceRow.study_instance_uid)
    )
    return {str(uid): count for uid, count in counted}


def _left_out(images: dict[InstanceState, int], reasons: Sequence[str], withdrawn: int) -> Iterator[str]:
    """Say which images the findings do not speak of. An image that waits may still move the study."""
    total = sum(images.values())
    waiting = images[InstanceState.RECEIVED] + images[InstanceState.INDEXED]
    if withdrawn:
        yield f"Withdrawn by a person: the results of {withdrawn} of {total} images."
    if reasons:
        yield f"Not triaged, {len(reasons)} of {total} images: {' '.join(dict.fromkeys(reasons))}"
    if waiting:
        yield f"Waiting for the network: {waiting} of {total} images."


def _listed_study(
    row: StudyRow, images: dict[InstanceState, int], header: InstanceHeader, remarks: tuple[str, ...]
) -> ListedStudy:
    assert row.arrived_at is not None
    return ListedStudy(
        study_instance_uid=row.study_instance_uid,
        ordered=row.ordered,
        arrived_at=row.arrived_at,
        priority=priority_of(row),
        priority_without_findings=plain_priority_of(row),
        claimed_at=row.claimed_at,
        claimed_by=row.claimed_by or "",
        images=images,
        remarks=remarks,
        header=header,
    )
