"""Procedure steps and the reading list, changed together: each request is one transaction.

Locks are taken in one order: the study, its steps, the list.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger import headers
from cxr_triage.storage.ledger.claims import claim_study, finish_study, give_back_study
from cxr_triage.storage.ledger.ordering import identities_of, locked_studies
from cxr_triage.storage.ledger.orders import take
from cxr_triage.storage.ledger.reading_steps import add, cancel, move, new_step, open_steps, tell
from cxr_triage.storage.ledger.studies import locked_study
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.order_records import Identity, Order, OrderSource, Verdict, verdict
from cxr_triage.storage.schema import Event, HeaderRow, InstanceRow, ProcedureStepRow, StudyRow
from cxr_triage.storage.step_records import Json, Ruling, Step, StepInput, StepKey, StepState, StepStudy, Told

#: What a rule decides on: the step, or None where there is none.
Rule = Callable[[Step | None], Ruling]


class StepLedger:
    """The procedure steps of others, and our own."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def get(self, sop_instance_uid: str) -> Step | None:
        """Give a step; None: there is none."""
        mine = select(ProcedureStepRow).where(ProcedureStepRow.sop_instance_uid == sop_instance_uid)
        with self._database.read() as session:
            row = session.scalar(mine)
            return None if row is None else as_step(row)

    def find(self, states: Collection[StepState] = (), uids: Collection[str] = ()) -> Sequence[StepKey]:
        """Give what steps in these states and with these UIDs (empty: any) are found by, oldest first."""
        row = ProcedureStepRow
        wanted = select(row.id, row.sop_instance_uid, row.study_instance_uid, row.state).order_by(row.id)
        if states:
            wanted = wanted.where(row.state.in_(states))
        if uids:
            wanted = wanted.where(row.sop_instance_uid.in_(uids))
        with self._database.read() as session:
            return [StepKey(*each) for each in session.execute(wanted)]

    def steps(self, keys: Sequence[StepKey]) -> Sequence[Step]:
        """Give these steps, some hundreds at most, as they are now, in this order."""
        wanted = select(ProcedureStepRow).where(ProcedureStepRow.id.in_([key.id for key in keys]))
        with self._database.read() as session:
            rows = {row.id: row for row in session.scalars(wanted)}
            return [as_step(rows[key.id]) for key in keys if key.id in rows]

    def studies(self, study_instance_uids: Collection[str]) -> Mapping[str, StepStudy]:
        """Give what steps of these studies, some hundreds at most, say of them."""
        rows = select(StudyRow).where(StudyRow.study_instance_uid.in_(study_instance_uids))
        images = (
            select(InstanceRow, HeaderRow)
            .join(HeaderRow, HeaderRow.instance_id == InstanceRow.id)
            .where(InstanceRow.study_instance_uid.in_(study_instance_uids), InstanceRow.other_bytes.is_(False))
            .order_by(InstanceRow.received_at, InstanceRow.id)
        )
        with self._database.read() as session:
            found: dict[str, list[tuple[InstanceRow, HeaderRow]]] = {}
            for image, header in session.execute(images):
                found.setdefault(str(image.study_instance_uid), []).append((image, header))
            return {
                row.study_instance_uid: _study(row, found.get(row.study_instance_uid, []))
                for row in session.scalars(rows)
            }

    def create(
        self,
        sop_instance_uid: str,
        attributes: Json,
        *,
        about: Identity | None,
        ordered: Level,
        told: Sequence[Told],
        policy: Policy,
        actor: str,
    ) -> bool:
        """Add a step that somebody placed; it takes the place of our own one for the study that waits.

        Args:
            sop_instance_uid: the step's.
            attributes: as placed.
            about: the study that it is the reading of, and its patient; None: it is about something else. It is also
                about something else where that study's images name another patient.
            ordered: as what the study is placed. It raises what was ordered otherwise, and never lowers it.
            told: events besides that of its state.
            policy: what the site decided.
            actor: who placed it.

        Returns:
            Whether it is new: if not, there is a step with this UID, and nothing has changed.
        """
        with self._database.transaction() as session:
            lock_name(session, f"procedure step {sop_instance_uid}")
            known = exists().where(ProcedureStepRow.sop_instance_uid == sop_instance_uid)
            if session.scalar(select(known)):
                return False
            now = self._clock()
            study = _study_of(session, about)
            for row in open_steps(session, study.study_instance_uid) if study else ():
                if row.own and row.state is StepState.SCHEDULED:
                    cancel(session, row, now, f"Replaced by {sop_instance_uid}")
            if study is not None and about is not None and ordered <= study.ordered:
                order = _order(about, ordered, actor, sop_instance_uid, now)
                take(session, [order], policy, now=now)
            uid = study.study_instance_uid if study else None
            placed = new_step(sop_instance_uid, uid, attributes, now, own=False)
            add(session, placed, now)
            tell(session, placed, told, now)
            note(session, now, actor, Event.STEP_CREATED, study, sop_instance_uid)
            return True

    def change(self, sop_instance_uid: str, rule: Rule, *, busy: Ruling, policy: Policy, actor: str) -> Ruling:
        """Let a rule decide on a step as it is now, and do what it says, on the reading list too.

        Args:
            sop_instance_uid: the step's.
            rule: decides, and changes nothing itself.
            busy: the answer where a step is claimed whose study another reader has.
            policy: what the site decided.
            actor: who asks.
        """
        with self._database.transaction() as session:
            study, row = self._locked(session, sop_instance_uid)
            ruling = rule(None if row is None else as_step(row))
            if row is None:
                return ruling
            by = ruling.performer or actor
            if ruling.state is StepState.IN_PROGRESS and study is not None and _is_read(session, study, row, by):
                return busy
            self._apply(session, row, ruling, actor)
            if ruling.state is not None:
                self._move(session, study, row, ruling.state, by, actor)
            if ruling.ordered is not None and study is not None:
                about = Identity(study_instance_uid=study.study_instance_uid)
                order = _order(about, ruling.ordered, actor, uuid4().hex, self._clock())
                take(session, [order], policy, now=self._clock())
            return ruling

    def _locked(self, session: Session, sop_instance_uid: str) -> tuple[StudyRow | None, ProcedureStepRow | None]:
        mine = ProcedureStepRow.sop_instance_uid == sop_instance_uid
        of_study = select(ProcedureStepRow.study_instance_uid).where(mine)
        study_uid, study = session.scalar(of_study), None
        while study_uid is not None:
            study = locked_study(session, study_uid)
            # Whoever had the lock before us may have taken the step from the study.
            known, study_uid = study_uid, session.scalar(of_study)
            if study_uid == known:
                break
            study = None
        step = select(ProcedureStepRow).where(mine).with_for_update().execution_options(populate_existing=True)
        return study, session.scalar(step)

    def _apply(self, session: Session, row: ProcedureStepRow, ruling: Ruling, actor: str) -> None:
        """Keep what was set; changes of state are another matter."""
        now = self._clock()
        row.transaction_uid = ruling.transaction_uid or row.transaction_uid
        row.performer = ruling.performer or row.performer
        if ruling.attributes is not None:
            row.attributes, row.changed_at = ruling.attributes, now
            if ruling.state is None:
                note(session, now, actor, Event.STEP_SET, None, row.sop_instance_uid)
        elif ruling.told:
            note(session, now, actor, Event.STEP_CANCEL_REQUESTED, None, row.sop_instance_uid)
        tell(session, row, ruling.told, now)

    def _move(
        self,
        session: Session,
        study: StudyRow | None,
        row: ProcedureStepRow,
        state: StepState,
        by: str,
        actor: str,
    ) -> None:
        """Change a step's state, and what that means for its study."""
        now, before = self._clock(), row.state
        if (before, state) == (StepState.SCHEDULED, StepState.CANCELED):
            move(session, row, StepState.IN_PROGRESS, now)
        move(session, row, state, now)
        note(session, now, actor, Event.STEP_CHANGED, study, f"{before} -> {state}: {row.sop_instance_uid}")
        if study is None or study.arrived_at is None or study.finished_at is not None:
            return
        if state is StepState.IN_PROGRESS:
            claim_study(session, study, by=by, now=now, actor=actor)
        elif state is StepState.COMPLETED:
            finish_study(session, study, now=now, actor=actor, detail=f"procedure step {state}")
        elif before is StepState.SCHEDULED:
            # The reading is not wanted any more, unless somebody is at it, or it was asked for by another step too.
            if study.claimed_by is None and not open_steps(session, study.study_instance_uid):
                finish_study(session, study, now=now, actor=actor, detail=f"procedure step {state}")
        elif study.claimed_by == row.performer:
            # Whoever cancels its own work has not read the study: it waits for another reader, as a new step.
            give_back_study(session, study, now=now, actor=actor)


def _is_read(session: Session, study: StudyRow, step: ProcedureStepRow, by: str) -> bool:
    """Whether somebody reads a study already: another reader, or one who has it by another step.

    An AE title may be that of several readers: all who come by HTTP without one have the same.
    """
    others = [row for row in open_steps(session, study.study_instance_uid) if row is not step]
    return study.claimed_by not in {None, by} or any(row.state is StepState.IN_PROGRESS for row in others)


def _study_of(session: Session, about: Identity | None) -> StudyRow | None:
    """Lock the study that a placed step is the reading of; None: there is none, or its images name another patient."""
    if about is None:
        return None
    # All that the step's order may be about, in the one order of locks.
    locked_studies(session, [about])
    study = locked_study(session, about.study_instance_uid)
    images = identities_of(session, study.study_instance_uid)
    found = verdict(about, study.study_instance_uid, images)
    return None if found is Verdict.OTHER_PATIENT else study


def _order(about: Identity, level: Level, sender: str, message_id: str, at: datetime) -> Order:
    """What a step's priority says of its study."""
    return Order(source=OrderSource.UPS, sender=sender, message_id=message_id, at=at, about=about, level=level)


def as_step(row: ProcedureStepRow) -> Step:
    """Read a step back."""
    return Step(
        sop_instance_uid=row.sop_instance_uid,
        study_instance_uid=row.study_instance_uid,
        state=row.state,
        transaction_uid=row.transaction_uid,
        performer=row.performer,
        own=row.own,
        attributes=row.attributes,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


def _study(row: StudyRow, images: Sequence[tuple[InstanceRow, HeaderRow]]) -> StepStudy:
    return StepStudy(
        study_instance_uid=row.study_instance_uid,
        effective=row.effective,
        arrived_at=row.arrived_at,
        header=headers.header_of(images[0][1]) if images else None,
        inputs=tuple(
            StepInput(
                series_instance_uid=header.series_instance_uid,
                sop_class_uid=image.sop_class_uid,
                sop_instance_uid=image.sop_instance_uid,
            )
            for image, header in images
        ),
    )
