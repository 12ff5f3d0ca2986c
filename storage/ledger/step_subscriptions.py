"""Who is told of which procedure steps (PS3.4 Table CC.2.3-1)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, lock_name
from cxr_triage.storage.ledger.procedure_steps import as_step
from cxr_triage.storage.ledger.reading_steps import FINAL_STATES, NEW_STEPS, announcement, tell
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import AnnouncementRow, Event, ProcedureStepRow, StepSubscriptionRow
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    UPS_FACE,
    AnnouncementState,
    Json,
    Step,
    restart_report,
    state_report,
)

#: Steps per transaction: a subscription to all of them locks nothing for long.
_AT_ONCE: Final = 200
_FILTERED: Final = StepSubscriptionRow.sop_instance_uid == FILTERED_GLOBAL_SUBSCRIPTION


class StepSubscriptions:
    """The subscriptions, each AE title's by itself."""

    def __init__(self, database: Database, *, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def subscribe(self, sop_instance_uid: str, receiver: str, *, deletion_lock: bool, actor: str) -> bool:
        """Tell a receiver of one step from now on, and of its present state; whether there is such a step."""
        with self._database.transaction() as session:
            mine = select(ProcedureStepRow).where(ProcedureStepRow.sop_instance_uid == sop_instance_uid)
            row = session.scalar(mine.with_for_update())
            if row is None:
                return False
            self._keep(session, sop_instance_uid, receiver, deletion_lock=deletion_lock, keys={})
            tell(session, row, [state_report(row.attributes, row.state)], self._clock(), [receiver])
            detail = f"{receiver} to {sop_instance_uid}"
            note(session, self._clock(), actor, Event.STEP_SUBSCRIBED, None, detail)
            return True

    def subscribe_to_all(self, receiver: str, *, deletion_lock: bool, keys: Json | None, actor: str) -> None:
        """Tell a receiver of every step that is still to come; `include` then adds those that are here.

        Args:
            receiver: AE title.
            deletion_lock: whether steps are to be kept until it has let go of them.
            keys: those that match these only; None: all. It takes the place of an earlier global subscription.
            actor: who asks.
        """
        uid = GLOBAL_SUBSCRIPTION if keys is None else FILTERED_GLOBAL_SUBSCRIPTION
        with self._database.transaction() as session:
            lock_name(session, NEW_STEPS)
            self._end_globals(session, receiver)
            self._keep(session, uid, receiver, deletion_lock=deletion_lock, keys=keys or {})
            note(session, self._clock(), actor, Event.STEP_SUBSCRIBED, None, f"{receiver} to all")

    def include(self, receiver: str, sop_instance_uids: Iterable[str], *, deletion_lock: bool) -> None:
        """Tell a receiver of steps that are here, and of the present state of those that are not at their end."""
        left = sorted(sop_instance_uids)
        while left:
            done = self._include_some(left[:_AT_ONCE], receiver, deletion_lock=deletion_lock)
            # Several steps are never waited for together, since who changes them locks them in another order.
            done = done or self._include_some(left[:1], receiver, deletion_lock=deletion_lock, wait=True)
            left = [uid for uid in left if uid not in done]

    def unsubscribe(self, sop_instance_uid: str, receiver: str, *, actor: str) -> None:
        """Tell a receiver no more of one step, or of any where it is a global subscription."""
        row = StepSubscriptionRow
        with self._database.transaction() as session:
            lock_name(session, NEW_STEPS)
            every = sop_instance_uid in {GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION}
            which = row.receiver == receiver
            session.execute(delete(row).where(which if every else which & (row.sop_instance_uid == sop_instance_uid)))
            detail = f"{receiver} from {'all' if every else sop_instance_uid}"
            note(session, self._clock(), actor, Event.STEP_UNSUBSCRIBED, None, detail)

    def suspend(self, receiver: str, *, actor: str) -> None:
        """Tell a receiver of no further steps; of those that it is told of already, it still is."""
        with self._database.transaction() as session:
            lock_name(session, NEW_STEPS)
            self._end_globals(session, receiver)
            note(session, self._clock(), actor, Event.STEP_UNSUBSCRIBED, None, f"{receiver} from further steps")

    def record_restart(self, fallback: Collection[str]) -> None:
        """Tell everybody who subscribed to anything that we have started again, and these (PS3.4 CC.2.4.3).

        Whoever was not told of an earlier start yet is told once.
        """
        waiting = select(AnnouncementRow.receiver).where(
            AnnouncementRow.face == UPS_FACE,
            AnnouncementRow.state == AnnouncementState.PENDING,
            AnnouncementRow.sop_instance_uid == GLOBAL_SUBSCRIPTION,
        )
        with self._database.transaction() as session:
            subscribed = session.scalars(select(StepSubscriptionRow.receiver).distinct())
            for receiver in sorted({*fallback, *subscribed} - set(session.scalars(waiting))):
                session.add(announcement(restart_report(), GLOBAL_SUBSCRIPTION, receiver, self._clock()))

    def receivers(self, sop_instance_uid: str) -> Sequence[str]:
        """Give everybody who is told of a step."""
        row = StepSubscriptionRow
        with self._database.read() as session:
            mine = select(row.receiver).where(row.sop_instance_uid == sop_instance_uid)
            return list(session.scalars(mine.order_by(row.id)))

    def filters(self) -> Mapping[str, tuple[Json, bool]]:
        """Give the keys of each receiver with a filtered global subscription, and its deletion lock."""
        with self._database.read() as session:
            rows = session.scalars(select(StepSubscriptionRow).where(_FILTERED)).all()
            return {row.receiver: (row.filter, row.deletion_lock) for row in rows}

    def unconsidered(self) -> Sequence[Step]:
        """Give the next steps that no filter was tried on."""
        row = ProcedureStepRow
        waiting = select(row).where(row.considered.is_(False)).order_by(row.id).limit(_AT_ONCE)
        with self._database.read() as session:
            return [as_step(each) for each in session.scalars(waiting)]

    def record_considered(self, sop_instance_uid: str, receivers: Mapping[str, bool]) -> None:
        """Record that the filters were tried on a step, and whose match it, with their deletion locks.

        Nothing is recorded where somebody else has, and nobody is told who has unsubscribed meanwhile.
        """
        mine = select(ProcedureStepRow).where(ProcedureStepRow.sop_instance_uid == sop_instance_uid)
        with self._database.transaction() as session:
            row = session.scalars(mine.with_for_update()).one()
            if row.considered:
                return
            row.considered = True
            lock_name(session, NEW_STEPS)  # after the step's, as whoever adds one has it
            still = set(session.scalars(select(StepSubscriptionRow.receiver).where(_FILTERED)))
            for receiver in sorted(still & receivers.keys()):
                self._include(session, row, receiver, deletion_lock=receivers[receiver])

    def record_unfiltered(self, sop_instance_uids: Collection[str]) -> None:
        """Record that there was no filter to try on these steps, but for those that somebody changes just now."""
        asked = select(ProcedureStepRow).where(ProcedureStepRow.sop_instance_uid.in_(sop_instance_uids))
        with self._database.transaction() as session:
            for row in session.scalars(asked.with_for_update(skip_locked=True)).all():
                row.considered = True

    def _include_some(
        self, uids: Sequence[str], receiver: str, *, deletion_lock: bool, wait: bool = False
    ) -> Collection[str]:
        """Include those of these steps that nobody changes at this moment; which those were."""
        asked = select(ProcedureStepRow).where(ProcedureStepRow.sop_instance_uid.in_(uids))
        with self._database.transaction() as session:
            rows = session.scalars(asked.order_by(ProcedureStepRow.id).with_for_update(skip_locked=not wait)).all()
            for row in rows:
                self._include(session, row, receiver, deletion_lock=deletion_lock)
            return {row.sop_instance_uid for row in rows} or (set(uids) if wait else set())

    def _include(self, session: Session, row: ProcedureStepRow, receiver: str, *, deletion_lock: bool) -> None:
        is_new = self._keep(session, row.sop_instance_uid, receiver, deletion_lock=deletion_lock, keys={})
        if is_new and row.state not in FINAL_STATES:
            tell(session, row, [state_report(row.attributes, row.state)], self._clock(), [receiver])

    def _keep(self, session: Session, uid: str, receiver: str, *, deletion_lock: bool, keys: Json) -> bool:
        """Write a subscription down; whether it is new."""
        lock_name(session, f"subscription of {receiver} to {uid}")
        known = session.scalar(
            select(StepSubscriptionRow).where(
                StepSubscriptionRow.sop_instance_uid == uid, StepSubscriptionRow.receiver == receiver
            )
        )
        if known is not None:
            known.deletion_lock, known.filter = deletion_lock, keys
            return False
        session.add(_row(uid, receiver, deletion_lock, keys, self._clock()))
        session.flush()
        return True

    def _end_globals(self, session: Session, receiver: str) -> None:
        row = StepSubscriptionRow
        known = row.sop_instance_uid.in_((GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION))
        session.execute(delete(row).where(known, row.receiver == receiver))


def _row(uid: str, receiver: str, deletion_lock: bool, keys: Json, now: datetime) -> StepSubscriptionRow:  # noqa: FBT001
    return StepSubscriptionRow(
        sop_instance_uid=uid, receiver=receiver, deletion_lock=deletion_lock, filter=keys, created_at=now
    )
