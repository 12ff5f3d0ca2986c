"""What becomes of a row whose file is lost: it owns none any more, and says what was not done."""

from datetime import datetime

from sqlalchemy.orm import Session

from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import leases
from cxr_triage.storage.ledger.trail import note
from cxr_triage.storage.schema import Event, InstanceRow, ObjectRow


def disown(
    session: Session, row: InstanceRow | ObjectRow, problem: str, explanation: str, *, actor: str, now: datetime
) -> None:
    """Record that a row's file is lost.

    An image that still had to be read or reported ends as failed: nothing can be made of it. It is taken in anew when
    it is sent again.

    Args:
        session: of the ledger.
        row: whose file it was.
        problem: what is wrong with the file, a stable word.
        explanation: one sentence for a person, without patient data.
        actor: who noticed, for the audit trail.
        now: UTC.
    """
    place = "inbox" if isinstance(row, InstanceRow) else "outbox"
    row.owns_file = False
    note(session, now, actor, Event.FILE_FORGOTTEN, row, f"{place}: {problem}")
    if isinstance(row, InstanceRow) and _has_work_left(row):
        note(session, now, actor, Event.FAILED, row, problem)
        leases.give_back(row)
        row.state, row.changed_at = InstanceState.FAILED, now
        row.reason, row.explanation = problem, explanation


def _has_work_left(row: InstanceRow) -> bool:
    unread = row.state in {InstanceState.RECEIVED, InstanceState.INDEXED}
    return unread or (row.state is InstanceState.SCORED and row.covered_by is None and not row.withdrawn)
