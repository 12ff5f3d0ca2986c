"""What flows between the rooms and survives a power cut: frozen rows, free of SQLAlchemy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cxr_triage.model.prediction import Prediction
from cxr_triage.model.priority import Level, Priority

#: Which of the two folders.
Place = Literal["inbox", "outbox"]


class InstanceState(StrEnum):
    """received -> indexed -> scored | unsuitable | failed."""

    RECEIVED = "received"
    INDEXED = "indexed"
    SCORED = "scored"
    UNSUITABLE = "unsuitable"
    FAILED = "failed"


class RevisionState(StrEnum):
    """open -> reported -> superseded | withdrawn."""

    OPEN = "open"
    REPORTED = "reported"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


class DeliveryState(StrEnum):
    """pending -> stored -> committed | not taken | dead | withdrawn."""

    PENDING = "pending"
    STORED = "stored"
    COMMITTED = "committed"
    #: The destination does not support the object's SOP Class, or no transfer syntax that we can send it in.
    NOT_TAKEN = "not_taken"
    DEAD = "dead"
    #: Not sent, since what the object says was withdrawn before.
    WITHDRAWN = "withdrawn"


class Instead(StrEnum):
    """What a destination gets instead of an object that it does not take."""

    #: To be decided by the report role.
    DUE = "due"
    #: A stand-in, made for such destinations.
    STAND_IN = "stand_in"
    #: Another object that its profile has anyhow.
    PROFILE = "profile"
    NOTHING = "nothing"


class Reason(StrEnum):
    """Why an object is not to be used any more."""

    #: Another one of the same image, or of the same study, took its place.
    SUPERSEDED = "superseded"
    #: Withdrawn, since it is of no use.
    QUALITY = "quality"
    #: Withdrawn, since it may do harm, as a result about another patient would.
    PATIENT_SAFETY = "patient-safety"
    #: Withdrawn, since its images were made under the wrong worklist entry.
    WORKLIST_ENTRY = "worklist-entry"


class Receipt(StrEnum):
    """What the ledger made of an incoming instance."""

    NEW = "new"
    #: The same SOP Instance UID with the same bytes: nothing happens twice.
    SAME_BYTES = "same_bytes"
    #: The same SOP Instance UID with other bytes: kept beside the first, flagged, scored as a revision.
    OTHER_BYTES = "other_bytes"


class ObjectKind(StrEnum):
    """What a result object is, in the order in which they are made and delivered: each cites those before it."""

    #: Segmentation: one per image.
    SEG = "SEG"
    #: Grayscale Softcopy Presentation State: one per image.
    PR = "PR"
    #: Secondary Capture: one per image.
    SC = "SC"
    #: Structured report: one per revision.
    SR = "SR"
    #: Key Object Selection: one per revision that has something to point at.
    KO = "KO"
    #: Rejection note: a Key Object Selection of objects that are not to be used any more.
    NOTE = "NOTE"

    @property
    def per_image(self) -> bool:
        """Whether it is about one image, and so serves later revisions too."""
        return self in PER_IMAGE

    @property
    def before(self) -> tuple["ObjectKind", ...]:
        """The kinds that it may cite: a receiver has them first."""
        kinds = tuple(ObjectKind)
        return kinds[: kinds.index(self)] if self not in PER_IMAGE else ()


PER_IMAGE: Final = frozenset({ObjectKind.SEG, ObjectKind.PR, ObjectKind.SC})
#: Kinds of which an earlier one has to be rejected: an SR names its predecessors itself (PS3.3 C.17.2), these cannot.
WITHOUT_PREDECESSORS: Final = PER_IMAGE | {ObjectKind.KO}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFile:
    """A file that is durably in one of the two folders."""

    #: Relative to the folder.
    path: Path
    #: SHA-256 of what came after the file meta information, lower-case hex.
    sha256: str
    #: Of the whole file.
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedInstance:
    """A SOP Instance that is durably on disk."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    #: AE title of the sender, and the one that it called.
    calling_ae_title: str
    called_ae_title: str
    #: Relative to the inbox.
    path: Path
    #: SHA-256 of the data set as it came, without the file meta information: lower-case hex.
    sha256: str
    size_bytes: int
    #: UTC.
    received_at: datetime

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {
            "sop_instance_uid": self.sop_instance_uid,
            "sop_class_uid": self.sop_class_uid,
            "transfer_syntax_uid": self.transfer_syntax_uid,
            "calling_ae_title": self.calling_ae_title,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True)
class KnownContent:
    """What the ledger has of a content that was received before."""

    #: Relative to the inbox; None: its file was removed after its time, and nothing needs it any more.
    path: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceHeader:
    """What indexing reads from the header; the strings are patient data and stay in the database."""

    study_instance_uid: str
    series_instance_uid: str
    modality: str
    view: str
    patient_name: str
    patient_id: str
    issuer_of_patient_id: str
    #: DICOM DA, as it came; empty = unknown. The same holds for all strings here.
    patient_birth_date: str
    patient_sex: str
    accession_number: str
    #: As `order_records.issuer` writes it.
    issuer_of_accession_number: str
    study_id: str
    study_date: str
    study_time: str
    study_description: str
    referring_physician_name: str
    #: SpecificCharacterSet values joined by a backslash; the strings above are already decoded.
    specific_character_set: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One attempt at one instance. Every transition names it; a later attempt makes it stale."""

    instance_id: int
    attempt: int
    sop_instance_uid: str
    #: None until indexed.
    study_instance_uid: str | None
    #: Relative to the inbox.
    path: Path
    #: Attempts of this step that ended in a recorded failure.
    failures: int = 0
    #: Attempts of this step that ended without a word: a dead process left them, or their lease ran out.
    lost: int = 0

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {"sop_instance_uid": self.sop_instance_uid, "attempt": self.attempt}


class ObjectReference(NamedTuple):
    """All that one DICOM object needs to say in order to name another."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """One study's result as of a set of images."""

    id: int
    study_instance_uid: str
    #: 1, 2, ... within the study.
    number: int
    #: SHA-256 of (study, sorted (SOP Instance UID, content digest), bundle, policy digest): derived UIDs start here.
    digest: str
    created_at: datetime
    #: SRs of the revision that this one supersedes and that were sent to any destination, by profile: one, or also the
    #: stand-ins of those that do not take it. Empty for the first.
    predecessors: Mapping[str, Sequence[ObjectReference]]
    #: Why the study stood where it did when the revision was opened (Priority.reason); empty if that is not kept.
    priority_reason: str = ""
    #: Why it says nothing but that its predecessor is withdrawn; None: it is a result.
    withdrawal: Reason | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredPrediction:
    """A committed prediction with the image that it is about: the first one committed wins, later steps read this."""

    instance_id: int
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    sha256: str
    #: Relative to the inbox.
    path: Path
    #: When the image was acknowledged, UTC: what is made of it is dated by that.
    received_at: datetime
    scored_at: datetime
    prediction: Prediction
    #: Which result of this SOP Instance UID it is: 1, or more where objects were made of other bytes of it before, or
    #: of itself and withdrawn.
    version: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultObject:
    """A finished DICOM object in the outbox."""

    kind: ObjectKind
    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    #: The image that an object of a kind per image is about; empty for the others.
    source_sop_instance_uid: str
    #: Emission profile that it was made for.
    profile: str
    #: Relative to the outbox.
    path: Path
    sha256: str
    #: Whether it is for destinations alone that do not take another object of the profile; no other object cites it.
    stand_in: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Untaken:
    """An object that a destination does not take, while it is to be decided what that gets instead."""

    delivery_id: int
    destination: str
    object: ResultObject


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Objects that a destination has and that are not to be used any more, and the revision that stands instead."""

    destination: str
    reason: Reason
    revision: Revision
    #: At least one, oldest first.
    objects: Sequence[ResultObject]
    #: Of these objects to this destination.
    delivery_ids: Sequence[int]
    #: Images that the revision is about, in the order in which they were received.
    predictions: Sequence[StoredPrediction]
    #: Of the first of them.
    header: InstanceHeader


@dataclass(frozen=True, kw_only=True, slots=True)
class NotTaken:
    """Objects of one SOP Class that a destination did not take, and what it got instead."""

    sop_class_uid: str
    instead: Instead
    #: SOP Class of the stand-in; empty where there is none.
    instead_class_uid: str
    count: int
    #: Of one of them: a sentence for a person.
    reason: str
    #: When the last one was not taken, UTC.
    last_at: datetime
    #: Whether the destination has taken objects of this class since.
    taken_since: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """One object for one destination, claimed for one attempt."""

    id: int
    destination: str
    attempt: int
    object: ResultObject
    #: When it became pending, UTC: when it was made, or replayed.
    pending_since: datetime
    #: Attempts since then that ended in a recorded failure, and how many of them were refusals by the destination.
    failures: int = 0
    refusals: int = 0

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {
            "destination": self.destination,
            "kind": self.object.kind.value,
            "sop_instance_uid": self.object.sop_instance_uid,
            "attempt": self.attempt,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Circuit:
    """Whether a destination is sent to (closed), or left alone for a while (open)."""

    #: In a row, of the destination as a whole.
    failures: int = 0
    #: When it is probed, UTC; None = closed.
    open_until: datetime | None = None
    #: Of the last failure: one sentence for a person; empty = closed.
    reason: str = ""
    #: When it was opened or closed, UTC; None = it has never been open.
    changed_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not closed."""
        return self.open_until is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedStudy:
    """One study on the reading list, before it is ranked."""

    study_instance_uid: str
    ordered: Level
    #: When its first image was acknowledged, UTC.
    arrived_at: datetime
    #: What the policy made of the findings so far.
    priority: Priority
    #: The same policy, without findings.
    priority_without_findings: Priority
    #: When a reader opened it, UTC; None: it waits.
    claimed_at: datetime | None = None
    #: Who reads it; empty: nobody.
    claimed_by: str = ""
    #: Images by state.
    images: dict[InstanceState, int]
    #: What was not done for it, or taken back, and why: one sentence each, without patient data.
    remarks: tuple[str, ...] = ()
    header: InstanceHeader


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """An image that has no result, and why."""

    sop_instance_uid: str
    #: None when it could not be indexed.
    study_instance_uid: str | None
    #: UNSUITABLE or FAILED.
    state: InstanceState
    #: A refusal's reason or an error's class: a stable word.
    reason: str
    #: One sentence for a person, without patient data.
    explanation: str
    #: Relative to the inbox.
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """One change of order or state. No patient data."""

    #: UTC.
    at: datetime
    #: A person, a process, or the part of the ledger that followed its own rule.
    actor: str
    #: A stable word.
    event: str
    #: The image or object that it happened to; None: the study.
    sop_instance_uid: str | None
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnedFile:
    """A file that a row owns: when it goes, the row says so."""

    place: Place
    #: Of the row in that place's table.
    id: int
    #: Relative to the place.
    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How much is where, as one snapshot."""

    #: Every state is named, also when none is in it. The same holds for all tables here.
    instances: dict[InstanceState, int]
    revisions: dict[RevisionState, int]
    #: Per destination that has ever had a delivery.
    deliveries: dict[str, dict[DeliveryState, int]]
    #: Of the pending ones, those that wait for one that they cite and that is dead, per destination that has any.
    held_back: dict[str, int]
    #: Per destination that has not taken any.
    not_taken: dict[str, list[NotTaken]]
    #: Per destination that has any: objects of studies that nobody has read yet which it did not take, and nothing that
    #: says the same.
    untold: dict[str, int]
    #: Per destination that has ever failed.
    circuits: dict[str, Circuit]
    #: Studies on the reading list.
    listed_studies: int
    #: Images that came with a known SOP Instance UID and other bytes.
    other_bytes: int
    #: Failed images of studies that nobody has read yet, or of no study.
    failed_unread: int
    #: When the oldest image was received that is neither scored nor set aside, UTC; None = none waits.
    oldest_unscored_at: datetime | None
    #: When the oldest delivery was made that is still pending, UTC; None = none waits.
    oldest_undelivered_at: datetime | None
