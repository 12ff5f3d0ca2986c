"""The audit trail: one row per change of order or state, written in the transaction that makes the change."""

from datetime import datetime

from sqlalchemy.orm import Session

from cxr_triage.storage.schema import AuditRow, Event, InstanceRow, ObjectRow, StudyRow


def note(
    session: Session,
    at: datetime,
    actor: str,
    event: Event,
    about: InstanceRow | ObjectRow | StudyRow | None,
    detail: str = "",
) -> None:
    """Write down a change.

    Args:
        session: of the transaction that makes the change.
        at: when, UTC.
        actor: who: a person, a process' owner name, or the part of the ledger that follows its own rule.
        event: what.
        about: which image, object or study; None: none of them.
        detail: more, without patient data.
    """
    session.add(
        AuditRow(
            at=at,
            actor=actor,
            event=event.value,
            study_instance_uid=None if about is None else about.study_instance_uid,
            sop_instance_uid=about.sop_instance_uid if isinstance(about, InstanceRow | ObjectRow) else None,
            detail=detail,
        )
    )
