"""Deliveries of objects to destinations: how they stand, what is not taken, and destinations that are left alone."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cxr_triage.storage.result_records import ResultObject


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Untaken:
    """An object that a destination does not take, while it is to be decided what that gets instead."""

    delivery_id: int
    destination: str
    object: ResultObject


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
