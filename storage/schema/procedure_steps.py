"""The tables of procedure steps, and of who is told of them."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ForeignKey,
    Index,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.storage.schema.base import Base, Id, Leased
from cxr_triage.storage.step_records import AnnouncementState, StepState


class ProcedureStepRow(Base):
    """A unified procedure step (PS3.4 Annex CC)."""

    __tablename__ = "procedure_step"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid"),
        Index(None, "study_instance_uid", "state"),
        Index(None, "considered"),
    )

    id: Mapped[Id]
    sop_instance_uid: Mapped[str]
    #: The study that it is the reading of; None: it is about something else.
    study_instance_uid: Mapped[str | None] = mapped_column(ForeignKey("study.study_instance_uid"))
    state: Mapped[StepState]
    transaction_uid: Mapped[str | None]
    #: AE title of who claimed it; None: nobody, or a reader who came by another way.
    performer: Mapped[str | None]
    #: Whether we made it ourselves.
    own: Mapped[bool]
    #: What was given at N-CREATE and set since: a data set as JSON. May hold patient data.
    attributes: Mapped[dict[str, Any]]
    #: Whether the filters of subscribers were tried on it.
    considered: Mapped[bool]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]


class StepSubscriptionRow(Base):
    """Who is told of one step's events, or of all steps' (the two global subscriptions)."""

    __tablename__ = "step_subscription"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "receiver"),)

    id: Mapped[Id]
    #: A step's, or a well-known one.
    sop_instance_uid: Mapped[str]
    #: AE title.
    receiver: Mapped[str] = mapped_column(index=True)
    #: Whether the step is to be kept until the subscriber has let go of it.
    deletion_lock: Mapped[bool]
    #: Of a filtered global subscription: its matching keys, a data set as JSON.
    filter: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class AnnouncementRow(Leased, Base):
    """One message for one receiver of one face."""

    __tablename__ = "announcement"
    __table_args__ = (
        UniqueConstraint("message_id"),
        Index(None, "state", "face", "receiver"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    face: Mapped[str]
    receiver: Mapped[str]
    #: The procedure step that it tells of.
    sop_instance_uid: Mapped[str] = mapped_column(index=True)
    message_id: Mapped[str]
    payload: Mapped[bytes]
    state: Mapped[AnnouncementState]
    #: Why the last attempt failed: one sentence for a person.
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
