"""What crashes leave in the two folders: files without their name yet, and named files that no row knows.

Whether a writer lives is told by its lock on the file, and not by the file's age: no clock is asked.
"""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from cxr_triage.daemon.logs import get_logger
from cxr_triage.storage.inbox import DurableFolder
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.upkeep_records import Place

#: How many names are held in memory at once: a busy day's folder has many more.
FILES_AT_ONCE: Final = 500

log = get_logger(__name__)


class Leftovers:
    """Those of one folder."""

    def __init__(
        self,
        place: Place,
        folder: DurableFolder,
        housekeeping: Housekeeping,
        *,
        put_away: Callable[[Path], None],
        settle_seconds: float,
    ) -> None:
        """Describe where to look.

        Args:
            place: the folder's name in the ledger.
            folder: where the files are.
            housekeeping: says which of them have a row.
            put_away: called with a file that has none and gets none.
            settle_seconds: how long a file must be seen without row and without writer. A commit that its dead writer
                had sent may still be on its way through the database's server.
        """
        self._place = place
        self._folder = folder
        self._housekeeping = housekeeping
        self._put_away = put_away
        self._settle_seconds = settle_seconds
        #: Folders as the last look found them, and those that had nothing left then.
        self._seen: dict[Path, int] = {}
        self._tidy: dict[Path, int] = {}
        #: Files without row and writer, and since when: monotonic seconds.
        self._since: dict[Path, float] = {}

    def look(self) -> int:
        """Put away what has been left for long enough; how many files that were.

        Raises:
            StorageError: the ledger or the folder refused. What was not done is done by the next look.
        """
        incomplete = self._folder.remove_incomplete()
        now = time.monotonic()
        self._since = {path: self._since.get(path, now) for path in self._left()}
        due = [path for path, since in self._since.items() if now - since >= self._settle_seconds]
        for path in due:
            self._put_away(path)
        if incomplete or due:
            log.warning("leftovers of a crash put away", folder=self._place, incomplete=incomplete, unowned=len(due))
        return incomplete + len(due)

    def _left(self) -> list[Path]:
        left: list[Path] = []
        folders = self._folder.folders()
        for folder, changed in folders.items():
            if self._tidy.get(folder) == changed:
                continue
            unowned = self._unowned(folder)
            if (
                not unowned and self._seen.get(folder) == changed
            ):  # twice: its time has ticks, and files come within one
                self._tidy[folder] = changed
            # A row may have come between the two looks, but none comes once the writer is gone.
            left += self._housekeeping.unowned(self._place, map(str, self._folder.abandoned(unowned)))
        self._seen = folders
        self._tidy = {folder: changed for folder, changed in self._tidy.items() if folder in folders}
        return left

    def _unowned(self, folder: Path) -> list[Path]:
        files = self._folder.files(folder)
        unowned: list[Path] = []
        while some := list(islice(files, FILES_AT_ONCE)):
            unowned += self._housekeeping.unowned(self._place, some)
        return unowned
