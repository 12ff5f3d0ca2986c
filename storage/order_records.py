"""Orders and ends of orders as their senders say them, and the pure rules of which of them counts for a study."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from cxr_triage.model.errors import OrderRefusedError
from cxr_triage.model.priority import Level


class OrderSource(StrEnum):
    """By which way an order came."""

    #: Somebody at this service, by a command or a page.
    PERSON = "person"
    #: The RIS answered our query of its modality worklist.
    MWL = "mwl"
    HL7 = "hl7"
    FHIR = "fhir"
    #: Another system created or changed a Unified Procedure Step.
    UPS = "ups"


class EndReason(StrEnum):
    """Why a study need not be read any more."""

    FINAL_REPORT = "final_report"
    COMPLETED = "order_completed"
    CANCELLED = "order_cancelled"


class Verdict(StrEnum):
    """What became of an order that is about a study."""

    #: It counts.
    AGREES = "agrees"
    #: Only its accession number is the study's, and one of the two names no patient: it does not count.
    UNCONFIRMED = "unconfirmed"
    #: It names another patient than the study's images: it does not count.
    OTHER_PATIENT = "other_patient"


class InquiryState(StrEnum):
    """Whether the RIS is asked for the order of a study."""

    OPEN = "open"
    ANSWERED = "answered"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Which study, of whom: as an order names it, or as an image does. Empty = not said. Patient data."""

    study_instance_uid: str = ""
    accession_number: str = ""
    #: Local namespace, universal ID and its type, joined by "&" as in HL7 v2 (HD); see `issuer`.
    issuer_of_accession_number: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    #: DICOM DA.
    patient_birth_date: str = ""

    def trimmed(self) -> "Identity":
        """Give the same without spaces around, which mean nothing (PS3.5 6.2)."""
        return replace(self, **{each.name: getattr(self, each.name).strip() for each in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What all messages about an order have.

    Raises:
        OrderRefusedError: it names no study.
    """

    source: OrderSource
    #: Who says so: an AE title, a sending application, a person.
    sender: str
    #: Of the message, by its sender: the same again is the same message. Without patient data.
    message_id: str
    #: When it was said, UTC.
    at: datetime
    about: Identity

    def __post_init__(self) -> None:
        """Trim what names the study, and insist that something does."""
        object.__setattr__(self, "about", self.about.trimmed())
        if not (self.about.study_instance_uid or self.about.accession_number):
            raise OrderRefusedError(
                f"{self.sender}: an order names neither Study Instance UID nor accession number: it is of no study"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Order(Message):
    """How urgently a study was ordered."""

    level: Level


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending(Message):
    """A study need not be read any more."""

    reason: EndReason


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What became of a message."""

    #: False: it had come before, and nothing changed.
    is_new: bool
    #: By Study Instance UID, of the studies that it is about; empty: it waits for their images.
    verdicts: Mapping[str, Verdict]


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An order that agrees with a study."""

    source: OrderSource
    sender: str
    message_id: str
    at: datetime
    level: Level
    #: It names this study, or none: of two studies of one accession number, each has its own order.
    names_this: bool
    #: Counts up as orders are recorded.
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Inquiry:
    """One attempt to ask the RIS for the order of a study."""

    id: int
    attempt: int
    #: Attempts before this one.
    failures: int
    #: When the study was first to be asked for, UTC.
    since: datetime
    #: Whether it is asked whether the order is still the same.
    is_answered: bool
    #: As the study's images have it.
    about: Identity

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {"study_instance_uid": self.about.study_instance_uid, "attempt": self.attempt}


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderCounts:
    """How orders stand, as one snapshot."""

    #: Listed studies for which the RIS is asked.
    waiting: int
    #: Listed studies for which it was asked for long enough.
    given_up: int
    #: Orders and ends whose images have not come.
    unmatched: int
    #: Orders that do not count for a listed study, since their patient is another one or not known.
    not_counted: int
    #: Why the last attempt to ask came to nothing; empty: it did not, or nobody waits.
    last_error: str


#: The best of all images decides, so that a later image never takes away what an earlier one confirmed.
_BEST_FIRST: Final = (Verdict.AGREES, Verdict.UNCONFIRMED, Verdict.OTHER_PATIENT)


def issuer(local: str, universal: str = "", kind: str = "") -> str:
    """Write an issuer as HL7 v2 does (HD; PS3.3 Table 10-17): "RIS", "RIS&1.2.3&ISO"."""
    return f"{local.strip()}&{universal.strip()}&{kind.strip()}".rstrip("&")


def verdict(named: Identity, study_instance_uid: str, images: Iterable[Identity]) -> Verdict | None:
    """Say what an order is to a study.

    Args:
        named: what the order names.
        study_instance_uid: of the study.
        images: what the study's images name; none: they have not come, and nothing contradicts the order.

    Returns:
        None: it is not about this study.
    """
    known = list(images)
    if not known:
        return Verdict.AGREES if named.study_instance_uid == study_instance_uid else None
    found = {_verdict(named, image) for image in known}
    return next((each for each in _BEST_FIRST if each in found), None)


def counting(candidates: Iterable[Candidate]) -> Candidate | None:
    """Pick the order that counts: a person's before a RIS's, then the newest.

    Of two of a RIS at the same instant, the more urgent: they may come in any order, and come to the same.
    """
    return max(candidates, key=_weight, default=None)


def _weight(order: Candidate) -> tuple[bool, bool, datetime, int, str, str, str]:
    by_person = order.source is OrderSource.PERSON
    later = order.number if by_person else -order.level
    return (by_person, order.names_this, order.at, later, order.source, order.sender, order.message_id)


def _verdict(named: Identity, image: Identity) -> Verdict | None:
    by_uid = named.study_instance_uid == image.study_instance_uid
    if not (by_uid or _same_accession(named, image)):
        return None
    if _other_patient(named, image):
        return Verdict.OTHER_PATIENT
    if not by_uid and not (named.patient_id and image.patient_id):
        return Verdict.UNCONFIRMED
    return Verdict.AGREES


def _same_accession(named: Identity, image: Identity) -> bool:
    if not named.accession_number or named.accession_number != image.accession_number:
        return False
    return not _other_issuer(named.issuer_of_accession_number, image.issuer_of_accession_number)


def _other_issuer(one: str, other: str) -> bool:
    """Whether two issuers differ in what both say: the universal ID, else the local name."""
    local, universal, _ = f"{one}&&".split("&")[:3]
    other_local, other_universal, _ = f"{other}&&".split("&")[:3]
    if universal and other_universal:
        return universal != other_universal
    return _differ(local, other_local)


def _other_patient(named: Identity, image: Identity) -> bool:
    return (
        _differ(named.patient_id, image.patient_id)
        or _other_issuer(named.issuer_of_patient_id, image.issuer_of_patient_id)
        or _differ(named.patient_birth_date, image.patient_birth_date)
    )


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other
