"""A wake-up beside the database: one role rings, another looks for work at once. Loss is harmless: roles poll."""

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Largest number of pending rings that one wake-up takes off the socket.
DRAIN_LIMIT: Final = 4096


class Doorbell:
    """The socket that a role listens on; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    @classmethod
    def listen(cls, run_folder: Path, role: str) -> Self:
        """Take the role's bell, also from a process that died with it.

        Raises:
            OSError: the run folder cannot be written.
        """
        run_folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        bell = cls(_path(run_folder, role))
        bell._take()
        return bell

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings (True) or the time is over (False). Rings meanwhile count as one."""
        readable, _, _ = select.select([self._socket], [], [], seconds)
        if not readable:
            return False
        with contextlib.suppress(BlockingIOError):
            for _ in range(DRAIN_LIMIT):
                self._socket.recv(1)
        return True

    def close(self) -> None:
        """Stop listening. The path stays: a successor may already have taken it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _take(self) -> None:
        """Bind under a name of our own, then rename: at no moment is there no bell."""
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        with _short(fresh) as address:
            self._socket.bind(address)
        fresh.rename(self._path)


def ring(run_folder: Path, role: str) -> None:
    """Wake `role`. Never blocks, never fails: nobody there, or too many rings, means that polling will do."""
    bell = _path(run_folder, role)
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        _short(bell) as address,
    ):
        sender.sendto(b"!", address)


def _path(run_folder: Path, role: str) -> Path:
    return run_folder / f"{role}.bell"


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """The path by way of its open folder: sun_path holds 107 bytes (unix(7)), and folders may be deep."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
