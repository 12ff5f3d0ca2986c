"""What every table has."""

from datetime import datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Integer,
    MetaData,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cxr_triage.model.priority import Level, Mode
from cxr_triage.storage.columns import LevelNumber, SafeText, StateText, UtcTime
from cxr_triage.storage.commitment_records import CommitmentState, ModalityRequestState, Outcome
from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.order_records import EndReason, InquiryState, OrderSource, Verdict
from cxr_triage.storage.result_records import ObjectKind, Reason, RevisionState
from cxr_triage.storage.step_records import AnnouncementState, StepState

Id = Annotated[int, mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]
Number = Annotated[int, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    """Every constraint has a name, so that migrations can speak of it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to say it
        str: SafeText,
        datetime: UtcTime,
        Level: LevelNumber,
        Mode: StateText(Mode),
        InstanceState: StateText(InstanceState),
        RevisionState: StateText(RevisionState),
        DeliveryState: StateText(DeliveryState),
        Instead: StateText(Instead),
        ObjectKind: StateText(ObjectKind),
        Reason: StateText(Reason),
        CommitmentState: StateText(CommitmentState),
        ModalityRequestState: StateText(ModalityRequestState),
        Outcome: StateText(Outcome),
        Change: StateText(Change),
        StepState: StateText(StepState),
        AnnouncementState: StateText(AnnouncementState),
        OrderSource: StateText(OrderSource),
        EndReason: StateText(EndReason),
        Verdict: StateText(Verdict),
        InquiryState: StateText(InquiryState),
        dict[str, Any]: JSON,
        list[float]: JSON,
        list[int]: JSON,
    }


class Leased:
    """A row that is a job: one owner at a time, and a number that tells a late owner that it is late."""

    #: Claims so far, whatever became of them. Transitions name it (fencing).
    attempt: Mapped[int] = mapped_column(default=0)
    #: Attempts of the present step that ended in a recorded failure.
    failures: Mapped[int] = mapped_column(default=0)
    #: None = free.
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    #: None = as soon as somebody is free.
    next_attempt_at: Mapped[datetime | None]
