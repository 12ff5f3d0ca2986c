"""Results: revisions of a study, the objects that they consist of, and what is said of those that do not count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from cxr_triage.storage.image_records import InstanceHeader, StoredPrediction


class RevisionState(StrEnum):
    """open -> reported -> superseded | withdrawn."""

    OPEN = "open"
    REPORTED = "reported"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"


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
