"""What each DIMSE status of a procedure step is over HTTP, by transaction: status code and Warning (PS3.18 11.4-11.12).

Where PS3.18 names two codes for one fault, 400 says that the request is wrong whatever the Workitem's state, 409 that
it would have been right in another state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from cxr_triage.daemon.ups import statuses


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """A response without its payload."""

    code: HTTPStatus
    #: Text of a Warning header field; empty: there is none.
    warning: str = ""

    @property
    def is_success(self) -> bool:
        """Whether what was asked for was done."""
        return self.code < HTTPStatus.BAD_REQUEST


def _as(code: HTTPStatus, warning: str = "") -> Meaning:
    return Meaning(code=code, warning=warning)


_BAD: Final = _as(HTTPStatus.BAD_REQUEST)
_UNKNOWN: Final = _as(HTTPStatus.NOT_FOUND)
_LATER: Final = _as(HTTPStatus.SERVICE_UNAVAILABLE)
_OK: Final = _as(HTTPStatus.OK)

#: PS3.18 Table 11.6.3-2.
_NOT_IN_THIS_STATE: Final = "The submitted request is inconsistent with the current state of the Workitem."
#: PS3.18 Table 11.7.3-2.
NO_TRANSACTION_UID: Final = "The Transaction UID is missing."
WRONG_TRANSACTION_UID: Final = "The Transaction UID is incorrect."
_STATE_CONFLICT: Final = _as(
    HTTPStatus.CONFLICT, "The submitted request is inconsistent with the state of the UPS Instance."
)
_ALREADY_CANCELED: Final = "The UPS is already in the requested state of CANCELED."
_UNSUPPORTED_ATTRIBUTES: Final = "Requested optional Attributes are not supported."

Meanings = Mapping[int, Meaning]

CREATE: Final[Meanings] = {
    statuses.SUCCESS: _as(HTTPStatus.CREATED),
    statuses.CREATED_WITH_MODIFICATIONS: _as(HTTPStatus.CREATED, "The Workitem was created with modifications."),
    statuses.DUPLICATE_SOP_INSTANCE: _as(HTTPStatus.CONFLICT),
    statuses.NO_SUCH_ATTRIBUTE: _BAD,
    statuses.INVALID_ATTRIBUTE_VALUE: _BAD,
    statuses.MISSING_ATTRIBUTE: _BAD,
    statuses.MISSING_ATTRIBUTE_VALUE: _BAD,
    statuses.INVALID_OBJECT_INSTANCE: _BAD,
    statuses.INVALID_ARGUMENT_VALUE: _BAD,
    statuses.NOT_SCHEDULED: _BAD,
    statuses.RESOURCE_LIMITATION: _LATER,
}
RETRIEVE: Final[Meanings] = {
    statuses.SUCCESS: _OK,
    statuses.OPTIONAL_ATTRIBUTES_UNSUPPORTED: _as(HTTPStatus.OK, _UNSUPPORTED_ATTRIBUTES),
    statuses.NO_SUCH_STEP: _UNKNOWN,
    statuses.RESOURCE_LIMITATION: _LATER,
}
#: PS3.18 Table 11.6.3-1 has the final states and the Transaction UID under 400.
UPDATE: Final[Meanings] = {
    statuses.SUCCESS: _OK,
    statuses.NO_SUCH_ATTRIBUTE: _BAD,
    statuses.INVALID_ATTRIBUTE_VALUE: _BAD,
    statuses.MISSING_ATTRIBUTE: _BAD,
    statuses.MISSING_ATTRIBUTE_VALUE: _BAD,
    statuses.INVALID_ARGUMENT_VALUE: _BAD,
    statuses.NO_LONGER_UPDATED: _as(HTTPStatus.BAD_REQUEST, _NOT_IN_THIS_STATE),
    statuses.WRONG_TRANSACTION_UID: _as(HTTPStatus.BAD_REQUEST, WRONG_TRANSACTION_UID),
    statuses.NOT_IN_PROGRESS: _as(HTTPStatus.CONFLICT, "The target URI did not reference a claimed Workitem."),
    statuses.NO_SUCH_STEP: _UNKNOWN,
    statuses.RESOURCE_LIMITATION: _LATER,
}
CHANGE_STATE: Final[Meanings] = {
    statuses.SUCCESS: _OK,
    statuses.ALREADY_CANCELED: _as(HTTPStatus.OK, _ALREADY_CANCELED),
    statuses.ALREADY_COMPLETED: _as(HTTPStatus.OK, "The UPS is already in the requested state of COMPLETED."),
    statuses.INVALID_ARGUMENT_VALUE: _BAD,
    statuses.WRONG_TRANSACTION_UID: _as(HTTPStatus.BAD_REQUEST, WRONG_TRANSACTION_UID),
    statuses.ONLY_CREATE_SCHEDULES: _as(HTTPStatus.BAD_REQUEST, _STATE_CONFLICT.warning),
    statuses.NO_LONGER_UPDATED: _STATE_CONFLICT,
    statuses.ALREADY_IN_PROGRESS: _STATE_CONFLICT,
    statuses.NOT_IN_PROGRESS: _STATE_CONFLICT,
    statuses.FINAL_STATE_NOT_MET: _STATE_CONFLICT,
    statuses.NO_SUCH_STEP: _UNKNOWN,
    statuses.RESOURCE_LIMITATION: _LATER,
}
CANCEL: Final[Meanings] = {
    statuses.SUCCESS: _as(HTTPStatus.ACCEPTED),
    statuses.ALREADY_CANCELED: _as(HTTPStatus.ACCEPTED, _ALREADY_CANCELED),
    statuses.INVALID_ARGUMENT_VALUE: _BAD,
    statuses.COMPLETED_ALREADY: _as(HTTPStatus.CONFLICT, "The UPS is already COMPLETED."),
    statuses.PERFORMER_NOT_REACHED: _as(HTTPStatus.CONFLICT, "The performer cannot be contacted."),
    statuses.NO_SUCH_STEP: _UNKNOWN,
    statuses.RESOURCE_LIMITATION: _LATER,
}
SUBSCRIBE: Final[Meanings] = {
    statuses.SUCCESS: _as(HTTPStatus.CREATED),
    statuses.INVALID_ARGUMENT_VALUE: _BAD,
    statuses.ACTION_NOT_APPROPRIATE: _BAD,
    statuses.UNKNOWN_RECEIVER: _as(HTTPStatus.FORBIDDEN),
    statuses.NO_SUCH_STEP: _UNKNOWN,
    statuses.RESOURCE_LIMITATION: _LATER,
}
UNSUBSCRIBE: Final[Meanings] = {**SUBSCRIBE, statuses.SUCCESS: _OK}
SEARCH: Final[Meanings] = {statuses.RESOURCE_LIMITATION: _LATER}
