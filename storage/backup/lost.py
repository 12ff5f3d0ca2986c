"""What becomes of a row whose file is lost: it owns none any more, and says what was not done."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from cxr_triage.storage.backup.source import Owned
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.housekeeping import owner_row
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.records import InstanceState
from cxr_triage.storage.schema import Event, InstanceRow

#: Who acted, in the audit trail.
_ACTOR: Final = "backup"


def record_lost(session: Session, owned: Owned, problem: str, *, now: datetime) -> None:
    """Record in a backup's ledger that a file is not in the backup.

    An image that still had to be read or reported ends as failed: nothing can be made of it. It is taken in anew when
    it is sent again.

    Args:
        session: of the backup's ledger.
        owned: the file.
        problem: why, a stable word.
        now: UTC.
    """
    row = owner_row(session, owned.place, owned.id)
    row.owns_file = False
    note(session, now, _ACTOR, Event.FILE_FORGOTTEN, row, f"{owned.place}: {problem}")
    if isinstance(row, InstanceRow) and _has_work_left(row):
        note(session, now, _ACTOR, Event.FAILED, row, problem)
        leases.give_back(row)
        row.state, row.changed_at = InstanceState.FAILED, now
        row.reason = problem
        row.explanation = f"When the backup was made, the image's file was {problem}: have it sent again."


def _has_work_left(row: InstanceRow) -> bool:
    unread = row.state in {InstanceState.RECEIVED, InstanceState.INDEXED}
    return unread or (row.state is InstanceState.SCORED and row.covered_by is None)
