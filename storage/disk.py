"""What it takes for a change to survive a power cut, where one system call is not enough."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk: those that were created, renamed and removed in it.

    Raises:
        OSError: they may not be there after a power cut.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(file: Path, content: str) -> None:
    """Write a small file: after a power cut it is the old one or the new one. One writer at a time.

    Raises:
        OSError: it is the old one, or the new one may be gone after a power cut.
    """
    part = file.with_suffix(".part")
    with part.open("w", encoding="utf-8") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    part.rename(file)
    sync_folder(file.parent)
