"""A transaction as an endpoint: read the request within limits, run the transaction, write the response."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from pydicom.dataset import Dataset
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.setting_types import is_loopback
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.daemon.web.operations import Endpoint, problem
from cxr_triage.daemon.web.ups.attributes import MalformedError, data_set, model
from cxr_triage.daemon.web.ups.calls import Call, Outcome
from cxr_triage.daemon.web.ups.media_types import READERS, MediaType, acceptable, reader_of
from cxr_triage.daemon.web.ups.queries import Pairs, parameters, single
from cxr_triage.daemon.worklist.matching import IdentifierError
from cxr_triage.model.errors import StorageError

#: A Workitem with a thousand inputs has a fifth of it.
MAXIMUM_PAYLOAD_BYTES: Final = 1 << 20
#: RFC 9110 10.2.3, seconds.
RETRY_AFTER: Final = "5"

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """Whom we answer at all."""

    #: Whether only this machine reaches the port, and nobody stands in front of it.
    only_here: bool

    def refusal(self, host: str, origin: str | None) -> tuple[HTTPStatus, str] | None:
        """Say why a request is not answered; None: it is.

        Whoever is at this machine has a browser, and a page of some other site may send requests with it: such a
        request says where it comes from (RFC 6454), or calls this machine by a name of that site.
        """
        found = _HOST.fullmatch(host)
        if found is None:
            return HTTPStatus.BAD_REQUEST, "the Host header field is none"
        if self.only_here and not is_loopback(found[1].strip("[]")):
            return HTTPStatus.MISDIRECTED_REQUEST, "only this machine is served, by its own name: see web.allow_remote"
        if origin is not None and _authority(origin) != host:
            return HTTPStatus.FORBIDDEN, "a page of another site may not ask"
        return None


def _authority(origin: str) -> str:
    """Give the host and port of an Origin; "": it has none, or is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """What an endpoint needs to know of a transaction."""

    perform: Callable[[Call], Outcome]
    #: Media types of a payload of its responses; empty: there is none.
    gives: tuple[MediaType, ...] = ()
    #: Whether its requests carry a payload: None: they may.
    takes: bool | None = False


class _RefusedError(Exception):
    """The request is not one that the transaction sees."""

    def __init__(self, code: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.response = problem(code, detail, headers)


def endpoint(transaction: Transaction, steps: ProcedureSteps, guard: Guard) -> Endpoint:
    """Give the endpoint of a transaction; the database blocks, so it runs in a thread."""

    async def answer(request: Request) -> Response:
        refusal = guard.refusal(request.headers.get("host", ""), request.headers.get("origin"))
        if refusal is not None:
            return problem(*refusal)
        try:
            content = await _content(request) if transaction.takes is not False else b""
            return await run_in_threadpool(_answer, transaction, steps, request, content)
        except _RefusedError as refused:
            return refused.response
        except ClientDisconnect:
            return problem(HTTPStatus.BAD_REQUEST)

    return answer


async def _content(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAXIMUM_PAYLOAD_BYTES:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a payload has at most {MAXIMUM_PAYLOAD_BYTES} bytes"
            )
    return bytes(content)


def _answer(transaction: Transaction, steps: ProcedureSteps, request: Request, content: bytes) -> Response:
    service = str(request.base_url).rstrip("/")
    try:
        query = parameters(request.url.query)
        media_type = _media_type(transaction, request, query)
        call = Call(
            steps=steps,
            path=request.path_params,
            query=query,
            payload=_payload(transaction, request, content),
            service=service,
        )
        return _response(transaction.perform(call), media_type, service)
    except (MalformedError, IdentifierError) as error:
        return problem(HTTPStatus.BAD_REQUEST, str(error))
    except StorageError as error:
        log.exception("ledger not reached", exc_info=error)
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "nothing has changed", {"Retry-After": RETRY_AFTER})


def _media_type(transaction: Transaction, request: Request, query: Pairs) -> MediaType | None:
    """The media type of the response; parameters of the query win over header fields (PS3.18 8.3.3)."""
    if not transaction.gives:
        return None
    charset, accept = single(query, "charset"), single(query, "accept")
    wanted = ",".join(request.headers.getlist("accept")) or "*/*" if accept is None else accept
    found = acceptable(wanted, transaction.gives)
    if found is None or (charset is not None and charset.lower() != "utf-8"):
        offered = ", ".join(each.name for each in transaction.gives)
        raise _RefusedError(HTTPStatus.NOT_ACCEPTABLE, f"there is {offered}, in utf-8")
    return found


def _payload(transaction: Transaction, request: Request, content: bytes) -> Dataset | None:
    if transaction.takes is False or (transaction.takes is None and not content):
        return None
    read = reader_of(request.headers.get("content-type", ""))
    if read is None or request.headers.get("content-encoding", "identity") != "identity":
        accepted = ", ".join(READERS)
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"write {accepted}, in utf-8", {"Accept": accepted})
    return data_set(read(content))


def _response(came: Outcome, media_type: MediaType | None, service: str) -> Response:
    if came.code >= HTTPStatus.BAD_REQUEST:
        made: Response = problem(came.code, came.detail, dicom_status=came.status)
    elif came.data_sets is not None and media_type is not None:
        written = media_type.write([model(each) for each in came.data_sets])
        made = Response(written, status_code=came.code, headers={"Content-Type": media_type.name})
    else:
        made = Response(status_code=came.code)
    made.headers.update(came.headers)
    for text in came.warnings:  # PS3.18 has it so: 299, the base URI of the service, and a sentence
        made.headers.append("Warning", f"299 {service}: {text}")
    made.headers["Cache-Control"] = "no-store"
    return made
