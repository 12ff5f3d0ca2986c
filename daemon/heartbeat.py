"""A file per process of a role, whose age says whether it lives. The database is not written for that.

A disk that takes no beat does not stop the work: the process counts as dead until it takes them again.

The age is counted from the file's time of modification, set to CLOCK_BOOTTIME: the wall clock may be set, and a time of
modification can be written to a full disk.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cxr_triage.storage.service_clock import boottime_seconds

#: Beats that may be missed before a process counts as dead.
MISSED_BEATS: Final = 3


@contextmanager
def beating(run_folder: Path, process: str, every_seconds: float) -> Iterator[None]:
    """Beat from now until the block ends; then the file is gone."""
    file, stop = _file(run_folder, process), threading.Event()

    def beat() -> None:
        while not stop.wait(every_seconds):
            _beat(file)

    _beat(file)
    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        with suppress(OSError):
            file.unlink(missing_ok=True)


def is_alive(run_folder: Path, process: str, every_seconds: float) -> bool:
    """Whether the process has shown a sign of life within the last three beats."""
    try:
        beaten_at = _file(run_folder, process).stat().st_mtime
    except OSError:
        return False
    # A file from before the machine's last start may seem to be of the future.
    return 0 <= boottime_seconds() - beaten_at < MISSED_BEATS * every_seconds


def _beat(file: Path) -> None:
    with suppress(OSError):
        # Not `touch`, which would show the wall clock's time for a moment.
        descriptor, now = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o640), boottime_seconds()
        try:
            os.utime(descriptor, (now, now))
        finally:
            os.close(descriptor)


def count_alive(run_folder: Path, processes: Iterable[str], every_seconds: float) -> int:
    """How many of these processes have."""
    return sum(is_alive(run_folder, process, every_seconds) for process in processes)


def _file(run_folder: Path, process: str) -> Path:
    return run_folder / f"{process}.heartbeat"
