"""APScheduler under a clock that is set by years: its jobs keep their rhythm, for real."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler.schedulers.background import BackgroundScheduler

from cxr_triage.daemon.rhythm import Every, is_out_of_reach
from wall_clock import WallClock

YEAR = timedelta(days=365)
#: Two jobs, of which only one is due soon; each run is a line.
PROGRAM = """
    import os
    import threading
    from datetime import UTC, datetime, timedelta
    from apscheduler.schedulers.background import BackgroundScheduler
    from cxr_triage.daemon.rhythm import add_job, keep_rhythm

    scheduler = BackgroundScheduler(timezone=UTC)
    for name, every in (("often", 0.3), ("seldom", 3600)):
        # One call: the jobs run in threads, and `print` writes a line in pieces.
        say = lambda name=name: os.write(1, f"{name} {datetime.now(UTC).year}\\n".encode())
        add_job(scheduler, say, timedelta(seconds=every), first=datetime.now(UTC))
    scheduler.start()
    keep_rhythm(scheduler, threading.Event())
"""


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """The program's."""
    return WallClock(tmp_path)


@pytest.fixture
def runs(wall_clock: WallClock) -> Iterator[Iterator[list[str]]]:
    """Job and year of each run, as they come."""
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={**os.environ, **wall_clock.environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout is not None
        try:
            yield (line.split() for line in program.stdout)
        finally:
            program.kill()


def until(runs: Iterator[list[str]], job: str, year: int, times: int) -> list[list[str]]:
    """Wait for so many runs of a job in a year; everything that ran meanwhile."""
    seen: list[list[str]] = []
    while seen.count([job, str(year)]) < times:
        seen.append(next(runs))
    return seen


def test_jobs_run_on_after_the_clock_was_set(runs: Iterator[list[str]], wall_clock: WallClock) -> None:
    """Forward and back: each goes on at its own pace, and what was missed in between is not made up for."""
    this_year = datetime.now(UTC).year
    until(runs, "often", this_year, 3)
    wall_clock.set(5 * YEAR)
    later = (datetime.now(UTC) + 5 * YEAR).year
    seen = until(runs, "often", later, 5)
    assert seen.count(["seldom", str(later)]) == 1
    wall_clock.set(-10 * YEAR)
    earlier = (datetime.now(UTC) - 10 * YEAR).year
    seen = until(runs, "often", earlier, 5)
    assert seen.count(["seldom", str(earlier)]) == 1


def test_a_job_within_its_interval_is_left_alone() -> None:
    """It runs when it is due."""
    now = datetime.now(UTC)
    scheduler = BackgroundScheduler(timezone=UTC)
    scheduler.start(paused=True)
    job = scheduler.add_job(print, Every(timedelta(hours=1)), next_run_time=now + timedelta(minutes=59))
    assert not is_out_of_reach(job, now)
    assert is_out_of_reach(job, now - timedelta(hours=1))
    assert str(job.trigger) == "every 1:00:00"
    scheduler.shutdown()
