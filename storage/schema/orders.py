"""The tables of what was ordered, and of whom was asked about it."""

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.model.priority import Level
from cxr_triage.storage.order_records import EndReason, InquiryState, OrderSource, Verdict
from cxr_triage.storage.schema.base import Base, Id, Leased


class OrderRow(Base):
    """One message about an order: how urgent it is, or that it is done with. Patient data, but no name."""

    __tablename__ = "study_order"
    __table_args__ = (
        UniqueConstraint("source", "sender", "message_id"),
        CheckConstraint("(level IS NULL) != (ending IS NULL)", name="one_statement"),
        Index(None, "study_instance_uid"),
        Index(None, "accession_number"),
        Index(None, "recorded_at"),
    )

    id: Mapped[Id]
    source: Mapped[OrderSource]
    sender: Mapped[str]
    message_id: Mapped[str]
    level: Mapped[Level | None]
    ending: Mapped[EndReason | None]
    #: When it was said; never later than it was recorded.
    at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    #: What it names; empty = not said.
    study_instance_uid: Mapped[str]
    accession_number: Mapped[str]
    issuer_of_accession_number: Mapped[str]
    patient_id: Mapped[str]
    issuer_of_patient_id: Mapped[str]
    patient_birth_date: Mapped[str]


class OrderMatchRow(Base):
    """A study that an order is about, and whether it counts there."""

    __tablename__ = "order_match"

    order_id: Mapped[int] = mapped_column(ForeignKey("study_order.id"), primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(
        ForeignKey("study.study_instance_uid"), primary_key=True, index=True
    )
    verdict: Mapped[Verdict]


class InquiryRow(Leased, Base):
    """A study whose order the RIS is asked for. Its owner is asking."""

    __tablename__ = "order_inquiry"
    __table_args__ = (
        UniqueConstraint("study_instance_uid"),
        Index(None, "state", "next_attempt_at"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    state: Mapped[InquiryState]
    #: Why the last attempt came to nothing: one sentence for a person.
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
