"""Storage Commitment as SCU: each destination is asked to commit to what it has stored (PS3.4 J.3.2).

A request is written down before it is sent, so that whatever becomes of this process, its objects are asked for again.
The report comes on the same association while that is open, or on one that the PACS opens to our DICOM port.
"""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.commitment.messages import (
    REQUEST_STORAGE_COMMITMENT,
    RESOURCE_LIMITATION,
    SOP_CLASS,
    SOP_INSTANCE,
    SUCCESS,
    commitment_context,
    request_data_set,
)
from cxr_triage.daemon.commitment.reports import Persistence, ReportTaker
from cxr_triage.daemon.dicom_client import Peer, connected
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.lookout import Lookout
from cxr_triage.daemon.setting_peers import DeliverSettings
from cxr_triage.model.errors import RefusedError, UnreachableError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import CommitmentRequest, Subject
from cxr_triage.storage.ledger import Commitments

log = get_logger(__name__)

#: Objects per request.
BATCH: Final = 100
#: How often to look whether the report has come while the association is held open for it, seconds.
LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """When a destination is asked, and how long it may take."""

    #: How often to look for work when nobody rings.
    poll: timedelta = timedelta(seconds=2)
    #: How long an object has been stored before it is asked for.
    settle: timedelta = timedelta(seconds=30)
    #: How long the association stays open for the report.
    wait: timedelta = timedelta(seconds=5)
    #: When to ask again without a report, or after a refusal.
    retry: timedelta = timedelta(hours=6)
    #: After a failure to reach it.
    persistence: Persistence = field(default_factory=Persistence)

    @classmethod
    def of(cls, deliver: DeliverSettings) -> "Pace":
        """Take it from the settings."""
        return cls(
            poll=timedelta(seconds=deliver.poll_seconds),
            settle=timedelta(seconds=deliver.commitment_delay_seconds),
            wait=timedelta(seconds=deliver.commitment_wait_seconds),
            retry=timedelta(hours=deliver.commitment_retry_hours),
            persistence=Persistence.of(deliver),
        )


class Asker(Lookout):
    """Asks one destination to commit to what is due."""

    def __init__(
        self,
        *,
        destination: str,
        peer: Peer,
        commitments: Commitments,
        owner_id: str,
        pace: Pace,
        subjects: Collection[Subject],
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(poll=pace.poll, destination=destination)
        self._destination = destination
        self._peer = peer
        self._commitments = commitments
        self._owner_id = owner_id
        self._pace = pace
        self._subjects = subjects
        self._clock = clock
        self._taker = ReportTaker(commitments, persistence=pace.persistence, on_taken=self.wake, clock=clock)
        #: In a row, of the destination as a whole.
        self._failures = 0
        #: By time.monotonic: the destination is left alone until then.
        self._resume_at = 0.0

    def look(self, stop: threading.Event) -> bool:
        """See `Lookout`."""
        return self.ask(stop)

    def ask(self, stop: threading.Event) -> bool:
        """Ask for what is due, in one request; returns whether anything was.

        Raises:
            StorageError: the ledger could not be reached.
        """
        if time.monotonic() < self._resume_at:
            return False
        request = self._commitments.plan(
            self._owner_id,
            self._destination,
            limit=BATCH,
            settle=self._pace.settle,
            subjects=self._subjects,
        )
        if request is None:
            return False
        try:
            self._send(request, stop)
        except RefusedError as error:
            self._leave_alone(self._pace.retry)
            log.warning("storage commitment refused", reason=str(error), **request.log_context())
            self._commitments.record_refused(request, error=str(error), retry_at=self._clock() + self._pace.retry)
        except UnreachableError as error:
            self._failures += 1
            pause = self._pace.persistence.pause(self._failures)
            self._leave_alone(pause)
            log.warning("storage commitment not answered", reason=str(error), **request.log_context())
            self._commitments.record_unanswered(request, error=str(error), retry_at=self._clock() + pause)
        else:
            self._failures = 0
        return True

    def _send(self, request: CommitmentRequest, stop: threading.Event) -> None:
        """Send the request over an association of its own, and hold that open for a while.

        Raises:
            RefusedError: the destination does not do it.
            UnreachableError: nobody knows whether it does.
        """
        conversation = _Conversation(self._taker, self._destination)
        with connected(self._peer, request_contexts(), handlers=conversation.handlers) as association:
            require_offer(association, self._peer)
            action(association, request, self._peer)
            log.info("storage commitment requested", **request.log_context())
            self._commitments.record_requested(request, report_until=self._clock() + self._pace.retry)
            self._await_report(association, request, stop)
            conversation.finish(LOOK_SECONDS)

    def _await_report(self, association: Association, request: CommitmentRequest, stop: threading.Event) -> None:
        deadline = time.monotonic() + self._pace.wait.total_seconds()
        while (left := deadline - time.monotonic()) > 0 and association.is_established and not stop.is_set():
            if not self._commitments.is_open(request):
                return
            self._wake.wait(min(left, LOOK_SECONDS))
            self._wake.clear()

    def _leave_alone(self, pause: timedelta) -> None:
        self._resume_at = time.monotonic() + pause.total_seconds()


class _Conversation:
    """Takes the reports that come on an association of ours, and knows whether the last one was answered."""

    def __init__(self, taker: ReportTaker, destination: str) -> None:
        self._taker = taker
        self._destination = destination
        self._answered = threading.Event()
        self._answered.set()

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What the association calls."""
        return [(evt.EVT_N_EVENT_REPORT, self._take), (evt.EVT_PDU_SENT, self._note_answer)]

    def finish(self, seconds: float) -> None:
        """Let the answer to a report that has been recorded leave before the association ends."""
        self._answered.wait(seconds)

    def _take(self, event: Event) -> tuple[int, None]:
        self._answered.clear()
        return self._taker.take(event, {self._destination}), None

    def _note_answer(self, event: Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            self._answered.set()


def action(association: Association, request: CommitmentRequest, peer: Peer) -> None:
    """Send the N-ACTION of a request, and wait for the answer.

    Raises:
        RefusedError: the answer is a failure.
        UnreachableError: there was no answer, or one that may be another one later.
    """
    try:
        answer, _ = association.send_n_action(
            request_data_set(request.transaction_uid, request.references),
            REQUEST_STORAGE_COMMITMENT,
            SOP_CLASS,
            SOP_INSTANCE,
        )
    except RuntimeError as error:
        # pynetdicom's word for an association that ended between our look and its own.
        raise UnreachableError(f"{peer} ended the association before the request was sent") from error
    if "Status" not in answer:
        raise UnreachableError(f"{peer} gave no answer to the request for storage commitment")
    if answer.Status == RESOURCE_LIMITATION:
        raise UnreachableError(f"{peer} is out of resources (status 0x{answer.Status:04X})")
    if answer.Status != SUCCESS:
        raise RefusedError(f"{peer} answered the request for storage commitment with status 0x{answer.Status:04X}")


def verify_offer(peer: Peer) -> None:
    """Look whether a destination offers storage commitment.

    Raises:
        UnreachableError: no association.
        RefusedError: an association, but not for this.
    """
    with connected(peer, request_contexts()) as association:
        require_offer(association, peer)


def require_offer(association: Association, peer: Peer) -> None:
    """Insist that the peer takes requests for storage commitment.

    Raises:
        RefusedError: it does not.
    """
    if not any(context.abstract_syntax == SOP_CLASS and context.as_scu for context in association.accepted_contexts):
        raise RefusedError(f"{peer} does not offer storage commitment: switch it on there, or off here")


def request_contexts() -> list[PresentationContext]:
    """Verification beside it, which every application has: so an association says what is not offered."""
    return [build_context(VERIFICATION), commitment_context()]
