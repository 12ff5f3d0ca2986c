"""What our DICOM port does for storage commitment: PACS report to it, and modalities ask.

Whoever calls is offered no more than concerns it: a destination that we ask may report (it is SCP, PS3.7 D.3.3.4),
and where `dicom.commitment` is on, anybody may ask (it is SCU), though only modalities with an address are served.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Final
from weakref import WeakKeyDictionary

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import N_ACTION_RSP
from pynetdicom.dimse_primitives import N_ACTION
from pynetdicom.events import Event, EventHandlerType

from cxr_triage.daemon.commitment.messages import (
    ACTION_ANSWERS,
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION_TYPE,
    NO_SUCH_SOP_INSTANCE,
    NOT_AUTHORISED,
    REQUEST_STORAGE_COMMITMENT,
    RESOURCE_LIMITATION,
    SOP_INSTANCE,
    SUCCESS,
    UnusableMessageError,
    commitment_context,
    read_request,
)
from cxr_triage.daemon.commitment.reporting import tell
from cxr_triage.daemon.commitment.reports import Persistence, ReportTaker
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import DELIVER, RECEIVE
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import DeliveryError, StaleAttemptError, StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.commitment_records import ModalityReport, ModalityRequest
from cxr_triage.storage.database import Database
from cxr_triage.storage.ledger import Commitments, ModalityCommitments
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: A modality that has not hung up so long after the answer waits for the result on the same association. One that
#: releases at once is told on another: a report that crosses its release would keep both sides waiting.
GRACE_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.05


class ModalityDesk:
    """Takes what modalities ask, and tells them at once what is decided already."""

    def __init__(
        self,
        requests: ModalityCommitments,
        *,
        modalities: Sequence[str],
        owner_id: str,
        on_taken: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        self._requests = requests
        self._modalities = frozenset(modalities)
        self._owner_id = owner_id
        self._on_taken = on_taken
        self._clock = clock
        #: Results that stand, to be told once the answer to the N-ACTION has left.
        self._standing: WeakKeyDictionary[Association, list[ModalityReport]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(thread_name_prefix="commitment")

    def take(self, event: Event, calling_ae_title: str) -> Dataset:
        """Take an N-ACTION; success means that the request has reached the disk. Gives the elements of the answer."""
        try:
            self._require_right(event, calling_ae_title)
            self._record(event, calling_ae_title)
        except UnusableMessageError as error:
            return _refused(calling_ae_title, error.status, str(error))
        except StorageError as error:
            log.exception("storage commitment request not recorded", exc_info=error)
            return _refused(calling_ae_title, RESOURCE_LIMITATION, "it could not be recorded: ask again")
        except Exception:  # noqa: BLE001 - pydicom raises whatever it meets in hostile bytes
            return _refused(calling_ae_title, INVALID_ARGUMENT_VALUE, "it cannot be read")
        return _answer(SUCCESS)

    def note_sent(self, event: Event) -> None:
        """The answer to an N-ACTION is leaving: what is decided already may follow it."""
        if not isinstance(event.message, N_ACTION_RSP):
            return
        with self._lock:
            standing = self._standing.pop(event.assoc, [])
        for told in standing:
            self._pool.submit(self._tell_here, event.assoc, told).add_done_callback(_log_failure)

    def close(self) -> None:
        """Finish what is being told."""
        self._pool.shutdown(wait=True)

    def _require_right(self, event: Event, calling_ae_title: str) -> None:
        request = event.request
        assert isinstance(request, N_ACTION)
        if calling_ae_title not in self._modalities:
            raise UnusableMessageError("no address is configured for this calling AE title", NOT_AUTHORISED)
        if request.RequestedSOPInstanceUID != SOP_INSTANCE:
            raise UnusableMessageError("it is not for the well-known SOP instance", NO_SUCH_SOP_INSTANCE)
        if event.action_type != REQUEST_STORAGE_COMMITMENT:
            raise UnusableMessageError("its action type is unknown", NO_SUCH_ACTION_TYPE)

    def _record(self, event: Event, calling_ae_title: str) -> None:
        transaction_uid, references = read_request(event.action_information)
        request = ModalityRequest(
            transaction_uid=transaction_uid,
            calling_ae_title=calling_ae_title,
            references=references,
            received_at=self._clock(),
        )
        told = self._requests.record_request(request, self._owner_id)
        log.info("storage commitment asked by a modality", decided=told is not None, **request.log_context())
        if told is None:
            self._on_taken()
            return
        with self._lock:
            self._standing.setdefault(event.assoc, []).append(told)

    def _tell_here(self, association: Association, told: ModalityReport) -> None:
        try:
            if self._stays(association):
                self._tell(association, told)
            else:
                self._requests.put_back(told)
        except StaleAttemptError:
            log.warning("storage commitment report taken over", **told.log_context())
        except StorageError as error:
            # Its lease runs out, and the deliver role tells it.
            log.exception("ledger not reached", calling_ae_title=told.calling_ae_title, exc_info=error)
        self._on_taken()

    def _stays(self, association: Association) -> bool:
        deadline = time.monotonic() + GRACE_SECONDS
        while association.is_established and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        return association.is_established

    def _tell(self, association: Association, told: ModalityReport) -> None:
        try:
            tell(association, told.report, told.calling_ae_title)
        except DeliveryError as error:
            log.warning("modality not told of storage commitment", reason=str(error), **told.log_context())
            self._requests.record_report_failed(told, error=str(error), retry_at=self._clock())
        else:
            self._requests.record_reported(told)
            log.info("modality told of storage commitment", **told.log_context())


class CommitmentPort:
    """The part of our DICOM port that is about storage commitment."""

    def __init__(
        self,
        *,
        taker: ReportTaker,
        reporters: Mapping[str, frozenset[str]],
        desk: ModalityDesk | None,
        allowed_ae_titles: Sequence[str] = (),
    ) -> None:
        """Make it.

        Args:
            taker: of reports.
            reporters: the destinations that each calling AE title may report for.
            desk: of requests; None: modalities may not ask.
            allowed_ae_titles: who may send images; empty: anybody.
        """
        self._taker = taker
        self._reporters = reporters
        self._desk = desk
        self._allowed = tuple(allowed_ae_titles)

    @property
    def calling_ae_titles(self) -> tuple[str, ...]:
        """Who may open an association; empty: anybody."""
        return tuple(dict.fromkeys((*self._allowed, *self._reporters))) if self._allowed else ()

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What the server calls."""
        handlers: list[EventHandlerType] = [
            (evt.EVT_REQUESTED, self._offer),
            (evt.EVT_N_EVENT_REPORT, self._take_report),
            (evt.EVT_N_ACTION, self._take_request),
        ]
        if self._desk is not None:
            handlers.append((evt.EVT_DIMSE_SENT, self._desk.note_sent))
        return handlers

    def _offer(self, event: Event) -> None:
        """Add storage commitment to what this caller is offered, in the roles that it may have."""
        title, acceptor = _calling_ae_title(event), event.assoc.acceptor
        contexts = acceptor.supported_contexts
        if self._allowed and title not in self._allowed:
            contexts = [build_context(VERIFICATION)]
        may_ask, may_report = self._desk is not None, title in self._reporters
        if may_ask or may_report:
            contexts = [*contexts, commitment_context(scu_role=may_ask, scp_role=may_report)]
        acceptor.supported_contexts = contexts

    def _take_report(self, event: Event) -> tuple[int, None]:
        return self._taker.take(event, self._reporters.get(_calling_ae_title(event), frozenset())), None

    def _take_request(self, event: Event) -> tuple[Dataset, None]:
        title = _calling_ae_title(event)
        if self._desk is None:
            return _refused(title, NOT_AUTHORISED, "modalities may not ask here"), None
        return self._desk.take(event, title), None


@contextmanager
def commitment_port(settings: Settings, database: Database) -> Iterator[CommitmentPort | None]:
    """Give what the settings ask for; None: nothing."""
    reporters = _reporters(settings)
    if not reporters:  # nobody is asked, and so nobody may ask us
        yield None
        return
    lease = timedelta(seconds=settings.deliver.lease_seconds)
    wake = partial(ring, settings.run_folder, DELIVER)
    clock = ServiceClock.of(settings.run_folder)
    taker = ReportTaker(
        Commitments(database, lease=lease, clock=clock),
        persistence=Persistence.of(settings.deliver),
        on_taken=wake,
        clock=clock,
    )
    owner = Owner.take(settings.run_folder, RECEIVE)
    desk = (
        ModalityDesk(
            ModalityCommitments(database, lease=lease, clock=clock),
            modalities=[modality.ae_title for modality in settings.modality],
            owner_id=owner.id,
            on_taken=wake,
            clock=clock,
        )
        if settings.dicom.commitment
        else None
    )
    try:
        yield CommitmentPort(
            taker=taker, reporters=reporters, desk=desk, allowed_ae_titles=settings.dicom.allowed_ae_titles
        )
    finally:
        if desk is not None:
            desk.close()
        owner.release()


def _reporters(settings: Settings) -> dict[str, frozenset[str]]:
    """The destinations that we ask, by the AE title under which they report."""
    asked = [each for each in settings.destinations if each.name in settings.asked_for_commitment]
    titles = {each.ae_title for each in asked}
    return {title: frozenset(each.name for each in asked if each.ae_title == title) for title in titles}


def _calling_ae_title(event: Event) -> str:
    requestor = event.assoc.requestor
    return str(requestor.primitive.calling_ae_title).strip() if requestor.primitive else ""


def _answer(status: int, comment: str = "") -> Dataset:
    assert status in ACTION_ANSWERS
    elements = Dataset()
    elements.Status = status
    if comment:
        elements.ErrorComment = comment[:64]  # VR LO
    return elements


def _refused(calling_ae_title: str, status: int, comment: str) -> Dataset:
    log.warning(
        "storage commitment request refused",
        calling_ae_title=calling_ae_title,
        status=f"0x{status:04X}",
        reason=comment,
    )
    return _answer(status, comment)


def _log_failure(told: Future[None]) -> None:
    if (error := told.exception()) is not None:
        log.error("storage commitment report failed", exc_info=error)
