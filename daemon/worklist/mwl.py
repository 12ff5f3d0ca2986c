"""The Modality Worklist SCP: the reading list, in order, for stations that can only poll one (PS3.4 Annex K)."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.answers import Answered
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.worklist.entries import entry
from cxr_triage.daemon.worklist.matching import matches, select
from cxr_triage.model.errors import StorageError
from cxr_triage.model.priority import Policy, rank
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import ReadingList
from cxr_triage.storage.records import ListedStudy
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: PS3.4 Table K.5-1.
MODALITY_WORKLIST_FIND: Final = UID("1.2.840.10008.5.1.4.31")

#: PS3.4 Table K.4-1.
SUCCESS: Final = 0x0000
PENDING: Final = 0xFF00
PENDING_WITHOUT_SOME_KEYS: Final = 0xFF01
CANCELLED: Final = 0xFE00
OUT_OF_RESOURCES: Final = 0xA700
UNABLE_TO_PROCESS: Final = 0xC000
#: All that a C-FIND is answered with.
ANSWERS: Final = {
    PENDING: Answered("Matches are continuing", "an entry; every key of the query was supported"),
    PENDING_WITHOUT_SOME_KEYS: Answered(
        "Matches are continuing, warning", "an entry; a key of the query is one that no entry has, and was not matched"
    ),
    SUCCESS: Answered("Success", "after the last entry"),
    CANCELLED: Answered("Matching terminated due to Cancel request", "after a C-CANCEL"),
    OUT_OF_RESOURCES: Answered("Refused: Out of Resources", "the database was not reached", "ask again"),
    UNABLE_TO_PROCESS: Answered("Failed: Unable to process", "the query cannot be decoded", "correct it"),
}
#: In the order of our preference.
TRANSFER_SYNTAXES: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

Response = tuple[int, Dataset | None]


class Worklist:
    """Answers queries from the reading list as it is at that instant."""

    def __init__(self, *, studies: Callable[[], Sequence[ListedStudy]], policy: Policy, clock: Clock = utc_now) -> None:
        self._studies = studies
        self._policy = policy
        self._clock = clock

    def find(self, identifier: Dataset, *, calling_ae_title: str) -> Iterator[Response]:
        """Give what matches, the study to be read first at the front.

        C-FIND promises no order, and a station may sort as it likes; one that shows answers as they come shows ours.

        Raises:
            StorageError: the ledger could not be reached.
        """
        for ranked in rank(self._studies(), now=self._clock(), policy=self._policy):
            known = entry(ranked, station_ae_title=calling_ae_title)
            if matches(identifier, known):
                answer, complete = select(identifier, known)
                answer.add(known["SpecificCharacterSet"])
                yield PENDING if complete else PENDING_WITHOUT_SOME_KEYS, answer


class WorklistRole:
    """The modality worklist as a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then drain; where the site has not enabled it, only wait."""
        settings = self._settings
        if not settings.worklist.enabled:
            ready()
            stop.wait()
            return
        listener = listening_socket(settings.worklist.host, settings.worklist.port, name="worklist")
        database, clock = open_database(settings.database_url), ServiceClock.of(settings.run_folder)
        try:
            worklist_server(
                Worklist(studies=ReadingList(database, clock=clock).studies, policy=settings.policy(), clock=clock),
                listener=listener,
                ae_title=settings.worklist.ae_title,
                limits=_limits(settings),
                allowed_ae_titles=settings.worklist.allowed_ae_titles,
            ).serve(stop, ready)
        finally:
            database.close()


def worklist_server(
    worklist: Worklist,
    *,
    listener: socket.socket,
    ae_title: str,
    limits: Limits,
    allowed_ae_titles: tuple[str, ...] = (),
) -> DicomServer:
    """Put a worklist behind a listening socket: Modality Worklist and Verification as SCP."""
    return DicomServer(
        ae_title=ae_title,
        listener=listener,
        contexts=worklist_contexts(),
        handlers=[(evt.EVT_C_FIND, _answer_find, [worklist])],
        limits=limits,
        allowed_ae_titles=allowed_ae_titles,
    )


def worklist_contexts() -> list[PresentationContext]:
    """What a station is offered."""
    return [build_context(VERIFICATION), build_context(MODALITY_WORKLIST_FIND, list(TRANSFER_SYNTAXES))]


def _answer_find(event: Event, worklist: Worklist) -> Iterator[Response]:
    requestor = event.assoc.requestor.primitive
    assert requestor is not None
    answers = 0
    try:
        identifier = _identifier(event)
    except Exception:  # noqa: BLE001 - pydicom raises whatever it meets in hostile bytes
        log.warning("worklist query not understood", calling_ae_title=requestor.calling_ae_title)
        yield UNABLE_TO_PROCESS, None
        return
    try:
        for response in worklist.find(identifier, calling_ae_title=requestor.calling_ae_title):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield response
            answers += 1
    except StorageError as error:
        log.exception("ledger not reached", exc_info=error)
        yield OUT_OF_RESOURCES, None
    log.info("worklist read", answers=answers, calling_ae_title=requestor.calling_ae_title)


def _identifier(event: Event) -> Dataset:
    """Decode the query; what a station writes into it is compared as it is, and never quoted in a warning."""
    with config.disable_value_validation():
        identifier = event.identifier
        identifier.walk(lambda _dataset, _element: None)
    return identifier


def _limits(settings: Settings) -> Limits:
    return Limits(
        maximum_associations=settings.worklist.maximum_associations,
        acse_timeout_seconds=settings.dicom.acse_timeout_seconds,
        dimse_timeout_seconds=settings.dicom.dimse_timeout_seconds,
        network_timeout_seconds=settings.dicom.network_timeout_seconds,
        drain_seconds=settings.service.drain_seconds / 2,
    )
