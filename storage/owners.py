"""Who holds a claim, and whether that process still lives: a name and a file lock that dies with the process."""

from pathlib import Path
from typing import Self


class Owner:
    """A process that claims jobs. Its file lock is free the moment the process ends, whatever ended it."""

    #: "<role>-<pid>-<host token>-<random>": what the ledger's rows carry.
    id: str

    @classmethod
    def take(cls, folder: Path, role: str) -> Self:
        """Take a fresh name, and hold its lock until `release` or the end of the process.

        Args:
            folder: of the lock files, created if needed; every process of one host uses the same one.
            role: for people who read the rows.

        Raises:
            StorageError: the folder cannot be written.
        """
        raise NotImplementedError

    def release(self) -> None:
        """Give the name up: the jobs that still carry it are free for others."""
        raise NotImplementedError


def owner_is_alive(folder: Path, owner_id: str) -> bool:
    """Say whether a claim's owner may still be at work.

    An owner of another host cannot be asked: it counts as alive, and its leases decide.
    """
    raise NotImplementedError
