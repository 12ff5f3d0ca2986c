"""APScheduler counts by the machine's clock; this lets its jobs keep their rhythm when that clock is set by years."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger

#: How soon a clock that was set back is noticed.
WATCH_SECONDS: Final = 1.0


class Every(BaseTrigger):  # type: ignore[misc]
    """Again so long after each run. APScheduler's own interval would count every run missed by a clock set forward."""

    def __init__(self, interval: timedelta) -> None:
        self.interval = interval

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Count from the present, whenever the last run was due."""
        del previous_fire_time
        return now + self.interval

    def __str__(self) -> str:
        return f"every {self.interval}"


def add_job(scheduler: BaseScheduler, job: Callable[[], None], every: timedelta, *, first: datetime) -> None:
    """Run a job again and again.

    Args:
        scheduler: whose clock is the machine's.
        job: one run at a time, however late it is.
        every: from one run to the next.
        first: by the machine's clock.
    """
    scheduler.add_job(job, Every(every), next_run_time=first, coalesce=True, max_instances=1, misfire_grace_time=None)


def keep_rhythm(scheduler: BaseScheduler, stop: threading.Event) -> None:
    """Wait until `stop`, and run now whatever lies further ahead than its interval: the clock was set back."""
    while not stop.wait(WATCH_SECONDS):
        now = datetime.now(UTC)
        for job in scheduler.get_jobs():
            if is_out_of_reach(job, now):
                job.modify(next_run_time=now)


def is_out_of_reach(job: Any, now: datetime) -> bool:
    """Whether a job of ours would not run within its interval."""
    return isinstance(job.trigger, Every) and job.next_run_time - now > job.trigger.interval
