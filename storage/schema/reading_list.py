"""The tables of studies and of the reading list."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
)
from sqlalchemy.orm import Mapped, mapped_column

from cxr_triage.model.priority import Level, Mode
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.schema.base import Base, Id, Number


class StudyRow(Base):
    """A study: what was ordered, and where it stands on the reading list."""

    __tablename__ = "study"
    __table_args__ = (
        CheckConstraint("effective <= ordered", name="never_lowered"),
        CheckConstraint("utility >= 0 AND utility <= 1", name="utility_range"),
        Index(None, "finished_at", "arrived_at"),
    )

    study_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    ordered: Mapped[Level]
    #: None until an image of it is indexed.
    arrived_at: Mapped[datetime | None]
    #: None while it is on the list.
    finished_at: Mapped[datetime | None]
    effective: Mapped[Level]
    utility: Mapped[float]
    reason: Mapped[str]
    overdue_at: Mapped[datetime | None]
    #: The same four without findings.
    plain_effective: Mapped[Level]
    plain_utility: Mapped[float]
    plain_reason: Mapped[str]
    plain_overdue_at: Mapped[datetime | None]
    #: When a reader opened it; None: nobody reads it.
    claimed_at: Mapped[datetime | None]
    #: Who reads it: an AE title, or a person.
    claimed_by: Mapped[str | None]


class ReadingListRow(Base):
    """The reading list as a whole: one row; none as long as nothing has changed."""

    __tablename__ = "reading_list"

    id: Mapped[Id]
    #: Changes of its order so far.
    changes: Mapped[Number]
    #: Since when findings move nothing, by whom, and why; None: they do.
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    pause_reason: Mapped[str | None]
    #: The policy by which a study was last placed, paused or not; None: none was since these are kept.
    mode: Mapped[Mode | None]
    raise_to: Mapped[Level | None]


class ListChangeRow(Base):
    """One change of the reading list's order: what every face shows from then on. No patient data."""

    __tablename__ = "list_change"

    #: Changes of the list so far, this one included.
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(index=True)
    study_instance_uid: Mapped[str] = mapped_column(ForeignKey("study.study_instance_uid"), index=True)
    change: Mapped[Change]
    actor: Mapped[str]
    ordered: Mapped[Level]
    effective: Mapped[Level]
    utility: Mapped[float]
    #: Why the study stands where it stands from then on.
    reason: Mapped[str]
    #: The rest of what its place is computed from, so that the list of any past instant can be shown.
    arrived_at: Mapped[datetime]
    overdue_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    #: The list's own at that moment; None: not kept.
    mode: Mapped[Mode | None]
    raise_to: Mapped[Level | None]
