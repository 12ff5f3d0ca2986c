"""The procedure steps on the worklist's DICOM port: N-CREATE, N-GET, N-SET, N-ACTION and C-FIND (PS3.4 CC.2)."""

from collections.abc import Callable, Iterator
from typing import Final

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.daemon.worklist.c_find import PENDING, PENDING_WITHOUT_SOME_KEYS, TRANSFER_SYNTAXES
from cxr_triage.daemon.worklist.character_sets import CharacterSets
from cxr_triage.daemon.worklist.matching import IdentifierError, keys
from cxr_triage.model.errors import StorageError

log = get_logger(__name__)

#: PS3.4 Table CC.3-1. Requests name the Push class, under whichever of them the association was made.
PUSH: Final = UID("1.2.840.10008.5.1.4.34.6.1")
WATCH: Final = UID("1.2.840.10008.5.1.4.34.6.2")
PULL: Final = UID("1.2.840.10008.5.1.4.34.6.3")
EVENT: Final = UID("1.2.840.10008.5.1.4.34.6.4")
QUERY: Final = UID("1.2.840.10008.5.1.4.34.6.5")
#: Offered to who calls us. Event is not: subscribers are called, and then we are SCP.
OFFERED: Final = (PUSH, WATCH, PULL, QUERY)

#: Action Type ID, PS3.4 Tables CC.2.1-1, CC.2.2-1 and CC.2.3-2.
CHANGE_STATE: Final = 1
REQUEST_CANCEL: Final = 2
SUBSCRIBE: Final = 3
UNSUBSCRIBE: Final = 4
SUSPEND_GLOBAL: Final = 5

_DELETION_LOCKS: Final = {"TRUE": True, "FALSE": False}


class UpsPort:
    """Answers requests, each with what the service makes of it."""

    def __init__(self, procedure: ProcedureSteps, *, on_change: Callable[[], None]) -> None:
        self._procedure = procedure
        self._on_change = on_change

    @property
    def contexts(self) -> list[PresentationContext]:
        """What a caller is offered."""
        return ups_contexts()

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What the server calls."""
        return [
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_GET, self._get),
            (evt.EVT_N_SET, self._set),
            (evt.EVT_N_ACTION, self._act),
        ]

    def find(self, identifier: Dataset, *, calling_ae_title: str) -> Iterator[tuple[int, Dataset]]:
        """Give the steps that match.

        Raises:
            IdentifierError: the query breaks a rule.
            StorageError: the ledger could not be reached.
        """
        del calling_ae_title
        if not keys(identifier):
            raise IdentifierError(None, "the identifier has no key")
        character_sets = CharacterSets(identifier)
        for attributes, complete in self._procedure.find(identifier):
            del attributes.SpecificCharacterSet  # UTF-8: a station may have asked for another one, or need none
            character_sets.name_in(attributes)
            yield PENDING if complete else PENDING_WITHOUT_SOME_KEYS, attributes

    def _create(self, event: Event) -> tuple[Dataset, Dataset | None]:
        uid = event.request.AffectedSOPInstanceUID  # type: ignore[union-attr] # it is an N-CREATE
        caller = _caller(event)
        answer = self._answered(
            event, lambda: self._procedure.create(uid, _read(lambda: event.attribute_list), caller=caller)
        )
        if uid or answer.attributes is None:
            return _status(answer), None
        made = Dataset()
        made.AffectedSOPInstanceUID = answer.attributes.SOPInstanceUID
        # pynetdicom passes on the UID that we gave with a success only; without it, nobody could speak of the step.
        return _status(Answer(status=statuses.SUCCESS, comment=answer.comment)), made

    def _get(self, event: Event) -> tuple[Dataset, Dataset | None]:
        answer = self._answered(event, lambda: self._procedure.get(_uid(event), event.attribute_identifiers))
        return _status(answer), answer.attributes

    def _set(self, event: Event) -> tuple[Dataset, Dataset | None]:
        def change() -> Answer:
            return self._procedure.modify(
                _uid(event), _read(lambda: event.modification_list), None, caller=_caller(event)
            )

        return _status(self._answered(event, change)), None

    def _act(self, event: Event) -> tuple[Dataset, Dataset | None]:
        actions = {
            CHANGE_STATE: self._change_state,
            REQUEST_CANCEL: self._request_cancel,
            SUBSCRIBE: self._subscribe,
            UNSUBSCRIBE: self._unsubscribe,
            SUSPEND_GLOBAL: self._suspend,
        }
        action = actions.get(event.action_type or 0)
        if action is None:
            return _status(Answer(status=statuses.NO_SUCH_ACTION_TYPE)), None
        answer = self._answered(event, lambda: action(_uid(event), _information(event), _caller(event)))
        return _status(answer), None

    def _change_state(self, uid: str, action: Dataset, caller: str) -> Answer:
        state, transaction = _text(action, "ProcedureStepState"), _text(action, "TransactionUID")
        return self._procedure.change_state(uid, state, transaction or None, caller=caller)

    def _request_cancel(self, uid: str, action: Dataset, caller: str) -> Answer:
        return self._procedure.request_cancel(uid, action, caller=caller)

    def _subscribe(self, uid: str, action: Dataset, caller: str) -> Answer:
        receiver, lock = _text(action, "ReceivingAE"), _DELETION_LOCKS.get(_text(action, "DeletionLock"))
        if not receiver or lock is None:
            return Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="ReceivingAE, DeletionLock")
        del action.ReceivingAE, action.DeletionLock
        return self._procedure.subscribe(uid, receiver, deletion_lock=lock, filter_keys=action, caller=caller)

    def _unsubscribe(self, uid: str, action: Dataset, caller: str) -> Answer:
        return self._procedure.unsubscribe(uid, _text(action, "ReceivingAE"), caller=caller)

    def _suspend(self, uid: str, action: Dataset, caller: str) -> Answer:
        return self._procedure.suspend_global(uid, _text(action, "ReceivingAE"), caller=caller)

    def _answered(self, event: Event, act: Callable[[], Answer]) -> Answer:
        """Do what was asked for; gives an answer whatever comes."""
        try:
            answer = act()
        except StorageError as error:
            log.exception("ledger not reached", exc_info=error)
            answer = Answer(status=statuses.RESOURCE_LIMITATION, comment="ask again")
        except UnreadableError:
            answer = Answer(status=statuses.INVALID_ARGUMENT_VALUE, comment="it cannot be decoded")
        told = {"operation": type(event.request).__name__, "calling_ae_title": _caller(event)}
        if answer.done:
            log.info("procedure step request done", status=f"0x{answer.status:04X}", **told)
            self._on_change()
        else:
            log.warning(
                "procedure step request refused", status=f"0x{answer.status:04X}", reason=answer.comment, **told
            )
        return answer


def ups_contexts() -> list[PresentationContext]:
    """What a caller is offered."""
    return [build_context(each, list(TRANSFER_SYNTAXES)) for each in OFFERED]


class UnreadableError(Exception):
    """A data set cannot be decoded."""


def _information(event: Event) -> Dataset:
    """Action Information, which a request to cancel may come without."""
    request = event.request
    if getattr(request, "ActionInformation", None) is None:
        return Dataset()
    return _read(lambda: event.action_information)


def _read(given: Callable[[], Dataset]) -> Dataset:
    """Decode all of a data set, with its oddities.

    Raises:
        UnreadableError: it cannot be.
    """
    try:
        with config.disable_value_validation():
            attributes = given()
            attributes.walk(lambda _dataset, _element: None)
    except Exception as error:  # pydicom raises whatever it meets in hostile bytes
        raise UnreadableError from error
    return attributes


def _text(action: Dataset, keyword: str) -> str:
    value = action.get(keyword)
    return "" if value is None else str(value).strip()


def _uid(event: Event) -> str:
    return str(event.request.RequestedSOPInstanceUID)  # type: ignore[union-attr] # not an N-CREATE


def _caller(event: Event) -> str:
    requestor = event.assoc.requestor.primitive
    assert requestor is not None
    return str(requestor.calling_ae_title).strip()


def _status(answer: Answer) -> Dataset:
    elements = Dataset()
    elements.Status = answer.status
    if answer.comment:
        elements.ErrorComment = answer.comment[:64]  # VR LO
    return elements
