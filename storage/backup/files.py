"""Copies that are complete and on the disk once they have their name."""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from cxr_triage.model.header import GROUP_LENGTH_ELEMENT_BYTES, PREAMBLE_BYTES
from cxr_triage.storage.disk import sync_folder

#: What is being written; whoever finds one may remove it once it knows that nobody writes.
PART_SUFFIX: Final = ".part"
_CHUNK_BYTES: Final = 2**20
#: (0002,0000) File Meta Information Group Length: VR UL, 4 bytes long, Explicit VR Little Endian (PS3.10 7.1).
_GROUP_LENGTH: Final = b"\x02\x00\x00\x00UL\x04\x00"


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """What was read."""

    size_bytes: int
    #: Of the whole file.
    sha256: str
    #: Of what follows the file meta information.
    data_set_sha256: str


class SourceError(Exception):
    """A file could not be read, or is not what it was expected to be."""

    def __init__(self, problem: Literal["missing", "damaged", "unreadable"]) -> None:
        super().__init__(problem)
        self.problem: Final = problem


def examine(path: Path, copy_to: BinaryIO | None = None) -> Copied:
    """Read a file once, taking its digests, and write it elsewhere meanwhile.

    Raises:
        SourceError: it cannot be read.
        OSError: the copy cannot be written.
    """
    whole, data_set, size, left = hashlib.sha256(), hashlib.sha256(), 0, 0
    for chunk in _chunks(path):
        if size == 0:
            left = _bytes_before_data_set(chunk)
        whole.update(chunk)
        data_set.update(memoryview(chunk)[left:])
        left = max(0, left - len(chunk))
        size += len(chunk)
        if copy_to is not None:
            copy_to.write(chunk)
    return Copied(size_bytes=size, sha256=whole.hexdigest(), data_set_sha256=data_set.hexdigest())


def copy_durably(
    source: Path, target: Path, *, is_right: Callable[[Copied], bool], temporary: Path | None = None
) -> Copied:
    """Copy a file; it and its name are on the disk when this returns, and before that it has not got its name.

    Args:
        source: the file.
        target: its new name. Its folder is made, readable for its owner alone.
        is_right: whether what was read is what was expected.
        temporary: folder to write in, of the same file system; None: the target's.

    Raises:
        SourceError: it cannot be read, or is not what was expected; there is no copy.
        OSError: the copy cannot be written; there is none.
    """
    make_folder(target.parent)
    with written_durably(target, temporary=temporary) as file:
        found = examine(source, copy_to=file)
        if not is_right(found):
            raise SourceError("damaged")
    return found


def write_durably(target: Path, content: bytes) -> None:
    """Write a file, or put another one in its place, in one step.

    Raises:
        OSError: it cannot be written: what was there still is.
    """
    with written_durably(target) as file:
        file.write(content)


@contextmanager
def written_durably(target: Path, *, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Give a file to write, which has its name, durably, once the block has ended well."""
    part = (temporary or target.parent) / f"{secrets.token_hex(16)}{PART_SUFFIX}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
        sync_folder(target.parent)
    except BaseException:  # also when the process is asked to stop: nothing half-written stays
        part.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, readable for their owner alone, durably.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise SourceError("missing") from None
    except OSError as error:
        raise SourceError("unreadable") from error


def _bytes_before_data_set(start: bytes) -> int:
    """Length of preamble, prefix and file meta information (PS3.10 7.1); 0 where there are none."""
    end = PREAMBLE_BYTES + GROUP_LENGTH_ELEMENT_BYTES
    prefix, element = start[PREAMBLE_BYTES - 4 : PREAMBLE_BYTES], start[PREAMBLE_BYTES:end]
    if prefix != b"DICM" or len(start) < end or not element.startswith(_GROUP_LENGTH):
        return 0
    return end + int.from_bytes(element[-4:], "little")
