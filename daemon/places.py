"""Places for associations: so many at the same time, counted over all processes that share a port."""

import fcntl
import os
import struct
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Final

from cxr_triage.model.errors import StorageError

#: struct flock of fcntl(2) on 64-bit Linux: type, whence, start, length, process (0 for locks of an open file).
_LOCK: Final = struct.Struct("@hhqqi4x")


class Places:
    """A fixed number of places, one byte of a file each; whoever holds a place has locked its byte.

    The locks belong to the open file (F_OFD_SETLK of fcntl(2)), so that the kernel frees them when a process dies,
    whatever ended it, and its associations with it.
    """

    def __init__(self, count: int, file: Path | None) -> None:
        """Take none yet.

        Args:
            count: how many places there are, at least 1; every process of one port says the same.
            file: made if it is missing, never written to; None: this process has the port for itself.

        Raises:
            StorageError: the file cannot be opened.
        """
        self._count = count
        self._mutex = threading.Lock()
        self._held: dict[Hashable, int] = {}
        self._descriptor = None if file is None else _open(file)

    def take(self, holder: Hashable) -> bool:
        """Take a place for a holder that has none; False: all are taken. Never waits for one."""
        with self._mutex:
            for place in set(range(self._count)).difference(self._held.values()):
                if self._lock(place):
                    self._held[holder] = place
                    return True
        return False

    def give_back(self, holder: Hashable) -> None:
        """Give back the holder's place; one without a place has nothing to give back."""
        with self._mutex:
            place = self._held.pop(holder, None)
            if place is not None and self._descriptor is not None:
                _set(self._descriptor, fcntl.F_UNLCK, place)

    def close(self) -> None:
        """Give back every place; call it once, at the end."""
        with self._mutex:
            self._held.clear()
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _lock(self, place: int) -> bool:
        if self._descriptor is None:
            return True
        try:
            _set(self._descriptor, fcntl.F_WRLCK, place)
        except BlockingIOError:
            return False
        return True


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StorageError(f"cannot open {file}: {error.strerror}; check the folder's owner") from error


def _set(descriptor: int, kind: int, place: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, place, 1, 0))
