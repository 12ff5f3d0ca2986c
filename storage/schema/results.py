"""The tables of revisions, of the objects made from them, and of their deliveries."""

from datetime import datetime

from sqlalchemy import (
    ForeignKey,
    Index,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.storage.delivery_records import DeliveryState, Instead
from cxr_triage.storage.result_records import ObjectKind, Reason, RevisionState
from cxr_triage.storage.schema.base import Base, Id, Leased


class RevisionRow(Base):
    """One study's result as of a set of images."""

    __tablename__ = "revision"
    __table_args__ = (UniqueConstraint("study_instance_uid", "number"), UniqueConstraint("digest"))

    id: Mapped[Id]
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    number: Mapped[int]
    digest: Mapped[str]
    policy_digest: Mapped[str]
    #: Why the study stood where it stood when the revision was opened: an SR that is made again says the same.
    priority_reason: Mapped[str]
    state: Mapped[RevisionState] = mapped_column(index=True)
    created_at: Mapped[datetime]
    reported_at: Mapped[datetime | None]
    #: The revision that this one supersedes.
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("revision.id"))
    #: Why it says nothing but that its predecessor is withdrawn; None: it is a result.
    withdrawal: Mapped[Reason | None]


class RevisionImageRow(Base):
    """An image that a revision is about."""

    __tablename__ = "revision_image"

    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id"), primary_key=True)
    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)


class ObjectRow(Base):
    """A finished DICOM object, and the file that holds it."""

    __tablename__ = "result_object"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid"),
        Index(None, "study_instance_uid", "kind"),
        Index(None, "owns_file", "created_at"),
        Index(None, "rejected"),
    )

    id: Mapped[Id]
    kind: Mapped[ObjectKind]
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"))
    source_sop_instance_uid: Mapped[str]
    #: The content that it was made from: a SOP Instance UID may have come with several. None for an SR.
    source_instance_id: Mapped[int | None] = mapped_column(ForeignKey("instance.id"))
    profile: Mapped[str]
    path: Mapped[str] = mapped_column(index=True)
    owns_file: Mapped[bool]
    sha256: Mapped[str]
    created_at: Mapped[datetime]
    #: Which result of that content.
    source_edition: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: Made for destinations that do not take another object of the profile.
    stand_in: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: Why it is not to be used any more; None: it may be.
    rejected: Mapped[Reason | None]


class RevisionObjectRow(Base):
    """An object that a revision consists of; a SEG may be part of several."""

    __tablename__ = "revision_object"

    revision_id: Mapped[int] = mapped_column(ForeignKey("revision.id"), primary_key=True)
    object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"), primary_key=True, index=True)


class DeliveryRow(Leased, Base):
    """One object for one destination."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("object_id", "destination"),
        Index(None, "state", "destination", "next_attempt_at"),
        Index(None, "instead"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    object_id: Mapped[int] = mapped_column(ForeignKey("result_object.id"))
    destination: Mapped[str]
    state: Mapped[DeliveryState]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    #: When it reached its present state.
    changed_at: Mapped[datetime]
    #: Attempts that the destination answered with a permanent failure.
    refusals: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: The open request by which the destination was asked to commit to it; None = none.
    commitment_id: Mapped[int | None] = mapped_column(ForeignKey("commitment.id"), index=True)
    #: How often the destination answered that it does not commit to it.
    commitment_failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: Of one that was not taken: what the destination gets instead, and the stand-in where that is one.
    instead: Mapped[Instead | None]
    instead_id: Mapped[int | None] = mapped_column(ForeignKey("result_object.id"))
    #: The rejection note by which the destination is told that the object is not to be used any more.
    rejected_by_id: Mapped[int | None] = mapped_column(ForeignKey("result_object.id"))


class CircuitRow(Base):
    """Whether a destination is sent to, or left alone for a while: the circuit breaker that all senders share."""

    __tablename__ = "circuit"

    destination: Mapped[str] = mapped_column(primary_key=True)
    #: In a row, of the destination as a whole; 0 = closed.
    failures: Mapped[int]
    #: Nothing is sent before; None = closed.
    open_until: Mapped[datetime | None]
    #: Of the last failure: one sentence for a person; empty = closed.
    reason: Mapped[str]
    #: When it was opened or closed: failures between do not count.
    changed_at: Mapped[datetime]
