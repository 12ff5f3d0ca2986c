"""The tables of storage commitment, asked for and given."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.storage.commitment_records import CommitmentState, ModalityRequestState, Outcome
from cxr_triage.storage.schema.base import Base, Id, Leased


class CommitmentRow(Leased, Base):
    """One request of ours for storage commitment. Its owner is sending it; it is never attempted twice."""

    __tablename__ = "commitment"
    __table_args__ = (
        UniqueConstraint("transaction_uid"),
        Index(None, "state", "destination", "next_attempt_at"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    transaction_uid: Mapped[str]
    destination: Mapped[str]
    state: Mapped[CommitmentState]
    #: Why it was refused, or that it was not answered: one sentence for a person.
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class CommitmentItemRow(Base):
    """One object in a request of ours: a delivered result, or an image that a modality asks about."""

    __tablename__ = "commitment_item"
    __table_args__ = (
        UniqueConstraint("commitment_id", "sop_instance_uid"),
        CheckConstraint("(delivery_id IS NULL) != (modality_item_id IS NULL)", name="one_subject"),
    )

    id: Mapped[Id]
    commitment_id: Mapped[int] = mapped_column(ForeignKey("commitment.id"))
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("delivery.id"), index=True)
    modality_item_id: Mapped[int | None] = mapped_column(ForeignKey("modality_request_item.id"), index=True)
    #: None = the PACS has not said.
    outcome: Mapped[Outcome | None]
    #: Failure Reason (0008,1197) of a failed one.
    failure_reason: Mapped[int | None]


class ModalityRequestRow(Leased, Base):
    """One request of a modality for storage commitment. Its owner is reporting the result."""

    __tablename__ = "modality_request"
    __table_args__ = (
        UniqueConstraint("transaction_uid", "calling_ae_title", "digest"),
        Index(None, "state", "calling_ae_title", "next_attempt_at"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    transaction_uid: Mapped[str]
    calling_ae_title: Mapped[str]
    #: SHA-256 of its references in their order: the same request again is one request.
    digest: Mapped[str]
    state: Mapped[ModalityRequestState]
    #: Why the last attempt to report failed: one sentence for a person.
    last_error: Mapped[str | None]
    received_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class ModalityRequestItemRow(Base):
    """One image that a modality asks about."""

    __tablename__ = "modality_request_item"
    __table_args__ = (
        UniqueConstraint("request_id", "sop_instance_uid"),
        Index(None, "outcome", "next_attempt_at"),
    )

    id: Mapped[Id]
    request_id: Mapped[int] = mapped_column(ForeignKey("modality_request.id"))
    sop_class_uid: Mapped[str]
    sop_instance_uid: Mapped[str]
    #: The open request by which the PACS was asked about it; None = none.
    commitment_id: Mapped[int | None] = mapped_column(ForeignKey("commitment.id"), index=True)
    #: How often the PACS answered that it does not commit to it.
    failures: Mapped[int] = mapped_column(default=0)
    #: When the PACS may be asked again; None = at once.
    next_attempt_at: Mapped[datetime | None]
    #: What the modality is told; None = not decided.
    outcome: Mapped[Outcome | None]
    #: Failure Reason (0008,1197): what the modality is told, or, while it is not decided, what the PACS said last.
    failure_reason: Mapped[int | None]
