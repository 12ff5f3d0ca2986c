"""The reading list, in order, for who polls one: Modality Worklist and Study Root FIND as SCP (PS3.4 K and C)."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.answers import Answered
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.ups.port import OFFERED, UpsPort
from cxr_triage.daemon.ups.serving import ups_port
from cxr_triage.daemon.worklist.board import Boards
from cxr_triage.daemon.worklist.c_find import (
    CANCELLED,
    IDENTIFIER_DOES_NOT_MATCH,
    MODALITY_WORKLIST_FIND,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    STUDY_ROOT_FIND,
    SUCCESS,
    TRANSFER_SYNTAXES,
    UNABLE_TO_PROCESS,
)
from cxr_triage.daemon.worklist.finding import Answer, Finder
from cxr_triage.daemon.worklist.flow import count_as_heard, keep_pace
from cxr_triage.daemon.worklist.matching import IdentifierError
from cxr_triage.daemon.worklist.negotiated import agreed_in, answered
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import ReadingList
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: All that a C-FIND is answered with.
ANSWERS: Final = {
    PENDING: Answered("Matches are continuing", "an entry; every key of the query was supported"),
    PENDING_WITHOUT_SOME_KEYS: Answered(
        "Matches are continuing, warning", "an entry; a key of the query is one that no entry has, and was not matched"
    ),
    SUCCESS: Answered("Success", "after the last entry"),
    CANCELLED: Answered("Matching terminated due to Cancel request", "after a C-CANCEL"),
    OUT_OF_RESOURCES: Answered("Refused: Out of Resources", "the database was not reached", "ask again"),
    IDENTIFIER_DOES_NOT_MATCH: Answered(
        "Failed: Data Set does not match SOP Class",
        "a key breaks a rule, or there is none; Offending Element names it, and Error Comment says which rule",
        "correct it",
    ),
    UNABLE_TO_PROCESS: Answered("Failed: Unable to process", "the query cannot be decoded", "correct it"),
}

Response = tuple[int | Dataset, Dataset | None]


class Find(Protocol):
    """Answers a query."""

    def __call__(self, identifier: Dataset, *, calling_ae_title: str) -> Iterator[Answer]:
        """Give what matches.

        Raises:
            IdentifierError: the query breaks a rule.
            StorageError: the ledger could not be reached.
        """


class WorklistRole:
    """The reading list on the network as a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then drain; where the site has not enabled it, only wait."""
        settings = self._settings
        if not settings.worklist.is_open:
            ready()
            stop.wait()
            return
        listener = listening_socket(settings.worklist.host, settings.worklist.port, name="worklist")
        database, clock = open_database(settings.database_url), ServiceClock.of(settings.run_folder)
        try:
            with ups_port(settings, database, clock) as ups:
                boards = Boards(ReadingList(database, clock=clock), settings.policy())
                worklist_server(
                    Finder(boards.now) if settings.worklist.enabled else None,
                    listener=listener,
                    ae_title=settings.worklist.ae_title,
                    limits=_limits(settings),
                    allowed_ae_titles=settings.worklist.allowed_ae_titles,
                    study_root=settings.worklist.study_root,
                    ups=ups,
                ).serve(stop, ready)
        finally:
            database.close()


def worklist_server(
    finder: Finder | None,
    *,
    listener: socket.socket,
    ae_title: str,
    limits: Limits,
    allowed_ae_titles: tuple[str, ...] = (),
    study_root: bool = False,
    ups: UpsPort | None = None,
) -> DicomServer:
    """Put the list behind a listening socket, as SCP: Verification, and what there is something to answer with."""
    return DicomServer(
        ae_title=ae_title,
        listener=listener,
        contexts=[
            *(worklist_contexts(study_root=study_root) if finder else [build_context(VERIFICATION)]),
            *(ups.contexts if ups else []),
        ],
        handlers=[
            (evt.EVT_C_FIND, _answer_find, [_finds(finder, ups)]),
            *([(evt.EVT_SOP_EXTENDED, _negotiate)] if finder and study_root else []),
            *(ups.handlers if ups else []),
        ],
        limits=limits,
        allowed_ae_titles=allowed_ae_titles,
    )


def worklist_contexts(*, study_root: bool) -> list[PresentationContext]:
    """What a station is offered, besides procedure steps."""
    models = [MODALITY_WORKLIST_FIND, STUDY_ROOT_FIND] if study_root else [MODALITY_WORKLIST_FIND]
    return [build_context(VERIFICATION), *(build_context(model, list(TRANSFER_SYNTAXES)) for model in models)]


def _negotiate(event: Event) -> dict[UID, bytes]:
    """Answer what is proposed for Study Root; nothing is for modality worklists that we do."""
    proposals: Mapping[UID, bytes] = event.app_info  # type: ignore[attr-defined] # set for this event alone
    return {model: answered(proposed) for model, proposed in proposals.items() if model == STUDY_ROOT_FIND}


def _finds(finder: Finder | None, ups: UpsPort | None) -> Mapping[UID, Find]:
    """What answers a query, by the SOP class that it is made under."""
    finds: dict[UID, Find] = {}
    if finder is not None:
        finds = {MODALITY_WORKLIST_FIND: finder.worklist, STUDY_ROOT_FIND: finder.studies}
    return finds | (dict.fromkeys(OFFERED, ups.find) if ups else {})


def _answer_find(event: Event, finds: Mapping[UID, Find]) -> Iterator[Response]:
    model = UID(event.context.abstract_syntax)
    find: Callable[..., Iterator[Answer]] = finds[model]
    if model == STUDY_ROOT_FIND:
        find = partial(find, agreed=agreed_in(event.assoc.acceptor.sop_class_extended, model))
    told = {"calling_ae_title": _calling_ae_title(event), "sop_class_uid": str(model)}
    try:
        identifier = _identifier(event)
    except Exception:  # noqa: BLE001 - pydicom raises whatever it meets in hostile bytes
        log.warning("worklist query not understood", **told)
        yield UNABLE_TO_PROCESS, None
        return
    try:
        yield from _at_its_pace(event, find(identifier, calling_ae_title=_calling_ae_title(event)), told)
    except IdentifierError as error:
        log.warning("worklist query refused", reason=str(error), **told)
        yield _refusal(error), None
    except StorageError as error:
        log.exception("ledger not reached", exc_info=error)
        yield OUT_OF_RESOURCES, None


def _at_its_pace(event: Event, found: Iterator[Answer], told: Mapping[str, str]) -> Iterator[Response]:
    """Answer until the end, or until the station has had enough."""
    answers = 0
    for answer in found:
        keep_pace(event.assoc)
        if event.is_cancelled:
            log.info("worklist query cancelled", answers=answers, **told)
            yield CANCELLED, None
            return
        yield answer
        answers += 1
    count_as_heard(event.assoc)
    log.info("worklist read", answers=answers, **told)


def _identifier(event: Event) -> Dataset:
    """Decode the query; what a station writes into it is compared as it is, and never quoted in a warning."""
    with config.disable_value_validation():
        identifier = event.identifier
        identifier.walk(lambda _dataset, _element: None)
    return identifier


def _refusal(error: IdentifierError) -> Dataset:
    """Say which element, and why (PS3.7 9.1.2.1)."""
    status = Dataset()
    status.Status = IDENTIFIER_DOES_NOT_MATCH
    status.ErrorComment = str(error)
    if error.tag is not None:
        status.OffendingElement = [error.tag]
    return status


def _calling_ae_title(event: Event) -> str:
    requestor = event.assoc.requestor.primitive
    assert requestor is not None
    return str(requestor.calling_ae_title)


def _limits(settings: Settings) -> Limits:
    return Limits(
        maximum_associations=settings.worklist.maximum_associations,
        acse_timeout_seconds=settings.dicom.acse_timeout_seconds,
        dimse_timeout_seconds=settings.dicom.dimse_timeout_seconds,
        network_timeout_seconds=settings.dicom.network_timeout_seconds,
        drain_seconds=settings.service.drain_seconds / 2,
    )
