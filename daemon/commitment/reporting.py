"""Storage Commitment as SCP, the answer: each modality is told its results until it has taken them (PS3.4 J.3.3)."""

import threading
from typing import Final

from pynetdicom import build_context, build_role
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.commitment.event_reports import Insistence, may_report, send_event_report
from cxr_triage.daemon.commitment.messages import (
    SOP_CLASS,
    SOP_INSTANCE,
    SUCCESS,
    commitment_context,
    report_data_set,
)
from cxr_triage.daemon.dicom_client import Peer, connected
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.lookout import Lookout
from cxr_triage.model.errors import DeliveryError, RefusedError, StaleAttemptError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import CommitmentReport, ModalityReport
from cxr_triage.storage.ledger import ModalityCommitments

log = get_logger(__name__)

#: PS3.4 J.3.3: who reports is SCP, also where it opens the association.
REPORTING_ROLE: Final = build_role(SOP_CLASS, scp_role=True)


class Reporter(Lookout):
    """Tells one modality what became of its requests, each on an association of its own."""

    def __init__(
        self,
        *,
        modality: str,
        peer: Peer,
        requests: ModalityCommitments,
        owner_id: str,
        insistence: Insistence,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(poll=insistence.poll, calling_ae_title=modality)
        self._modality = modality
        self._peer = peer
        self._requests = requests
        self._owner_id = owner_id
        self._insistence = insistence
        self._clock = clock

    def look(self, stop: threading.Event) -> bool:
        """See `Lookout`."""
        del stop
        return self.report_next()

    def report_next(self) -> bool:
        """Tell the modality one result that is due; returns whether there was any.

        Raises:
            StorageError: the ledger could not be reached.
        """
        told = self._requests.claim_report(self._owner_id, self._modality)
        if told is None:
            return False
        try:
            self._tell(told)
        except DeliveryError as error:
            self._put_off(told, error)
        except StaleAttemptError:
            log.warning("storage commitment report taken over", **told.log_context())
        return True

    def _tell(self, told: ModalityReport) -> None:
        with connected(self._peer, report_contexts(), roles=[REPORTING_ROLE]) as association:
            if not may_report(association, SOP_CLASS):
                raise RefusedError(f"{self._peer} does not let us be SCP of storage commitment (role selection)")
            tell(association, told.report, str(self._peer))
        self._requests.record_reported(told)
        log.info("modality told of storage commitment", **told.log_context())

    def _put_off(self, told: ModalityReport, error: DeliveryError) -> None:
        now = self._clock()
        late = now >= told.answered_at + self._insistence.give_up
        retry_at = None if late else now + self._insistence.persistence.pause(told.failures + 1)
        log.warning("modality not told of storage commitment", reason=str(error), gives_up=late, **told.log_context())
        try:
            self._requests.record_report_failed(told, error=str(error), retry_at=retry_at)
        except StaleAttemptError:
            log.warning("storage commitment report taken over", **told.log_context())


def report_contexts() -> list[PresentationContext]:
    """Verification beside it, which every application has: so an association says what is not offered."""
    return [build_context(VERIFICATION), commitment_context()]


def tell(association: Association, report: CommitmentReport, who: str) -> None:
    """Send an N-EVENT-REPORT, and wait for the answer.

    Raises:
        RefusedError: the answer is a failure.
        UnreachableError: there was no answer.
    """
    event_type, event = report_data_set(report)
    report_of = (event, event_type, SOP_CLASS, SOP_INSTANCE)
    status = send_event_report(association, *report_of, who=who, what="storage commitment report")
    if status != SUCCESS:
        raise RefusedError(f"{who} answered the storage commitment report with status 0x{status:04X}")
