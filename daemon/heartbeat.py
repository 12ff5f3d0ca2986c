"""A file per role whose age says whether the role lives. The database is not written for that.

A disk that takes no beat does not stop the work: the role counts as dead until it takes them again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Beats that may be missed before a role counts as dead.
MISSED_BEATS: Final = 3


@contextmanager
def beating(run_folder: Path, role: str, every_seconds: float) -> Iterator[None]:
    """Beat from now until the block ends; then the file is gone."""
    file, stop = _file(run_folder, role), threading.Event()

    def beat() -> None:
        while not stop.wait(every_seconds):
            _touch(file)

    _touch(file)
    heart = threading.Thread(target=beat, name="heartbeat", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        with suppress(OSError):
            file.unlink(missing_ok=True)


def is_alive(run_folder: Path, role: str, every_seconds: float) -> bool:
    """Whether the role has shown a sign of life within the last three beats."""
    try:
        beaten_at = _file(run_folder, role).stat().st_mtime
    except OSError:
        return False
    return time.time() - beaten_at < MISSED_BEATS * every_seconds


def _touch(file: Path) -> None:
    with suppress(OSError):
        file.touch()


def _file(run_folder: Path, role: str) -> Path:
    return run_folder / f"{role}.heartbeat"
