"""A disk that a test can fill: a small tmpfs, or where none can be mounted, a limit on the size of files."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

#: Pages are what a tmpfs counts in.
PAGE_BYTES = 4096


class Disk(Protocol):
    """What a test can do to a disk."""

    #: Where files go.
    folder: Path

    def fill(self, *, but_bytes: int = 0) -> None:
        """Leave so much free; call it again to take what was freed meanwhile."""

    def free(self) -> None:
        """Make room again."""


@contextmanager
def small_disk(folder: Path, *, megabytes: int, processes: Callable[[], list[int]]) -> Iterator[Disk]:
    """Give a disk for the length of a block.

    Args:
        folder: made here.
        megabytes: its size.
        processes: who is limited where no disk can be mounted; what they start inherits it.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
    mounted = "NO_TMPFS" not in os.environ and subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted:
        yield _FileSizeLimit(folder, processes)
        return
    try:
        yield _Tmpfs(folder)
    finally:
        for log in folder.glob("*.log"):  # for whoever looks into a failure
            shutil.copy(log, folder.parent)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class _Tmpfs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, but_bytes: int = 0) -> None:
        # ENOSPC: somebody else was quicker.
        with self._ballast.open("ab", buffering=0) as file, suppress(OSError):
            while (missing := self._free_bytes() - but_bytes) >= PAGE_BYTES:
                file.write(bytes(missing - missing % PAGE_BYTES))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def _free_bytes(self) -> int:
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize


class _FileSizeLimit:
    def __init__(self, folder: Path, processes: Callable[[], list[int]]) -> None:
        self.folder = folder
        self._processes = processes

    def fill(self, *, but_bytes: int = 0) -> None:
        if not but_bytes:
            self._limit(0)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for process in self._processes():
            with suppress(ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
