"""What upkeep, status and people are told of the ledger: counts, files, what was set aside, and the trail."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from cxr_triage.storage.delivery_records import Circuit, DeliveryState, NotTaken
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.result_records import RevisionState

#: Which of the two folders.
Place = Literal["inbox", "outbox"]


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
