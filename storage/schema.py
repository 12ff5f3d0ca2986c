"""The tables. A change here comes with a migration; a test compares the two."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from cxr_triage.model.priority import Level
from cxr_triage.storage.columns import LevelNumber, SafeText, StateText, UtcTime
from cxr_triage.storage.commitment_records import CommitmentState, ModalityRequestState, Outcome
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.order_records import EndReason, InquiryState, OrderSource, Verdict
from cxr_triage.storage.records import DeliveryState, InstanceState, Instead, ObjectKind, Reason, RevisionState
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


class ListChangeRow(Base):
    """One change of the reading list's order: what every face shows from then on. No patient data."""

    __tablename__ = "list_change"

    #: Changes of the list so far, this one included.
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
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


class InstanceRow(Leased, Base):
    """One content of one SOP Instance, and the file that holds it."""

    __tablename__ = "instance"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "sha256"),
        Index(None, "state", "ordered", "received_at"),
        Index(None, "study_instance_uid", "state"),
        Index(None, "covered_by", "state"),
        Index(None, "owns_file", "received_at"),
        Index(None, "owner"),
    )

    id: Mapped[Id]
    sop_instance_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    calling_ae_title: Mapped[str]
    called_ae_title: Mapped[str]
    path: Mapped[str] = mapped_column(index=True)
    owns_file: Mapped[bool]
    sha256: Mapped[str]
    size_bytes: Mapped[Number]
    received_at: Mapped[datetime]
    #: Its SOP Instance UID was known with other bytes when it came.
    other_bytes: Mapped[bool]
    study_instance_uid: Mapped[str | None] = mapped_column(ForeignKey("study.study_instance_uid"))
    #: The study's, copied so that one index gives the most urgent image.
    ordered: Mapped[Level]
    state: Mapped[InstanceState]
    #: Attempts of the present step that were given back without an outcome.
    lost: Mapped[int] = mapped_column(default=0)
    #: Of a refusal or an error, also one that will be retried: a stable word, and a sentence for a person.
    reason: Mapped[str | None]
    explanation: Mapped[str | None]
    #: When it reached its present state.
    changed_at: Mapped[datetime]
    #: The first reported revision that is about it.
    covered_by: Mapped[int | None] = mapped_column(ForeignKey("revision.id"))
    #: Its result does not count, whether there is one or not.
    withdrawn: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    #: How often its result was replaced, or a withdrawal of it undone: what is made of it then has other UIDs.
    edition: Mapped[int] = mapped_column(default=0, server_default=text("0"))


class HeaderRow(Base):
    """The header of an image: beside orders, the only place of patient data. One column per field of InstanceHeader."""

    __tablename__ = "instance_header"
    __table_args__ = (Index(None, "accession_number"), Index(None, "study_instance_uid"))

    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    study_instance_uid: Mapped[str]
    series_instance_uid: Mapped[str]
    modality: Mapped[str]
    view: Mapped[str]
    patient_name: Mapped[str]
    patient_id: Mapped[str]
    issuer_of_patient_id: Mapped[str]
    patient_birth_date: Mapped[str]
    patient_sex: Mapped[str]
    accession_number: Mapped[str]
    issuer_of_accession_number: Mapped[str] = mapped_column(server_default=text("''"))
    study_id: Mapped[str]
    study_date: Mapped[str]
    study_time: Mapped[str]
    study_description: Mapped[str]
    referring_physician_name: Mapped[str]
    specific_character_set: Mapped[str]


class PredictionRow(Base):
    """What the network said of an image: arrays packed, the rest beside them."""

    __tablename__ = "prediction"
    __table_args__ = (
        CheckConstraint("abnormal_probability >= 0 AND abnormal_probability <= 1", name="probability_range"),
    )

    instance_id: Mapped[int] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    scored_at: Mapped[datetime]
    bundle_name: Mapped[str]
    bundle_version: Mapped[str]
    bundle_sha256: Mapped[str]
    abnormal_probability: Mapped[float]
    locations: Mapped[dict[str, Any]]
    #: One bit per pixel, zlib.
    masks: Mapped[bytes]
    masks_shape: Mapped[list[int]]
    #: One byte per cell, zlib.
    saliency: Mapped[bytes]
    saliency_shape: Mapped[list[int]]
    saliency_frame: Mapped[list[float]]
    feature_distance: Mapped[float]


class FindingRow(Base):
    """One finding of a prediction."""

    __tablename__ = "finding"
    __table_args__ = (CheckConstraint("probability >= 0 AND probability <= 1", name="probability_range"),)

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    #: In the bundle's order, which is that of the saliency maps.
    position: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str]
    probability: Mapped[float]
    threshold: Mapped[float]
    #: Where it lies: names in model.findings.SITES and THIRDS; empty = not told.
    site: Mapped[str] = mapped_column(default="", server_default=text("''"))
    third: Mapped[str] = mapped_column(default="", server_default=text("''"))
    #: Its outline's pixels, as many as a mask's: one bit each, zlib.
    region: Mapped[bytes | None]


class MeasurementRow(Base):
    """One measurement of a prediction."""

    __tablename__ = "measurement"

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[float]
    unit: Mapped[str]
    qualifier: Mapped[str]


class RemarkRow(Base):
    """One remark on a prediction."""

    __tablename__ = "remark"

    instance_id: Mapped[int] = mapped_column(ForeignKey("prediction.instance_id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    word: Mapped[str]
    sentence: Mapped[str]


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
