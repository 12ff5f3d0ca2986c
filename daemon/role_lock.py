"""One process per role and data folder: two would tidy up, send and restart side by side, and neither would say so."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import ConfigurationError, StorageError
from cxr_triage.storage.flocks import try_lock

#: A predecessor that is about to end is waited for: killed with its supervisor, or at a restart.
PATIENCE_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.1

log = get_logger(__name__)


@contextmanager
def held_alone(name: str, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Be the only process of a name in the run folder, and with SQLite the only one at the database file.

    The locks go with the process, however it ends; programs that it starts do not inherit them.

    Args:
        name: of the process: its role, or its role and number.
        settings: name the places.
        patience_seconds: how long to wait for a predecessor.

    Raises:
        ConfigurationError: another process is that, and stays.
        StorageError: a lock file cannot be written.
    """
    give_up_at = time.monotonic() + patience_seconds
    with ExitStack() as locks:
        for place, file in _lock_files(name, settings).items():
            locks.enter_context(_locked(file, name, place, give_up_at))
        yield


def _lock_files(name: str, settings: Settings) -> dict[str, Path]:
    """The lock files, by what they stand for in words."""
    files = {f"in the folder {settings.run_folder}": settings.run_folder / f"{name}.lock"}
    database = settings.database_file
    if database is not None:
        # Beside the file itself, whatever links lead to it: another run folder does not get round this one.
        there = database.resolve()
        files[f"on the database {there}"] = there.with_name(f"{there.name}.{name}.lock")
    return files


@contextmanager
def _locked(file: Path, name: str, place: str, give_up_at: float) -> Iterator[None]:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StorageError(
            f"cannot write the lock file {file}: {error.strerror}; check owner and free space"
        ) from error
    try:
        _wait_for(descriptor, file, name, place, give_up_at)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, file: Path, name: str, place: str, give_up_at: float) -> None:
    told = False
    while not try_lock(descriptor):
        if time.monotonic() >= give_up_at:
            raise ConfigurationError(
                f"another {name} works {place}{_signed(descriptor)}: end that one first, or give this one a "
                "storage.root of its own"
            )
        if not told:
            log.warning("waiting for another process of this role to end", path=file)
            told = True
        time.sleep(POLL_SECONDS)


def _sign(descriptor: int) -> None:
    """Leave our process ID for the message that another one gets; a full disk does not matter here."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _signed(descriptor: int) -> str:
    with suppress(OSError):
        process = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        if process.isdigit():
            return f" (process {process})"
    return ""
