"""Every change of the reading list's order: numbered and kept, in the transaction that makes it.

The one row of the list is locked by it, so it comes last in a transaction, after every lock on a study.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from cxr_triage.model.priority import Priority
from cxr_triage.storage.database import lock_name
from cxr_triage.storage.ledger import reading_steps
from cxr_triage.storage.list_records import Change, ListChange, ListVersion, PastList, Pause, Stood
from cxr_triage.storage.schema import AuditRow, Event, ListChangeRow, ReadingListRow, StudyRow

#: The list's only row.
THE_LIST: Final = 1


def changed(session: Session, study: StudyRow, change: Change, *, now: datetime, actor: str) -> None:
    """Write down that the order of the list is another one from now on."""
    assert study.arrived_at is not None
    assert study.overdue_at is not None
    the_list = locked_list(session)
    the_list.changes += 1
    reading_steps.follow(session, study, change, now)
    session.add(
        ListChangeRow(
            number=the_list.changes,
            at=now,
            study_instance_uid=study.study_instance_uid,
            change=change,
            actor=actor,
            ordered=study.ordered,
            effective=study.effective,
            utility=study.utility,
            reason=study.reason,
            arrived_at=study.arrived_at,
            overdue_at=study.overdue_at,
            claimed_at=study.claimed_at,
            mode=the_list.mode,
            raise_to=the_list.raise_to,
        )
    )


def locked_list(session: Session) -> ReadingListRow:
    """Lock the list's row."""
    row = session.get(ReadingListRow, THE_LIST, with_for_update=True, populate_existing=True)
    if row is not None:
        return row
    lock_name(session, "reading list")
    row = session.get(ReadingListRow, THE_LIST, with_for_update=True, populate_existing=True)
    if row is None:
        row = ReadingListRow(id=THE_LIST, changes=0)
        session.add(row)
        session.flush()
    return row


def version(session: Session, now: datetime) -> ListVersion:
    """Give the version of the list at one instant."""
    overdue = select(func.count()).where(
        StudyRow.arrived_at.is_not(None),
        StudyRow.finished_at.is_(None),
        StudyRow.claimed_at.is_(None),
        StudyRow.overdue_at < now,
    )
    row = session.get(ReadingListRow, THE_LIST)
    return ListVersion(changes=row.changes if row else 0, overdue=session.scalar(overdue) or 0)


def pause(session: Session) -> Pause | None:
    """Say whether triage is paused."""
    return pause_of(session.get(ReadingListRow, THE_LIST))


def pause_of(row: ReadingListRow | None) -> Pause | None:
    """Read the pause from the list's row."""
    if row is None or row.paused_at is None:
        return None
    return Pause(at=row.paused_at, by=row.paused_by or "", reason=row.pause_reason or "")


def changes_of(session: Session, study_instance_uid: str) -> Sequence[ListChange]:
    """Give all changes that were about a study, oldest first."""
    mine = select(ListChangeRow).where(ListChangeRow.study_instance_uid == study_instance_uid)
    return [change_of(row) for row in session.scalars(mine.order_by(ListChangeRow.number))]


def changes_after(session: Session, number: int, limit: int) -> Sequence[ListChange]:
    """Give the next changes after that many, in order: what a face is still to be told."""
    later = select(ListChangeRow).where(ListChangeRow.number > number).order_by(ListChangeRow.number)
    return [change_of(row) for row in session.scalars(later.limit(limit))]


def stood_at(session: Session, when: datetime) -> PastList:
    """Give the list of a past instant, as far as it is kept."""
    before = ListChangeRow.at <= when
    last = select(func.max(ListChangeRow.number)).where(before).group_by(ListChangeRow.study_instance_uid)
    listed = select(ListChangeRow).where(
        ListChangeRow.number.in_(last.scalar_subquery()), ListChangeRow.change != Change.FINISHED
    )
    newest = session.scalar(select(ListChangeRow).where(before).order_by(ListChangeRow.number.desc()).limit(1))
    return PastList(
        at=when,
        mode=newest.mode if newest else None,
        raise_to=newest.raise_to if newest else None,
        pause=_pause_at(session, when),
        studies=[
            Stood(
                study_instance_uid=change.study_instance_uid,
                arrived_at=change.arrived_at,
                claimed_at=change.claimed_at,
                priority=change.priority,
            )
            for change in map(change_of, session.scalars(listed.order_by(ListChangeRow.number)))
        ],
        not_kept=frozenset(session.scalars(_not_kept_at(when))),
    )


def _pause_at(session: Session, when: datetime) -> Pause | None:
    """Say whether triage was paused: by the trail, since a pause by itself is no change of a study."""
    switched = select(AuditRow).where(
        AuditRow.study_instance_uid.is_(None), AuditRow.event.in_((Event.PAUSED, Event.RESUMED)), AuditRow.at <= when
    )
    row = session.scalar(switched.order_by(AuditRow.id.desc()).limit(1))
    if row is None or row.event == Event.RESUMED:
        return None
    return Pause(at=row.at, by=row.actor, reason=row.detail)


def _not_kept_at(when: datetime) -> Select[str]:
    """Which studies waited then that were listed before changes were kept; since then, each begins as listed."""
    of_study = ListChangeRow.study_instance_uid == StudyRow.study_instance_uid
    return select(StudyRow.study_instance_uid).where(
        StudyRow.arrived_at <= when,
        StudyRow.finished_at.is_(None) | (StudyRow.finished_at > when),
        ~exists().where(of_study, ListChangeRow.at <= when),
        ~exists().where(of_study, ListChangeRow.change == Change.LISTED),
    )


def change_of(row: ListChangeRow) -> ListChange:
    """Read a change back."""
    return ListChange(
        number=row.number,
        at=row.at,
        study_instance_uid=row.study_instance_uid,
        change=row.change,
        actor=row.actor,
        arrived_at=row.arrived_at,
        claimed_at=row.claimed_at,
        priority=Priority(
            ordered=row.ordered,
            effective=row.effective,
            utility=row.utility,
            reason=row.reason,
            overdue_at=row.overdue_at,
        ),
    )
