"""Who reads a study: opened, put back, read. Each within the transaction of whoever locked the study."""

from datetime import datetime

from sqlalchemy.orm import Session

from cxr_triage.storage.ledger.changes import changed
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.schema import Event, StudyRow


def claim_study(session: Session, study: StudyRow, *, by: str, now: datetime, actor: str) -> bool:
    """Open a listed study for a reader; whether it is this reader's now: if not, another one has it."""
    if study.claimed_at is not None:
        return study.claimed_by == by
    study.claimed_at, study.claimed_by = now, by
    note(session, now, actor, Event.CLAIMED, study, f"by {by}")
    changed(session, study, Change.CLAIMED, now=now, actor=actor)
    return True


def give_back_study(session: Session, study: StudyRow, *, now: datetime, actor: str) -> bool:
    """Put a listed study back unread; whether a reader had it."""
    if study.claimed_at is None:
        return False
    note(session, now, actor, Event.GIVEN_BACK, study, f"by {study.claimed_by}")
    study.claimed_at = study.claimed_by = None
    changed(session, study, Change.GIVEN_BACK, now=now, actor=actor)
    return True


def finish_study(session: Session, study: StudyRow, *, now: datetime, actor: str, detail: str = "") -> None:
    """Take a listed study off the list, whoever has it."""
    study.finished_at = now
    study.claimed_at = study.claimed_by = None
    note(session, now, actor, Event.FINISHED, study, detail)
    changed(session, study, Change.FINISHED, now=now, actor=actor)
