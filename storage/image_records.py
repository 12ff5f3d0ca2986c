"""Images and what the ledger knows of them: as they are received, indexed, claimed and scored."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from cxr_triage.model.prediction import Prediction


class InstanceState(StrEnum):
    """received -> indexed -> scored | unsuitable | failed."""

    RECEIVED = "received"
    INDEXED = "indexed"
    SCORED = "scored"
    UNSUITABLE = "unsuitable"
    FAILED = "failed"


class Receipt(StrEnum):
    """What the ledger made of an incoming instance."""

    NEW = "new"
    #: The same SOP Instance UID with the same bytes: nothing happens twice.
    SAME_BYTES = "same_bytes"
    #: The same SOP Instance UID with other bytes: kept beside the first, flagged, scored as a revision.
    OTHER_BYTES = "other_bytes"


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
