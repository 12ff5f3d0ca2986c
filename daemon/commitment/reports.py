"""What a PACS reports of our requests, taken in the same way on whichever association it comes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.events import Event

from cxr_triage.daemon.backoff import doubled
from cxr_triage.daemon.commitment.messages import (
    ALL_COMMITTED,
    FAILURES_EXIST,
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_INSTANCE,
    REPORT_ANSWERS,
    RESOURCE_LIMITATION,
    SOP_INSTANCE,
    SUCCESS,
    UnusableMessageError,
    read_report,
)
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.setting_peers import DeliverSettings
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import CommitmentReport, Reception
from cxr_triage.storage.ledger import Commitments

log = get_logger(__name__)

#: What the PACS is answered. What we did not ask for is an invalid argument value (PS3.7 10.1.1.1.8).
_ANSWERS: Final = {
    Reception.RECORDED: SUCCESS,
    Reception.REPEATED: SUCCESS,
    Reception.UNKNOWN: INVALID_ARGUMENT_VALUE,
    Reception.NOT_ASKED: INVALID_ARGUMENT_VALUE,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Persistence:
    """How long to wait, and how often to try, where a destination does not commit."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=10)
    maximum_failures: int = 5

    @classmethod
    def of(cls, deliver: DeliverSettings) -> "Persistence":
        """Take it from the settings."""
        return cls(
            first=timedelta(seconds=deliver.retry_first_seconds),
            longest=timedelta(seconds=deliver.retry_longest_seconds),
            maximum_failures=deliver.commitment_maximum_failures,
        )

    def pause(self, failures: int) -> timedelta:
        """The wait after so many failures in a row, at least one."""
        return timedelta(seconds=doubled(self.first.total_seconds(), self.longest.total_seconds(), failures=failures))


class ReportTaker:
    """Takes reports into the ledger; several associations call it at the same time."""

    def __init__(
        self,
        commitments: Commitments,
        *,
        persistence: Persistence,
        on_taken: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        self._commitments = commitments
        self._persistence = persistence
        self._on_taken = on_taken
        self._clock = clock

    def take(self, event: Event, destinations: Collection[str]) -> int:
        """Take what an N-EVENT-REPORT says, from a peer that speaks for these destinations; gives the status."""
        request = event.request
        assert isinstance(request, N_EVENT_REPORT)
        if request.AffectedSOPInstanceUID != SOP_INSTANCE:
            return _refused("of another SOP instance", NO_SUCH_SOP_INSTANCE)
        if event.event_type not in {ALL_COMMITTED, FAILURES_EXIST}:
            return _refused("of an unknown event type", NO_SUCH_EVENT_TYPE)
        try:
            report = read_report(event.event_information)
            reception = self._record(report, destinations)
        except UnusableMessageError as error:
            return _refused(str(error), error.status)
        except StorageError as error:
            log.exception("storage commitment report not recorded", exc_info=error)
            return RESOURCE_LIMITATION
        except Exception:  # noqa: BLE001 - pydicom raises whatever it meets in hostile bytes
            return _refused("it cannot be read", INVALID_ARGUMENT_VALUE)
        if reception in {Reception.UNKNOWN, Reception.NOT_ASKED}:
            log.warning("storage commitment report of what was not asked", state=reception, **report.log_context())
        else:
            log.info("storage commitment reported", state=reception, **report.log_context())
            self._on_taken()
        return _ANSWERS[reception]

    def _record(self, report: CommitmentReport, destinations: Collection[str]) -> Reception:
        return self._commitments.record_report(
            report, destinations=destinations, resend_at=self._resend_at, ask_again_at=self._ask_again_at
        )

    def _resend_at(self, failures: int) -> datetime | None:
        if failures >= self._persistence.maximum_failures:
            return None
        return self._ask_again_at(failures)

    def _ask_again_at(self, failures: int) -> datetime:
        return self._clock() + self._persistence.pause(failures)


def _refused(reason: str, status: int) -> int:
    assert status in REPORT_ANSWERS
    log.warning("storage commitment report refused", reason=reason, status=f"0x{status:04X}")
    return status
