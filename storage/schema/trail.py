"""The table of the audit trail."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.storage.schema.base import Base, Id


class Event(StrEnum):
    """What the audit trail tells of."""

    RECEIVED = "received"
    INDEXED = "indexed"
    SCORED = "scored"
    TO_SCORE_AGAIN = "to_score_again"
    RESULT_KEPT = "result_kept"
    UNSUITABLE = "unsuitable"
    FAILED = "failed"
    RETRIED = "retried"
    RELEASED = "released"
    REPLAYED = "replayed"
    ORDERED = "ordered"
    ORDER_NOT_COUNTED = "order_not_counted"
    ORDER_ENDED = "order_ended"
    PRIORITISED = "prioritised"
    FINISHED = "finished"
    REOPENED = "reopened"
    REVISION_OPENED = "revision_opened"
    REVISION_REPORTED = "revision_reported"
    REVISION_SUPERSEDED = "revision_superseded"
    DELIVERED = "delivered"
    DELIVERY_RETRIED = "delivery_retried"
    DELIVERY_DEAD = "delivery_dead"
    NOT_TAKEN = "not_taken"
    STAND_IN_MADE = "stand_in_made"
    REJECTION_NOTE_MADE = "rejection_note_made"
    WITHDRAWN = "withdrawn"
    WITHDRAWAL_UNDONE = "withdrawal_undone"
    DELIVERY_WITHDRAWN = "delivery_withdrawn"
    COMMITTED = "committed"
    NOT_COMMITTED = "not_committed"
    MODALITY_TOLD_COMMITTED = "modality_told_committed"
    CIRCUIT_OPENED = "circuit_opened"
    CIRCUIT_CLOSED = "circuit_closed"
    FILE_FORGOTTEN = "file_forgotten"
    CLOCK_ACCEPTED = "clock_accepted"
    CLAIMED = "claimed"
    GIVEN_BACK = "given_back"
    PAUSED = "paused"
    RESUMED = "resumed"
    STEP_CREATED = "step_created"
    STEP_CHANGED = "step_changed"
    STEP_SET = "step_set"
    STEP_CANCEL_REQUESTED = "step_cancel_requested"
    STEP_SUBSCRIBED = "step_subscribed"
    STEP_UNSUBSCRIBED = "step_unsubscribed"


class AuditRow(Base):
    """One change of order or state: what, when, by whom. No patient data."""

    __tablename__ = "audit"

    id: Mapped[Id]
    at: Mapped[datetime]
    #: A person, a role's owner name, or the part of the ledger that acted by its own rule.
    actor: Mapped[str]
    event: Mapped[str]
    study_instance_uid: Mapped[str | None] = mapped_column(index=True)
    sop_instance_uid: Mapped[str | None] = mapped_column(index=True)
    detail: Mapped[str]
