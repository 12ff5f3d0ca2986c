"""Who holds a claim, and whether that process still lives: a name and a file lock that dies with the process."""

import fcntl
import hashlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.flocks import try_lock
from cxr_triage.storage.service_clock import boot_id


class Owner:
    """A process that claims jobs. Its file lock is free the moment the process ends, whatever ended it.

    The lock is not passed to programs that the process starts; a fork without exec would share it.
    """

    def __init__(self, owner_id: str, path: Path, descriptor: int) -> None:
        """Use `take`."""
        #: "<role>-<pid>-<host token>-<random>": what the ledger's rows carry.
        self.id = owner_id
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path, role: str) -> Self:
        """Take a fresh name, and hold its lock until `release` or the end of the process.

        Args:
            folder: of the lock files, created if needed; every process of one host uses the same one.
            role: for people who read the rows; a word without a dash.

        Raises:
            StorageError: the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            owner_id = f"{role}-{os.getpid()}-{_host_token(folder)}-{secrets.token_hex(4)}"
            path = _lock_path(folder, owner_id)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StorageError(f"cannot write a lock file in {folder}: {error.strerror}; check its owner") from error
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(owner_id, path, descriptor)

    def release(self) -> None:
        """Give the name up: the jobs that still carry it are free for others."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def owner_is_alive(folder: Path, owner_id: str) -> bool:
    """Say whether a claim's owner may still be at work.

    An owner of another host, or of another boot whose lock file is gone, cannot be asked: it counts as alive, and
    its leases decide.
    """
    try:
        descriptor = os.open(_lock_path(folder, owner_id), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return _host_token(folder) not in owner_id.split("-")
    except OSError:
        return True
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def remove_dead_locks(folder: Path, *, before: datetime) -> int:
    """Remove the lock files that killed processes left before that time, and say how many; those of the living stay.

    Call it when the claims of the dead have been given back. A young file may belong to a process that is about to
    lock it.
    """
    return sum(_remove_if_dead(file, before) for file in folder.glob("*-*-*-*.lock"))


def _remove_if_dead(file: Path, before: datetime) -> bool:
    try:
        if datetime.fromtimestamp(file.stat().st_mtime, UTC) >= before:
            return False
        with file.open("rb") as opened:
            if not try_lock(opened):  # it lives
                return False
            file.unlink()
    except FileNotFoundError:  # it has just released its name
        return False
    return True


def _lock_path(folder: Path, owner_id: str) -> Path:
    return folder / f"{owner_id}.lock"


def _host_token(folder: Path) -> str:
    """Name this boot and this folder: containers share the boot's ID but not the folder."""
    status = folder.stat()
    identity = f"{boot_id()}:{status.st_dev}:{status.st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
