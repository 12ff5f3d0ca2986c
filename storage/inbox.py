"""Files that survive a power cut: write, fsync, rename, fsync the folder; only then is a file there."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cxr_triage.storage.records import StoredFile


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


class DurableFolder:
    """A folder of DICOM files by day of arrival. Several processes may store into it at the same time."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def store(self, chunks: Iterable[bytes] | bytes, *, sop_instance_uid: str, meta: bytes = b"") -> StoredFile:
        """Store a file under a name of its own, also when the same bytes are there already.

        Args:
            chunks: the data set, or a whole file when there is no `meta`: what the SHA-256 is taken over.
            sop_instance_uid: for the file's name, so that a person finds it.
            meta: preamble, prefix and file meta information (PS3.10 section 7.1), written in front.

        Returns:
            Where it is: it and its name have reached the disk.

        Raises:
            StorageError: nothing was stored. A failed fsync is final: what it left is removed, never tried again.
        """
        raise NotImplementedError

    def absolute(self, path: Path) -> Path:
        """Where a stored file is."""
        raise NotImplementedError

    def discard(self, path: Path) -> None:
        """Remove a stored file; one that is gone already is fine."""
        raise NotImplementedError

    def files(self, *, before: datetime) -> Iterator[Path]:
        """Paths of the stored files that were written before that time."""
        raise NotImplementedError

    def remove_incomplete(self) -> int:
        """Remove what died on the way in; call it at start. Files that a live process still writes stay."""
        raise NotImplementedError


class Inbox(DurableFolder):
    """Where received images are kept."""


class Outbox(DurableFolder):
    """Where finished result objects are kept."""
