"""Messages that a face pushes to receivers: each in order, at least once, the same bytes at each attempt."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.schema import AnnouncementRow, ProcedureStepRow
from cxr_triage.storage.step_records import Announced, Announcement, AnnouncementCounts, AnnouncementState

#: Rows that are removed together.
_AT_ONCE: Final = 1000


class Announcements:
    """Hands out messages by lease, the oldest of a receiver first, and nothing behind it."""

    def __init__(self, database: Database, *, lease: timedelta, clock: Clock = utc_now) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    def receivers(self, face: str) -> Sequence[str]:
        """Give everybody for whom a message waits."""
        row = AnnouncementRow
        waiting = select(row.receiver).where(row.state == AnnouncementState.PENDING, row.face == face).distinct()
        with self._database.read() as session:
            return sorted(session.scalars(waiting))

    def claim(self, owner: str, face: str, receiver: str) -> Announcement | None:
        """Claim the next message of a receiver; None: none waits, or it is not its time, or another one sends it."""
        row, now = AnnouncementRow, self._clock()
        mine = (row.state == AnnouncementState.PENDING) & (row.face == face) & (row.receiver == receiver)
        # Nothing overtakes the first one, due or not.
        first = select(func.min(row.id)).where(mine).scalar_subquery()
        due = (row.id == first) & leases.is_due(row, now)
        if not leases.any_of(self._database, row, due):
            return None
        with self._database.transaction() as session:
            rows = leases.claim(session, select(row).where(due), row, owner, now + self._lease)
            return next(map(_as_announcement, rows), None)

    def record_acknowledged(self, told: Announcement) -> None:
        """Record that the receiver has taken it.

        Raises:
            StaleAttemptError: a later attempt has it.
        """
        with self._database.transaction() as session:
            row = leases.held(session, AnnouncementRow, told.id, told.attempt)
            row.state, row.changed_at, row.last_error = AnnouncementState.ACKNOWLEDGED, self._clock(), None
            leases.give_back(row)

    def record_failure(self, told: Announcement, *, error: str, retry_at: datetime | None) -> None:
        """Record that the receiver did not take it, and when it is tried again; None: not again.

        Raises:
            StaleAttemptError: a later attempt has it.
        """
        with self._database.transaction() as session:
            row = leases.held(session, AnnouncementRow, told.id, told.attempt)
            row.failures += 1
            row.last_error = error
            if retry_at is None:
                row.state, row.changed_at = AnnouncementState.DEAD, self._clock()
            leases.give_back(row, retry_at)

    def of_study(self, study_instance_uid: str) -> list[Announced]:
        """Give the messages about the steps of a study, oldest first."""
        row = AnnouncementRow
        steps = select(ProcedureStepRow.sop_instance_uid).where(
            ProcedureStepRow.study_instance_uid == study_instance_uid
        )
        with self._database.read() as session:
            rows = session.scalars(select(row).where(row.sop_instance_uid.in_(steps)).order_by(row.id))
            return [_as_announced(each) for each in rows]

    def counts(self) -> list[AnnouncementCounts]:
        """Count the messages of each receiver by state, and say why those are not taken that are not."""
        row = AnnouncementRow
        counted = select(row.receiver, row.state, func.count()).group_by(row.receiver, row.state)
        failed = (
            select(row.receiver, row.last_error)
            .where(row.state != AnnouncementState.ACKNOWLEDGED, row.last_error.is_not(None))
            .order_by(row.changed_at, row.id)
        )
        with self._database.read() as session:
            states: defaultdict[str, dict[AnnouncementState, int]] = defaultdict(
                lambda: dict.fromkeys(AnnouncementState, 0)
            )
            for receiver, state, count in session.execute(counted):
                states[receiver][state] = count
            errors = {receiver: error or "" for receiver, error in session.execute(failed)}
        return [
            AnnouncementCounts(receiver=receiver, states=states[receiver], last_error=errors.get(receiver, ""))
            for receiver in sorted(states)
        ]

    def give_up(self, before: datetime) -> int:
        """Give up the messages from before that time that nobody has come for; how many."""
        row = AnnouncementRow
        late = (row.state == AnnouncementState.PENDING) & row.owner.is_(None) & (row.created_at < before)
        with self._database.read() as session:
            if session.scalar(select(row.id).where(late).limit(1)) is None:
                return 0
        with self._database.transaction() as session:
            rows = session.scalars(select(row).where(late).order_by(row.id).limit(_AT_ONCE).with_for_update()).all()
            for each in rows:
                each.state, each.changed_at = AnnouncementState.DEAD, self._clock()
                each.last_error = each.last_error or "nobody came for it"
            return len(rows)

    def forget(self, before: datetime) -> int:
        """Remove what was taken or given up before that time; how many."""
        row = AnnouncementRow
        with self._database.transaction() as session:
            done = select(row).where(row.state != AnnouncementState.PENDING, row.changed_at < before).limit(_AT_ONCE)
            rows = session.scalars(done).all()
            for each in rows:
                session.delete(each)
            return len(rows)

    def release_leases(self, is_alive: Callable[[str], bool], now: datetime) -> int:
        """Give back the messages whose sender is dead or too slow; how many."""
        lost = leases.lost(self._database, AnnouncementRow, is_alive, now)
        return leases.end_each(self._database, AnnouncementRow, lost, lambda _session, row: leases.give_back(row))


def _as_announced(row: AnnouncementRow) -> Announced:
    return Announced(
        receiver=row.receiver,
        sop_instance_uid=row.sop_instance_uid,
        message_id=row.message_id,
        state=row.state,
        created_at=row.created_at,
        changed_at=row.changed_at,
        failures=row.failures,
        last_error=row.last_error or "",
    )


def _as_announcement(row: AnnouncementRow) -> Announcement:
    return Announcement(
        id=row.id,
        attempt=row.attempt,
        face=row.face,
        receiver=row.receiver,
        message_id=row.message_id,
        payload=row.payload,
        created_at=row.created_at,
        failures=row.failures,
    )
