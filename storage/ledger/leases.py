"""Jobs handed out by lease: claimed by one owner, given back when the owner dies, fenced by the attempt's number."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_, select
from sqlalchemy.orm import Session

from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.database import Database
from cxr_triage.storage.schema import (
    AnnouncementRow,
    CommitmentRow,
    DeliveryRow,
    InquiryRow,
    InstanceRow,
    Leased,
    ModalityRequestRow,
)

Job = TypeVar("Job", InstanceRow, DeliveryRow, CommitmentRow, ModalityRequestRow, AnnouncementRow, InquiryRow)


def is_due(table: type[Job], now: datetime) -> ColumnElement[bool]:
    """Whether nobody has a job and its time has come."""
    return and_(table.owner.is_(None), or_(table.next_attempt_at.is_(None), table.next_attempt_at <= now))


def claim(session: Session, jobs: Select[Job], table: type[Job], owner: str, lease_until: datetime) -> list[Job]:
    """Give jobs to an owner, except those that another transaction is giving away at this moment."""
    rows = list(session.scalars(jobs.with_for_update(of=table, skip_locked=True)))
    for row in rows:
        row.owner = owner
        row.lease_until = lease_until
        row.attempt += 1
    return rows


def held(session: Session, table: type[Job], job_id: int, attempt: int) -> Job:
    """Lock the job of an attempt that still has it.

    Raises:
        StaleAttemptError: a later attempt has it, or it was given back.
    """
    row = session.get(table, job_id, with_for_update=True)
    if row is None or row.attempt != attempt or row.owner is None:
        raise StaleAttemptError(
            f"attempt {attempt} no longer has {table.__tablename__} {job_id}: nothing of it is recorded; claim again"
        )
    return row


def give_back(row: Leased, next_attempt_at: datetime | None = None) -> None:
    """End an attempt: whoever is next may have the job from that time on."""
    row.owner = None
    row.lease_until = None
    row.next_attempt_at = next_attempt_at


def extend(
    database: Database, table: type[Job], attempts: Sequence[tuple[int, int]], until: datetime
) -> set[tuple[int, int]]:
    """Prolong the leases of attempts, given as (job, number), and say which of them still have their job."""
    jobs = select(table).where(table.id.in_({job for job, _ in attempts}), table.owner.is_not(None))
    with database.transaction() as session:
        rows = session.scalars(jobs.order_by(table.id).with_for_update())
        held_still = [row for row in rows if (row.id, row.attempt) in attempts]
        for row in held_still:
            row.lease_until = until
        return {(row.id, row.attempt) for row in held_still}


def give_back_forgotten(database: Database, mine: ColumnElement[bool], table: type[Job], in_hand: Sequence[int]) -> int:
    """Give back what an owner holds by the ledger's account but not by its own: an answer got lost, or a transition.

    Args:
        database: of the ledger.
        mine: which jobs are that owner's.
        table: of the jobs.
        in_hand: the jobs that it knows of.

    Returns:
        How many were given back.
    """
    forgotten = select(table).where(mine, table.id.not_in(in_hand)).order_by(table.id)
    with database.transaction() as session:
        rows = session.scalars(forgotten.with_for_update()).all()
        for row in rows:
            give_back(row, row.next_attempt_at)
        return len(rows)


def end_each(
    database: Database, table: type[Job], which: ColumnElement[bool], end: Callable[[Session, Job], None]
) -> int:
    """End jobs in one transaction, except those that another one has in hand; how many. Idle, it takes no write lock.

    Args:
        database: of the ledger.
        table: of the jobs.
        which: those to end.
        end: called with each, locked.
    """
    if not any_of(database, table, which):
        return 0
    with database.transaction() as session:
        jobs = select(table).where(which).order_by(table.id)
        rows = session.scalars(jobs.with_for_update(skip_locked=True)).all()
        for row in rows:
            end(session, row)
        return len(rows)


def lost(database: Database, table: type[Job], is_alive: Callable[[str], bool], now: datetime) -> ColumnElement[bool]:
    """Which jobs have a dead owner or a lease that has run out. Reads only: an idle ledger takes no write lock."""
    with database.read() as session:
        owners = session.scalars(select(table.owner).where(table.owner.is_not(None)).distinct()).all()
    # An owner's name is never used again: who is dead now is still dead in the next transaction.
    dead = [owner for owner in owners if owner is not None and not is_alive(owner)]
    return and_(table.owner.in_(owners), or_(table.owner.in_(dead), table.lease_until <= now))


def any_of(database: Database, table: type[Job], condition: ColumnElement[bool]) -> bool:
    """Whether there is such a job. Reads only: an idle ledger takes no write lock."""
    with database.read() as session:
        return session.scalar(select(table.id).where(condition).limit(1)) is not None
