"""Unified procedure steps (PS3.4 Annex CC) between the rooms: their states, what is kept of one, and what is told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid5

from cxr_triage.model.priority import Level
from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.order_records import Identity

#: A data set as JSON (PS3.18 Annex F).
Json = dict[str, Any]

#: PS3.4 Table CC.3.4-1: what N-EVENT-REPORT is about.
EVENT_SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.4"
#: PS3.6 Table A-1: stands for every step, those that are still to come included.
GLOBAL_SUBSCRIPTION: Final = "1.2.840.10008.5.1.4.34.5"
#: The same for the steps that match a filter.
FILTERED_GLOBAL_SUBSCRIPTION: Final = "1.2.840.10008.5.1.4.34.5.1"
#: Who tells subscribers: the face of an announcement.
UPS_FACE: Final = "ups"
#: Namespace of the UIDs that we give reading steps.
_STEPS: Final = UUID("7b2f3f0c-52c4-4f0b-9d3c-3f5f1a7c8e21")


class StepState(StrEnum):
    """Procedure Step State (0074,1000), PS3.3 C.30.1."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        """Whether the step stays as it is."""
        return self in {StepState.COMPLETED, StepState.CANCELED}


class StepEvent(IntEnum):
    """Event Type ID of PS3.4 Table CC.2.4-1."""

    STATE_REPORT = 1
    CANCEL_REQUESTED = 2
    PROGRESS_REPORT = 3
    SCP_STATUS_CHANGE = 4
    ASSIGNED = 5


class AnnouncementState(StrEnum):
    """One message for one receiver: pending -> acknowledged | dead."""

    PENDING = "pending"
    #: The receiver has taken it.
    ACKNOWLEDGED = "acknowledged"
    #: The receiver refused it, or did not take it for so long that it was given up.
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A procedure step as it is kept."""

    sop_instance_uid: str
    #: The study that it is the reading of; None: it is about something else.
    study_instance_uid: str | None
    state: StepState
    #: Who may change it; None: nobody has claimed it.
    transaction_uid: str | None
    #: AE title of the performer; None: nobody, or a reader who came by another way.
    performer: str | None
    #: Whether we made it ourselves: what it says comes from the study, but for what was set since.
    own: bool
    #: What was given at N-CREATE and set since.
    attributes: Json
    #: UTC.
    created_at: datetime
    changed_at: datetime


class StepKey(NamedTuple):
    """What a procedure step is found by, of which there may be a hundred thousand."""

    id: int
    sop_instance_uid: str
    study_instance_uid: str | None
    state: StepState


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One event of a step: its type, and Event Information."""

    event: StepEvent
    information: Json


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """What the rules make of a request: a status, and what changes."""

    #: DIMSE status.
    status: int
    comment: str = ""
    #: Each None: it stays as it is.
    state: StepState | None = None
    transaction_uid: str | None = None
    performer: str | None = None
    attributes: Json | None = None
    #: Events besides that of the new state.
    told: tuple[Told, ...] = ()
    #: What the step's study is ordered as from now on; None: as before.
    ordered: Level | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepInput:
    """One image that a reading step is about."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStudy:
    """The study of a reading step, listed or not."""

    study_instance_uid: str
    effective: Level
    #: UTC; None: no image of it is here.
    arrived_at: datetime | None
    #: Of its first image; None: no image of it is here.
    header: InstanceHeader | None
    #: Its images, in the order in which they were received.
    inputs: tuple[StepInput, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Announcement:
    """One message for one receiver, claimed for one attempt."""

    id: int
    attempt: int
    face: str
    receiver: str
    #: The same at each attempt, and no other message's.
    message_id: str
    #: The same at each attempt.
    payload: bytes
    created_at: datetime
    #: Attempts that failed.
    failures: int

    def log_context(self) -> dict[str, str | int]:
        """What a log line may say of it: no patient data."""
        return {"receiver": self.receiver, "message_id": self.message_id, "attempt": self.attempt}


@dataclass(frozen=True, kw_only=True, slots=True)
class Announced:
    """What became of one message."""

    receiver: str
    #: The procedure step that it tells of.
    sop_instance_uid: str
    message_id: str
    state: AnnouncementState
    #: When it was written down, and when it came to its present state, UTC.
    created_at: datetime
    changed_at: datetime
    #: Attempts that failed, and why the last one did: one sentence for a person.
    failures: int
    last_error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnouncementCounts:
    """How the messages of one receiver stand."""

    receiver: str
    states: Mapping[AnnouncementState, int]
    #: Why the last attempt at one that is not taken failed: one sentence for a person; empty: none failed.
    last_error: str


def step_uid(study_instance_uid: str, number: int) -> str:
    """Give the UID of our own step for reading a study for that time (PS3.5 B.2)."""
    return f"2.25.{uuid5(_STEPS, f'{study_instance_uid}/{number}').int}"


def element(vr: str, *values: object) -> Json:
    """Write an element (PS3.18 F.2.2)."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def value_of(attributes: Mapping[str, Any], tag: str) -> Any:
    """Give the first value of an element; None: it has none."""
    values = attributes.get(tag, {}).get("Value") or [None]
    return values[0]


def item_of(attributes: Mapping[str, Any], tag: str) -> Json:
    """Give the first item of a sequence; empty: it has none, or what it has is no item."""
    item = value_of(attributes, tag)
    return item if isinstance(item, dict) else {}


def named_study(attributes: Mapping[str, Any], study_instance_uid: str) -> Identity:
    """Give the study that a step is about, and the patient that it names."""
    return Identity(
        study_instance_uid=study_instance_uid,
        patient_id=value_of(attributes, "00100020") or "",
        issuer_of_patient_id=value_of(attributes, "00100021") or "",
        patient_birth_date=value_of(attributes, "00100030") or "",
    )


def code(value: str, scheme: str, meaning: str) -> Json:
    """Write a coded entry (PS3.3 Table 8.8-1)."""
    return {"00080100": element("SH", value), "00080102": element("SH", scheme), "00080104": element("LO", meaning)}


def date_time(instant: datetime) -> str:
    """Write an instant as DT with its offset (PS3.5 6.2)."""
    return instant.strftime("%Y%m%d%H%M%S.%f%z")


#: Procedure Step Progress Information Sequence, and what the tables below name of it.
PROGRESS: Final = "00741002"
PERFORMED: Final = "00741216"
READINESS: Final = "00404041"
STATE: Final = "00741000"
CANCELLED_AT: Final = "00404052"
CANCEL_REASON: Final = "00741238"
DISCONTINUATION: Final = "0074100E"
#: PS3.16 CID 9300: where whoever cancels gives no reason.
UNSPECIFIED_REASON: Final = code("110513", "DCM", "Discontinued for unspecified reason")
#: PS3.16 CID 9231: what a reading step is (IHE Reporting Workflow).
INTERPRETATION: Final = code("110005", "DCM", "Interpretation")


def cancelled(attributes: Json, now: datetime, reason: str = "") -> Json:
    """Say when, and why, a step was cancelled, where that is not said yet (PS3.4 Table CC.2.5-3, X)."""
    item = dict(item_of(attributes, PROGRESS))
    if value_of(item, CANCELLED_AT) is None:
        item[CANCELLED_AT] = element("DT", date_time(now))
    if reason and value_of(item, CANCEL_REASON) is None:
        item[CANCEL_REASON] = element("LT", reason)
    if value_of(item, DISCONTINUATION) is None:
        item[DISCONTINUATION] = element("SQ", UNSPECIFIED_REASON)
    return attributes | {PROGRESS: element("SQ", item)}


def state_report(attributes: Json, state: StepState) -> Told:
    """Tell of a new state, or a new readiness (PS3.4 Table CC.2.4-1)."""
    information = {
        READINESS: element("CS", value_of(attributes, READINESS) or "READY"),
        STATE: element("CS", state.value),
    }
    if state is StepState.CANCELED:
        progress = item_of(attributes, PROGRESS)
        information |= {tag: progress[tag] for tag in (CANCEL_REASON, DISCONTINUATION) if tag in progress}
    return Told(event=StepEvent.STATE_REPORT, information=information)


def restart_report() -> Told:
    """Tell that we have started again, with all steps and subscriptions that there were (PS3.4 CC.2.4.3)."""
    information = {
        "00741242": element("CS", "RESTARTED"),
        "00741244": element("CS", "WARM START"),
        "00741246": element("CS", "WARM START"),
    }
    return Told(event=StepEvent.SCP_STATUS_CHANGE, information=information)


def payload_of(told: Told, sop_instance_uid: str, message_id: UUID) -> bytes:
    """Write an event as it is sent: as the object of PS3.18 section 8.10.4.1, always in the same bytes."""
    message = {
        "00000002": element("UI", EVENT_SOP_CLASS),
        "00000110": element("US", message_id.int % 0xFFFF + 1),
        "00001000": element("UI", sop_instance_uid),
        "00001002": element("US", int(told.event)),
        **told.information,
    }
    return json.dumps(message, sort_keys=True, separators=(",", ":")).encode()
