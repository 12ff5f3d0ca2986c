"""What upkeep, status and the health checks read and write."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from cxr_triage.storage.database import Database
from cxr_triage.storage.inbox import utc_now
from cxr_triage.storage.records import Counts, OwnedFile, SetAside


class Housekeeping:
    """Counts, and the end of files."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        raise NotImplementedError

    def ping(self) -> None:
        """Ask the database for nothing but an answer.

        Raises:
            StorageError: it gave none.
        """
        raise NotImplementedError

    def counts(self) -> Counts:
        """Count everything by state, as one snapshot."""
        raise NotImplementedError

    def set_aside(self, limit: int = 1000) -> list[SetAside]:
        """Images that have no result and why, the latest first."""
        raise NotImplementedError

    def forgettable_files(self, before: datetime) -> list[OwnedFile]:
        """Files that nothing needs any more.

        Images received before that time, scored and reported or unsuitable, of finished studies; objects made before
        that time whose deliveries are all done. Files of failed images and of dead deliveries stay.
        """
        raise NotImplementedError

    def record_forgotten(self, files: Sequence[OwnedFile]) -> None:
        """Record that files were removed. Remove first, record after: a crash between is repaired by the next run."""
        raise NotImplementedError

    def unowned(self, place: Literal["inbox", "outbox"], paths: Iterable[Path]) -> list[Path]:
        """Of these files, those that no row owns: left by a crash between file and row, and never acknowledged."""
        raise NotImplementedError
