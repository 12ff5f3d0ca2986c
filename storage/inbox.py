"""Files that survive a power cut: write, fsync, rename, fsync the folder; only then is a file there."""

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.disk import sync_folder
from cxr_triage.storage.flocks import try_lock
from cxr_triage.storage.image_records import KnownContent, StoredFile

#: Where files are written before they have their name; on the same file system, so that renaming is one step.
INCOMING: Final = "incoming"
#: Where files are put that no row knows: a person decides on them.
UNKNOWN: Final = "unknown"
#: PS3.5 section 9.1: at most 64 characters, digits and dots. What a sender calls a UID need not be one.
_NOT_IN_A_UID: Final = re.compile(r"[^0-9.]")
_UID_LENGTH: Final = 64
#: Of the content's digest, in the file's name.
_NAMED_DIGITS: Final = 16


class DurableFolder:
    """A folder of DICOM files by day of arrival. Several processes may store into it at the same time."""

    def __init__(self, root: Path, *, clock: Clock = utc_now) -> None:
        """Look only; the first `store` creates what is missing."""
        self._root = root
        self._clock = clock
        #: Folders whose own names have reached the disk, as far as this process knows.
        self._durable: set[Path] = set()

    @contextmanager
    def storing(
        self, chunks: Iterable[bytes] | bytes, *, sop_instance_uid: str, meta: bytes = b""
    ) -> Iterator[StoredFile]:
        """Store a file under a name of its own, also when the same bytes are there already.

        The block is for recording it: until its end, `abandoned` does not name the file. It stays, whatever the block
        raises: a commit whose answer got lost may have happened.

        Args:
            chunks: the data set, or a whole file when there is no `meta`: what the SHA-256 is taken over.
            sop_instance_uid: for the file's name, so that a person finds it.
            meta: preamble, prefix and file meta information (PS3.10 section 7.1), written in front.

        Yields:
            Where it is: it and its name have reached the disk.

        Raises:
            StorageError: nothing was stored. A failed fsync is final: what it left is removed, never tried again.
        """
        try:
            stored, file = self._store([chunks] if isinstance(chunks, bytes) else chunks, sop_instance_uid, meta)
        except OSError as error:
            raise StorageError(
                f"cannot store a file in {self._root}: {error.strerror}; check free space, owner and disk"
            ) from error
        with file:
            yield stored

    def absolute(self, path: Path) -> Path:
        """Where a stored file is."""
        return self._root / path

    def is_gone(self, path: Path) -> bool:
        """Whether a stored file is gone for good. Where its folder is gone too, a disk is not mounted."""
        file = self.absolute(path)
        return file.parent.is_dir() and not file.exists()

    def discard(self, path: Path) -> None:
        """Remove a stored file; one that is gone already is fine.

        Raises:
            StorageError: it is still there.
        """
        try:
            self.absolute(path).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove a file from {self._root}: {error.strerror}; check its owner") from error

    def set_aside(self, path: Path) -> None:
        """Move a stored file to where nothing looks for it, but a person may.

        Raises:
            StorageError: it is still where it was.
        """
        try:
            self.absolute(path).rename(self._folder(UNKNOWN) / path.name)
        except OSError as error:
            raise StorageError(f"cannot move a file within {self._root}: {error.strerror}; check its owner") from error

    def folders(self) -> dict[Path, int]:
        """Folders of stored files, and when each last got or lost one: a number that is another one then."""
        return {folder.relative_to(self._root): folder.stat().st_mtime_ns for folder in self._root.glob("[0-9]*")}

    def files(self, folder: Path) -> Iterator[str]:
        """Paths of the stored files of one of `folders`, as the ledger writes them, in no order."""
        with os.scandir(self.absolute(folder)) as entries:
            yield from (f"{folder}/{entry.name}" for entry in entries if entry.name.endswith(".dcm"))

    def is_named_after(self, path: Path, sha256: str) -> bool:
        """Whether a stored file's name was given for a content of this digest."""
        return f"-{sha256[:_NAMED_DIGITS]}-" in path.name

    def abandoned(self, paths: Iterable[Path]) -> list[Path]:
        """Of these stored files, those that are there and that no living process is about to record."""
        return [path for path in paths if _is_abandoned(self.absolute(path))]

    def remove_incomplete(self) -> int:
        """Remove what died on the way in, and say how much. Files of live processes stay."""
        return sum(_remove_abandoned(file) for file in (self._root / INCOMING).glob("*.part"))

    def _store(self, chunks: Iterable[bytes], sop_instance_uid: str, meta: bytes) -> tuple[StoredFile, BinaryIO]:
        temporary, file = self._begin()
        final = temporary
        try:
            sha256, size = _write(file, chunks, meta)
            final = self._final_name(sop_instance_uid, sha256)
            temporary.rename(final)
            sync_folder(final.parent)
        except BaseException:  # also when the process is asked to stop: a file that is not durable is not there
            temporary.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
            _close(file)
            raise
        return StoredFile(path=final.relative_to(self._root), sha256=sha256, size_bytes=size), file

    def _begin(self) -> tuple[Path, BinaryIO]:
        """Open a file without its name yet. Its lock says for as long as it is open that its writer lives."""
        while True:
            temporary = self._folder(INCOMING) / f"{secrets.token_hex(16)}.part"
            file = temporary.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                return temporary, file
            file.close()  # somebody who tidies up took it for abandoned before it had its lock

    def _final_name(self, sop_instance_uid: str, sha256: str) -> Path:
        folder = self._folder(self._clock().strftime("%Y%m%d"))
        uid = _NOT_IN_A_UID.sub("_", sop_instance_uid)[:_UID_LENGTH]
        return folder / f"{uid}-{sha256[:_NAMED_DIGITS]}-{secrets.token_hex(4)}.dcm"

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        if folder not in self._durable or not folder.is_dir():
            created = [parent for parent in folder.parents if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever created a folder earlier may have died before its name was on the disk: make sure once.
            for parent in {self._root, self._root.parent, *(path.parent for path in created)}:
                sync_folder(parent)
            self._durable.add(folder)
        return folder


def _write(file: BinaryIO, chunks: Iterable[bytes], meta: bytes) -> tuple[str, int]:
    """Bring a file's content to the disk; its digest without `meta`, its size with it."""
    digest = hashlib.sha256()
    size = file.write(meta)
    for chunk in chunks:
        digest.update(chunk)
        size += file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest(), size


def _remove_abandoned(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            if not try_lock(opened):  # a live process writes it
                return False
            file.unlink()
    except FileNotFoundError:  # a live process has renamed it
        return False
    return True


def _is_abandoned(file: Path) -> bool:
    with suppress(FileNotFoundError), file.open("rb") as opened:
        return try_lock(opened, shared=True)
    return False


def _close(file: BinaryIO) -> None:
    """Close a file that is given up: what its buffer holds cannot be written, and need not be."""
    with suppress(OSError):
        file.close()


class Inbox(DurableFolder):
    """Where received images are kept."""

    def lost(self, known: KnownContent | None) -> Path | None:
        """Name the file that the ledger has of a content and that is gone; None: nothing is missing."""
        path = known and known.path
        return path if path and not self.absolute(path).is_file() else None


class Outbox(DurableFolder):
    """Where finished result objects are kept."""
