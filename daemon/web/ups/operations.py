"""The table of the Worklist Service: paths, parameters, payloads and responses (PS3.18 Tables 11.1.1-1 and 11.3-1)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final, NamedTuple

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.daemon.web.operations import PROBLEM, Answered, Content, Operation, Parameter, Payload
from cxr_triage.daemon.web.schemas import CLAIM, NEW_WORKITEM, named
from cxr_triage.daemon.web.ups import meanings, transactions, xml_model
from cxr_triage.daemon.web.ups.attributes import Model
from cxr_triage.daemon.web.ups.calls import AE_LENGTH, AE_PATTERN, UID_LENGTH, UID_PATTERN
from cxr_triage.daemon.web.ups.endpoint import Guard, Transaction, endpoint
from cxr_triage.daemon.web.ups.meanings import Meanings
from cxr_triage.daemon.web.ups.media_types import JSON, MANY, MULTIPART, ONE, XML
from cxr_triage.daemon.web.ups.queries import EMPTY_VALUES, UNSUPPORTED
from cxr_triage.storage.step_records import FILTERED_GLOBAL_SUBSCRIPTION, GLOBAL_SUBSCRIPTION

_UID: Final = {"type": "string", "pattern": f"^{UID_PATTERN}$", "maxLength": UID_LENGTH}
_AE: Final = {"type": "string", "pattern": f"^{AE_PATTERN}$", "maxLength": AE_LENGTH}
_TRUTH: Final = {"type": "boolean"}
_UNSIGNED: Final = {"type": "integer", "minimum": 0, "maximum": 10**9 - 1}

_WORKITEM: Final = Parameter(name="workitem", within="path", description="UID of the Workitem.", schema=_UID)
_RESOURCE: Final = Parameter(
    name="workitem",
    within="path",
    description="UID of the Workitem; 1.2.840.10008.5.1.4.34.5 for the Worklist, 1.2.840.10008.5.1.4.34.5.1 for the "
    "Filtered Worklist.",
    schema=_UID,
)
_ANY_WORKLIST: Final = Parameter(
    name="workitem",
    within="path",
    description="1.2.840.10008.5.1.4.34.5 for the Worklist, 1.2.840.10008.5.1.4.34.5.1 for the Filtered Worklist.",
    schema={"type": "string", "enum": [GLOBAL_SUBSCRIPTION, FILTERED_GLOBAL_SUBSCRIPTION]},
)
_SUBSCRIBER: Final = Parameter(name="aetitle", within="path", description="AE title of who is told.", schema=_AE)
_REQUESTER: Final = Parameter(name="requester", within="path", description="AE title of who asks.", schema=_AE)


def _query(name: str, description: str, schema: Mapping[str, object]) -> Parameter:
    return Parameter(name=name, within="query", description=description, schema=schema)


_CHARSET: Final = _query("charset", "Character set of the response.", {"type": "string", "enum": ["utf-8"]})
_ATTRIBUTES: Final = Parameter(
    name="attributes",
    within="query",
    description="Attributes to match, by keyword or tag, in sequences with a dot between; a list of UIDs has commas.",
    schema={"type": "object", "additionalProperties": {"type": "string"}},
)

_DATA_SET: Final = named("DataSet")
_DATA_SETS: Final = {"type": "array", "items": _DATA_SET}
_ONE_DATA_SET: Final = {**_DATA_SETS, "minItems": 1, "maxItems": 1}
_REPORT: Final = Payload(content={PROBLEM: Content(schema=named("Problem"))})
_WORKITEM_OUT: Final = Payload(content={JSON: Content(schema=_ONE_DATA_SET), XML: Content()})
_WORKITEMS_OUT: Final = Payload(content={JSON: Content(schema=_DATA_SETS), MULTIPART: Content()})


def _in(name: str, example: Model, *, required: bool = True) -> Payload:
    """A payload of a request, in either media type."""
    as_xml = Content(example=xml_model.write(example).decode())
    return Payload(content={JSON: Content(schema=named(name), example=example), XML: as_xml}, required=required)


_NEW: Final = _in("NewWorkitem", NEW_WORKITEM)
_CHANGES: Final = _in("DataSet", {"00741204": {"vr": "LO", "Value": ["Read chest radiograph first"]}})
_STATE_IN: Final = _in("ChangeOfState", CLAIM)
_REASON: Final = _in("DataSet", {"00741238": {"vr": "LT", "Value": ["Taken twice"]}}, required=False)

#: Responses that no transaction decides on.
_ALWAYS: Final = {
    HTTPStatus.BAD_REQUEST: "the request is wrong",
    HTTPStatus.FORBIDDEN: "a page of another site asks",
    HTTPStatus.MISDIRECTED_REQUEST: "the host is not this machine's name",
    HTTPStatus.SERVICE_UNAVAILABLE: "the database was not reached: nothing has changed",
}
_WITH_PAYLOAD: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the payload is too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "the payload is in another media type",
}
_NEGOTIATED: Final = {HTTPStatus.NOT_ACCEPTABLE: "there is no acceptable media type or character set"}


class Row(NamedTuple):
    """One transaction of the table."""

    name: str
    method: str
    path: str
    clause: str
    summary: str
    transaction: Transaction
    meanings: Meanings
    parameters: Sequence[Parameter] = ()
    takes: Payload | None = None
    gives: Payload | None = None
    #: Successes that the transaction decides on by itself.
    successes: Mapping[HTTPStatus, str] = {}
    #: Header fields of a success.
    headers: Mapping[str, str] = {}


_STATE: Final = Transaction(perform=transactions.change_state, takes=True)
_CANCEL: Final = Transaction(perform=transactions.request_cancellation, takes=None)
#: All of it; a path ending in {requester} is that of its neighbour, for those who say who they are.
ROWS: Final = (
    Row(
        "createWorkitem",
        "POST",
        "/workitems",
        "PS3.18 11.4",
        "Create a Workitem",
        Transaction(perform=transactions.create, takes=True),
        meanings.CREATE,
        (_query("workitem", "UID of the new Workitem; also as `?UID` alone, or in the payload.", _UID),),
        _NEW,
        headers={"Location": "the new Workitem"},
    ),
    Row(
        "searchWorkitems",
        "GET",
        "/workitems",
        "PS3.18 11.9",
        "Search for Workitems, the one to be read first at the front",
        Transaction(perform=transactions.search, gives=MANY),
        meanings.SEARCH,
        (
            _query("includefield", "Attributes to return, with commas between, or `all`.", {"type": "string"}),
            _query("limit", "Most Workitems to return.", _UNSIGNED),
            _query("offset", "Workitems to skip.", _UNSIGNED),
            _query(EMPTY_VALUES, "Whether two quotation marks stand for an empty value.", _TRUTH),
            *(_query(name, "Not supported: answered with a Warning.", _TRUTH) for name in UNSUPPORTED),
            _query("accept", "Media type of the response.", {"type": "string", "enum": [JSON]}),
            _CHARSET,
            _ATTRIBUTES,
        ),
        gives=_WORKITEMS_OUT,
        successes={
            HTTPStatus.OK: "all that matches, from the offset on",
            HTTPStatus.NO_CONTENT: "nothing matches",
            HTTPStatus.PARTIAL_CONTENT: "a page of what matches",
        },
        headers={transactions.LIST_VERSION: "version of the reading list: equal versions, equal order"},
    ),
    Row(
        "retrieveWorkitem",
        "GET",
        "/workitems/{workitem}",
        "PS3.18 11.5",
        "Retrieve a Workitem",
        Transaction(perform=transactions.retrieve, gives=ONE),
        meanings.RETRIEVE,
        (
            _WORKITEM,
            _query("accept", "Media type of the response.", {"type": "string", "enum": [JSON, XML]}),
            _CHARSET,
        ),
        gives=_WORKITEM_OUT,
    ),
    Row(
        "updateWorkitem",
        "POST",
        "/workitems/{workitem}",
        "PS3.18 11.6",
        "Set attributes of a Workitem",
        Transaction(perform=transactions.update, takes=True),
        meanings.UPDATE,
        (_WORKITEM, _query("transaction-uid", "The performer's Transaction UID; also as `?UID` alone.", _UID)),
        _CHANGES,
    ),
    Row(
        "changeWorkitemState",
        "PUT",
        "/workitems/{workitem}/state",
        "PS3.18 11.7",
        "Claim, complete or cancel a Workitem",
        _STATE,
        meanings.CHANGE_STATE,
        (_WORKITEM,),
        _STATE_IN,
    ),
    Row(
        "changeWorkitemStateAs",
        "PUT",
        "/workitems/{workitem}/state/{requester}",
        "PS3.18 11.7",
        "The same, by who says who asks: cancellation requests then reach the performer",
        _STATE,
        meanings.CHANGE_STATE,
        (_WORKITEM, _REQUESTER),
        _STATE_IN,
    ),
    Row(
        "requestCancellation",
        "POST",
        "/workitems/{workitem}/cancelrequest",
        "PS3.18 11.8",
        "Ask that a Workitem be cancelled",
        _CANCEL,
        meanings.CANCEL,
        (_WORKITEM,),
        _REASON,
    ),
    Row(
        "requestCancellationAs",
        "POST",
        "/workitems/{workitem}/cancelrequest/{requester}",
        "PS3.18 11.8",
        "The same, by who says who asks",
        _CANCEL,
        meanings.CANCEL,
        (_WORKITEM, _REQUESTER),
        _REASON,
    ),
    Row(
        "subscribe",
        "POST",
        "/workitems/{workitem}/subscribers/{aetitle}",
        "PS3.18 11.10",
        "Subscribe to the events of a Workitem, of the Worklist or of a part of it",
        Transaction(perform=transactions.subscribe),
        meanings.SUBSCRIBE,
        (
            _RESOURCE,
            _SUBSCRIBER,
            _query("deletionlock", "Whether Workitems are to be kept; always granted.", _TRUTH),
            _query("filter", "Of the Filtered Worklist: `attribute=value`, with commas between.", {"type": "string"}),
        ),
        headers={"Content-Location": "the WebSocket that events are sent by"},
    ),
    Row(
        "unsubscribe",
        "DELETE",
        "/workitems/{workitem}/subscribers/{aetitle}",
        "PS3.18 11.11",
        "End a subscription",
        Transaction(perform=transactions.unsubscribe),
        meanings.UNSUBSCRIBE,
        (_RESOURCE, _SUBSCRIBER),
    ),
    Row(
        "suspendGlobalSubscription",
        "POST",
        "/workitems/{workitem}/subscribers/{aetitle}/suspend",
        "PS3.18 11.12",
        "Subscribe to no further Workitems",
        Transaction(perform=transactions.suspend),
        meanings.UNSUBSCRIBE,
        (_ANY_WORKLIST, _SUBSCRIBER),
    ),
)


def operations(steps: ProcedureSteps, guard: Guard, subscribers: Sequence[str]) -> list[Operation]:
    """Give the Worklist Service's part of the table of what can be asked for.

    Args:
        steps: the worklist.
        guard: whose requests are answered.
        subscribers: AE titles that may be subscribed.
    """
    told = replace(_SUBSCRIBER, schema={"type": "string", "enum": list(subscribers)}) if subscribers else _SUBSCRIBER
    return [
        Operation(
            name=row.name,
            method=row.method,
            path=row.path,
            summary=row.summary,
            clause=row.clause,
            parameters=[told if each is _SUBSCRIBER else each for each in row.parameters],
            takes=row.takes,
            answers=dict(sorted(_answers(row))),
            endpoint=endpoint(row.transaction, steps, guard),
        )
        for row in ROWS
    ]


def _answers(row: Row) -> Iterator[tuple[HTTPStatus, Answered]]:
    failures = dict(_ALWAYS)
    failures |= _WITH_PAYLOAD if row.takes else {}
    failures |= _NEGOTIATED if row.gives else {}
    successes = dict(row.successes)
    for meaning in row.meanings.values():
        if meaning.is_success:
            successes.setdefault(meaning.code, "done")
        else:
            failures.setdefault(meaning.code, meaning.code.description or meaning.code.phrase)
    for code, text in successes.items():
        payload = None if code is HTTPStatus.NO_CONTENT else row.gives
        yield code, Answered(description=text, payload=payload, headers=row.headers)
    for code, text in failures.items():
        yield code, Answered(description=text, payload=_REPORT)
