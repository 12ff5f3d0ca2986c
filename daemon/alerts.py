"""What a person must look at, though every role lives; reasons against readiness are in daemon/web/health.py."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.service_clock import ReadableClock, Reading
from cxr_triage.storage.upkeep_records import Counts

log = get_logger(__name__)

#: Failures in a row before a destination that is left alone is a matter for a person.
FAILURES_TOLD: Final = 3


class AlertName(StrEnum):
    """Stable words, explained in docs/how-to/alerts.md."""

    CLOCK_JUMPED = "clock_jumped"
    IMAGES_FAILED = "images_failed"
    DELIVERIES_DEAD = "deliveries_dead"
    DESTINATION_UNREACHABLE = "destination_unreachable"
    RESULTS_NOT_TAKEN = "results_not_taken"
    DISK_LOW = "disk_low"


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """One thing to look at. Its name and its subject say which it is; the message may change while it lasts."""

    name: AlertName
    #: Of several of its name, which: a destination, a folder; else empty.
    subject: str = ""
    #: One sentence for a person: what is so, and what to do. No patient data.
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """Everything that alerts are decided from."""

    counts: Counts
    #: The service's clock beside the machine's.
    clock: Reading
    #: Folders with less free space than must stay free.
    full_folders: Sequence[Path] = ()


def alerts(situation: Situation) -> list[Alert]:
    """Say what a person must look at: a pure function, by one rule per name."""
    return [alert for rule in RULES for alert in rule(situation)]


def current_alerts(counts: Counts, clock: ReadableClock, settings: Settings) -> list[Alert]:
    """Look around, and say what a person must look at now."""
    mark = settings.low_water()
    # Before the first start there are none.
    there = replace(mark, folders=[folder for folder in mark.folders if folder.is_dir()])
    return alerts(Situation(counts=counts, clock=clock.reading(), full_folders=there.below()))


def _clock_jumped(situation: Situation) -> Iterator[Alert]:
    if situation.clock.jumped:
        yield Alert(
            name=AlertName.CLOCK_JUMPED,
            message=f"The machine's clock is {in_words(situation.clock.difference)} the service's time: correct it. "
            "If it is right, stop the service and run `cxr-triage clock accept`. Until then nothing ages and no file "
            "is removed.",
        )


def _images_failed(situation: Situation) -> Iterator[Alert]:
    failed = situation.counts.failed_unread
    if failed:
        yield Alert(
            name=AlertName.IMAGES_FAILED,
            message=f"{failed} images of studies that nobody has read yet could not be triaged: `cxr-triage worklist` "
            "says why, `cxr-triage replay` tries again.",
        )


def _deliveries_dead(situation: Situation) -> Iterator[Alert]:
    for destination, states in situation.counts.deliveries.items():
        dead = states[DeliveryState.DEAD]
        if dead:
            yield Alert(
                name=AlertName.DELIVERIES_DEAD,
                subject=destination,
                message=f"{dead} objects for {destination} were given up: see `cxr-triage status`, mend the cause, "
                f"then `cxr-triage replay --dead {destination}`.",
            )


def _destination_unreachable(situation: Situation) -> Iterator[Alert]:
    for destination, circuit in situation.counts.circuits.items():
        if circuit.is_open and circuit.failures >= FAILURES_TOLD:
            yield Alert(
                name=AlertName.DESTINATION_UNREACHABLE,
                subject=destination,
                message=f"{destination} has not been reached {circuit.failures} times in a row ({circuit.reason}): see "
                "to it. What waits for it goes on by itself.",
            )


def _results_not_taken(situation: Situation) -> Iterator[Alert]:
    for destination, studies in situation.counts.untold.items():
        yield Alert(
            name=AlertName.RESULTS_NOT_TAKEN,
            subject=destination,
            message=f"{destination} gets no report, or no outlines, of {studies} studies that nobody has read yet: it "
            "takes none of the forms of its profile. `cxr-triage status` names the SOP Classes: have it accept one, "
            f"then `cxr-triage replay --not-taken {destination}`.",
        )


def _disk_low(situation: Situation) -> Iterator[Alert]:
    for folder in situation.full_folders:
        yield Alert(
            name=AlertName.DISK_LOW,
            subject=str(folder),
            message=f"New images are refused: less than storage.minimum_free_megabytes is free at {folder}. Free some "
            "space.",
        )


#: One function per name.
RULES: Final[tuple[Callable[[Situation], Iterator[Alert]], ...]] = (
    _clock_jumped,
    _images_failed,
    _deliveries_dead,
    _destination_unreachable,
    _results_not_taken,
    _disk_low,
)


def in_words(difference: timedelta) -> str:
    """Say how far one clock is from another: "3 d 4 h ahead of", "20 min behind"."""
    minutes, seconds = divmod(round(abs(difference).total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    counts = ((days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    largest = [f"{count} {unit}" for count, unit in counts if count][:2]
    return f"{' '.join(largest) or '0 s'} {'ahead of' if difference >= timedelta(0) else 'behind'}"


class AlertLog:
    """Says once that an alert is there, and once that it has gone."""

    def __init__(self) -> None:
        self._raised: dict[tuple[AlertName, str], Alert] = {}

    def tell(self, current: Collection[Alert]) -> None:
        """Log what is different from the last time."""
        now = {(alert.name, alert.subject): alert for alert in current}
        for key, alert in now.items():
            if key not in self._raised:
                log.error("alert raised", alert=alert.name, subject=alert.subject, explanation=alert.message)
        for key, alert in self._raised.items():
            if key not in now:
                log.warning("alert cleared", alert=alert.name, subject=alert.subject)
        self._raised = now
