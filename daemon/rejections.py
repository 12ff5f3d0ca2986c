"""Destinations that take rejection notes are told what not to use any more, once they have what stands instead."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.results.objects import BuiltObject
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.rejection_note import build_note
from cxr_triage.daemon.setbacks import Backoff, Setbacks
from cxr_triage.daemon.workbench import Workbench
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.model.header import quiet_pydicom
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.ledger import Rejections
from cxr_triage.storage.result_records import ObjectKind, Rejection

#: Notes made in one go.
BATCH: Final = 20

log = get_logger(__name__)


class RejectionMaker:
    """Makes one note after the other."""

    def __init__(
        self,
        ledger: Rejections,
        *,
        bench: Workbench,
        destinations: Mapping[str, Profile],
        backoff: Backoff | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Describe the work; nothing starts yet.

        Args:
            ledger: what is rejected.
            bench: where images are, and finished objects go.
            destinations: profiles of those that take notes, by their names; others are told nothing.
            backoff: between attempts at a study.
            clock: gives the present.
        """
        self._ledger = ledger
        self._bench = bench
        self._destinations = destinations
        self._setbacks = Setbacks(backoff or Backoff(), clock)

    @property
    def waits(self) -> bool:
        """Whether a note could not be made so far."""
        return len(self._setbacks) > 0

    def make_pending(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Make the notes that are due, until `stop` says so.

        Returns:
            How many are to be delivered.

        Raises:
            StorageError: the ledger cannot be read.
        """
        if not self._destinations:
            return 0
        due = self._ledger.due(self._destinations.keys(), BATCH, but_of=(waiting := self._setbacks.waiting))
        self._setbacks.keep({*waiting, *(rejection.revision.study_instance_uid for rejection in due)})
        made = 0
        for rejection in due:
            if stop():
                break
            if self._setbacks.is_due(rejection.revision.study_instance_uid):
                made += self._attempt(rejection)
        return made

    def make(self, rejection: Rejection) -> None:
        """Make a note, store it durably, record it.

        Raises:
            StaleAttemptError: something else is due by now.
            TriageError: something that we can name went wrong; nothing is recorded, unless a commit's answer got lost.
            OSError: a source cannot be read.
        """
        profile = self._destinations[rejection.destination]
        header = self._bench.header_or(rejection.predictions[0], rejection.header)
        with quiet_pydicom():
            built = BuiltObject(build_note(rejection, header, profile), ObjectKind.NOTE, "")
        made = self._bench.recorded(built, profile, partial(self._ledger.record_note, rejection))
        log.info(
            "rejection note made",
            destination=rejection.destination,
            study_instance_uid=rejection.revision.study_instance_uid,
            reason=rejection.reason.value,
            objects=len(rejection.objects),
            sop_instance_uid=made.sop_instance_uid,
        )

    def _attempt(self, rejection: Rejection) -> bool:
        study = rejection.revision.study_instance_uid
        try:
            self.make(rejection)
        except StaleAttemptError:
            return False
        except Exception as error:  # noqa: BLE001 - the last line of defence: one odd source must not stop all reports
            self._setbacks.put_off(study, error, "no rejection note made, it stays due")
            return False
        self._setbacks.forget(study)
        return True
