"""A machine's clock that a test sets while programs run: libfaketime, preloaded into every process of a program.

What nobody can set stays true: CLOCK_MONOTONIC and CLOCK_BOOTTIME, waits, and the times of files.
"""

from datetime import timedelta
from pathlib import Path

#: Debian's package `faketime`; the folder is named after the machine's architecture.
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
#: Runs first in every Python. libfaketime 0.9.10 breaks time.sleep (https://github.com/wolfcw/libfaketime/issues/426).
SITE = """
import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class WallClock:
    """The clock that programs see which are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall-clock"
        self._site = folder / "site"
        self._site.mkdir()
        (self._site / "sitecustomize.py").write_text(SITE)
        self.set(timedelta(0))

    @property
    def environment(self) -> dict[str, str]:
        """What a program's environment needs."""
        return {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": str(self._site),
        }

    def set(self, ahead: timedelta) -> None:
        """Set the clock so far ahead of the true time; behind it, when negative. It goes on from there."""
        fresh = self._file.with_suffix(".fresh")
        fresh.write_text(f"{ahead.total_seconds():+.0f}\n")
        fresh.rename(self._file)  # at no moment is it empty
