"""Free space, and the low-water mark: new images are refused while there is still room to finish the old ones."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cxr_triage.model.errors import StorageError

MEGABYTE: Final = 10**6


def free_bytes(folder: Path) -> int:
    """What this process may still write on a folder's file system, in bytes.

    Raises:
        StorageError: the folder is not there.
    """
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise StorageError(
            f"the free space of {folder} cannot be read: {error.strerror}; see that it exists"
        ) from error
    return status.f_bavail * status.f_frsize


@dataclass(frozen=True, kw_only=True, slots=True)
class LowWater:
    """What must stay free, for the results of what was acknowledged before."""

    #: Folders that an image needs: its file's, and the database's where that is a file.
    folders: Sequence[Path]
    minimum_free_bytes: int

    def below(self) -> list[Path]:
        """Folders whose file system has less left than must stay free."""
        return [folder for folder in self.folders if free_bytes(folder) < self.minimum_free_bytes]

    def require(self, size_bytes: int) -> None:
        """Refuse to take so much more.

        Raises:
            StorageError: afterwards less would be free than must stay free.
        """
        for folder in self.folders:
            if free_bytes(folder) - size_bytes < self.minimum_free_bytes:
                raise StorageError(
                    f"{folder} would be left with less than {self.minimum_free_bytes // MEGABYTE} MB: free some space, "
                    "or lower storage.minimum_free_megabytes"
                )
