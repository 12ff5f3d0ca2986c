"""Storage commitment (PS3.4 Annex J) between the rooms: what we ask a PACS, and what a modality asks us."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

#: Failure Reason (0008,1197), PS3.3 C.14.1.1.
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_OBJECT_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
DUPLICATE_TRANSACTION_UID: Final = 0x0131
_IN_WORDS: Final = {
    PROCESSING_FAILURE: "processing failure",
    NO_SUCH_OBJECT_INSTANCE: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "referenced SOP class not supported",
    CLASS_INSTANCE_CONFLICT: "class and instance conflict",
    DUPLICATE_TRANSACTION_UID: "duplicate transaction UID",
}


def in_words(reason: int) -> str:
    """Say what a Failure Reason means."""
    return f"{_IN_WORDS.get(reason, 'failure reason')} ({reason:04X}H)"


class CommitmentState(StrEnum):
    """One request of ours: planned -> requested | refused | unanswered, and from any of them -> answered."""

    #: Written down, and about to be sent: what became of it is not known yet.
    PLANNED = "planned"
    #: The PACS took it; its report is still to come.
    REQUESTED = "requested"
    #: Its report has come, for every object that was asked for.
    ANSWERED = "answered"
    #: The PACS does not offer storage commitment, or answered the request with a failure.
    REFUSED = "refused"
    #: No answer came in time. The objects are asked for again in another request; a late report still counts.
    UNANSWERED = "unanswered"


class ModalityRequestState(StrEnum):
    """One request of a modality: waiting -> answered -> reported | abandoned."""

    #: The PACS has not committed to all of its images yet.
    WAITING = "waiting"
    #: The result stands, and is to be reported.
    ANSWERED = "answered"
    #: The modality has taken the report.
    REPORTED = "reported"
    #: The modality did not take the report for so long that it was given up.
    ABANDONED = "abandoned"


class Subject(StrEnum):
    """What a destination is asked to commit to."""

    #: Our SR and SEG, delivered there.
    RESULTS = "results"
    #: Images that modalities ask us about, which got there by another way.
    IMAGES = "images"


class Outcome(StrEnum):
    """What became of one object in a request."""

    COMMITTED = "committed"
    FAILED = "failed"


class Reference(NamedTuple):
    """One SOP instance that a commitment is about (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


class Failure(NamedTuple):
    """One SOP instance that is not committed to."""

    reference: Reference
    #: Failure Reason (0008,1197).
    reason: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentRequest:
    """One request of ours, recorded before it is sent."""

    id: int
    transaction_uid: str
    destination: str
    references: tuple[Reference, ...]

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {
            "destination": self.destination,
            "transaction_uid": self.transaction_uid,
            "count": len(self.references),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentReport:
    """What an N-EVENT-REPORT says of a transaction, in either direction."""

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: tuple[Failure, ...]

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {
            "transaction_uid": self.transaction_uid,
            "committed": len(self.committed),
            "failed": len(self.failed),
        }


class Reception(StrEnum):
    """What the ledger made of a report."""

    RECORDED = "recorded"
    #: It says nothing that is not known already.
    REPEATED = "repeated"
    #: We never asked this peer under that transaction UID.
    UNKNOWN = "unknown"
    #: It speaks of an object that the transaction is not about, or says two things of one.
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, kw_only=True, slots=True)
class ModalityRequest:
    """What a modality asks in one N-ACTION."""

    transaction_uid: str
    calling_ae_title: str
    references: Sequence[Reference]
    #: UTC.
    received_at: datetime

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {
            "calling_ae_title": self.calling_ae_title,
            "transaction_uid": self.transaction_uid,
            "count": len(self.references),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ModalityReport:
    """The result that a modality is to be told, claimed for one attempt."""

    id: int
    attempt: int
    calling_ae_title: str
    report: CommitmentReport
    #: When the result stood, UTC.
    answered_at: datetime
    #: Attempts to report it that failed.
    failures: int

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {"calling_ae_title": self.calling_ae_title, "attempt": self.attempt, **self.report.log_context()}


@dataclass(frozen=True, kw_only=True, slots=True)
class CommitmentCounts:
    """How storage commitment stands, as one snapshot."""

    #: Requests of ours by destination; every state is named.
    requests: dict[str, dict[CommitmentState, int]]
    #: Why the last request to a destination was refused or got no answer; destinations whose last one did are left out.
    troubles: dict[str, str]
    #: Requests of modalities; every state is named.
    modality_requests: dict[ModalityRequestState, int]
