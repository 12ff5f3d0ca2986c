"""A thread that looks for work in the ledger: at once when it is woken, else every so often."""

import threading
from abc import ABC, abstractmethod
from datetime import timedelta

from cxr_triage.daemon.logs import describe_with_frames, get_logger
from cxr_triage.model.errors import StorageError

log = get_logger(__name__)


class Lookout(ABC):
    """Looks for work until it is stopped, whatever comes."""

    def __init__(self, *, poll: timedelta, **named: str) -> None:
        """Make it.

        Args:
            poll: how often to look when nobody rings.
            named: whose work it is, for the log.
        """
        self._poll = poll
        self._named = named
        self._wake = threading.Event()

    @abstractmethod
    def look(self, stop: threading.Event) -> bool:
        """Do what is due now; returns whether to look again at once.

        Raises:
            StorageError: the ledger could not be reached.
        """

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop`; whoever sets it calls `wake` too."""
        while not stop.is_set():
            self._wake.clear()
            if not self._looked(stop) and not stop.is_set():
                self._wake.wait(self._poll.total_seconds())

    def _looked(self, stop: threading.Event) -> bool:
        try:
            return self.look(stop)
        except StorageError as error:
            log.exception("ledger not reached", exc_info=error, **self._named)
        except Exception as error:  # noqa: BLE001 - the last line of defence: nobody would notice a thread that ended
            log.error(  # noqa: TRY400 - never its own words
                "looking for work failed", exception=describe_with_frames(error), **self._named
            )
        return False
