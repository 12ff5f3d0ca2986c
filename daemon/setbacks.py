"""Studies that something could not be done for: when each is tried again."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from cxr_triage.daemon.backoff import LONGEST_FOR_MACHINE_SECONDS, doubled
from cxr_triage.daemon.logs import describe_with_frames, get_logger
from cxr_triage.model.errors import StorageError, TriageError, is_machine_fault
from cxr_triage.storage.clock import Clock

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """When a study that could not be reported is tried again: the wait doubles, and there is no last attempt."""

    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=10)
    #: A full disk or a database that is down passes for all studies at once, and then none should have to wait long.
    longest_for_machine: timedelta = timedelta(seconds=LONGEST_FOR_MACHINE_SECONDS)

    def wait(self, failures: int) -> timedelta:
        """How long to wait after that many failures, the first being 1."""
        return timedelta(seconds=doubled(self.first.total_seconds(), self.longest.total_seconds(), failures=failures))


@dataclass(frozen=True, slots=True)
class _Failure:
    count: int
    retry_at: datetime


class Setbacks:
    """Which studies wait for another attempt."""

    def __init__(self, backoff: Backoff, clock: Clock) -> None:
        self._backoff = backoff
        self._clock = clock
        self._failures: dict[str, _Failure] = {}

    def __len__(self) -> int:
        """How many studies wait, or are due again."""
        return len(self._failures)

    @property
    def counts(self) -> dict[str, int]:
        """Failures so far, by study."""
        return {study: failure.count for study, failure in self._failures.items()}

    @property
    def waiting(self) -> set[str]:
        """Studies that may not be tried yet."""
        return {study for study in self._failures if not self.is_due(study)}

    def keep(self, studies: Collection[str]) -> None:
        """Forget all but these."""
        self._failures = {study: failure for study, failure in self._failures.items() if study in studies}

    def forget(self, study: str) -> None:
        """Forget one: it was done."""
        self._failures.pop(study, None)

    def is_due(self, study: str) -> bool:
        """Whether it may be tried now."""
        failure = self._failures.get(study)
        return failure is None or failure.retry_at <= self._clock()

    def put_off(self, study: str, error: Exception, told: str) -> None:
        """Let a study wait, and log why under this event."""
        count = self._failures[study].count + 1 if study in self._failures else 1
        wait = self._backoff.wait(count)
        if isinstance(error, StorageError) or is_machine_fault(error):
            wait = min(wait, self._backoff.longest_for_machine)
        self._failures[study] = _Failure(count, self._clock() + wait)
        log.error(
            told,
            study_instance_uid=study,
            error_class=type(error).__name__,
            explanation=str(error) if isinstance(error, TriageError) else "",
            exception=describe_with_frames(error),
            failures=count,
            retry_in_seconds=wait.total_seconds(),
        )
