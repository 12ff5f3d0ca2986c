"""What can be asked for over HTTP, in one table: routes and OpenAPI document are both made of it, so neither drifts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

#: RFC 9457.
PROBLEM: Final = "application/problem+json"

Endpoint = Callable[[Request], Awaitable[Response]] | Callable[[Request], Response]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A variable of a path, or a parameter of a query."""

    name: str
    #: "path" or "query".
    within: str
    description: str
    #: JSON Schema of its value.
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a payload in one media type is."""

    #: JSON Schema; None: nothing is said of it.
    schema: Mapping[str, Any] | None = None
    example: object = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Payload:
    """What a request, or a response, carries."""

    #: By media type.
    content: Mapping[str, Content]
    required: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One response of an operation."""

    description: str
    payload: Payload | None = None
    #: What header fields say, by name.
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A method on a path."""

    #: Its operationId.
    name: str
    method: str
    path: str
    summary: str
    #: Where the standard has it; empty: it is ours.
    clause: str = ""
    parameters: Sequence[Parameter] = ()
    takes: Payload | None = None
    answers: Mapping[HTTPStatus, Answered]
    endpoint: Endpoint


def routes(operations: Sequence[Operation]) -> list[Route]:
    """Give the routes, one per path: so that a method that a path does not have is answered with those it has."""
    made = []
    for path in dict.fromkeys(operation.path for operation in operations):
        by_method = {each.method: each.endpoint for each in operations if each.path == path}
        if len(by_method) == 1:
            ((method, endpoint),) = by_method.items()
            made.append(Route(path, endpoint, methods=[method]))
        else:
            made.append(Route(path, _by_method(by_method), methods=list(by_method)))
    return made


def problem(
    code: HTTPStatus, detail: str = "", headers: Mapping[str, str] | None = None, dicom_status: int | None = None
) -> JSONResponse:
    """Give a status report (RFC 9457), with the DIMSE status if there is one."""
    content: dict[str, str | int] = {"title": code.phrase, "status": code.value}
    if detail:
        content["detail"] = detail
    if dicom_status is not None:
        content["dicomStatus"] = f"{dicom_status:04X}"
    return JSONResponse(content, status_code=code, media_type=PROBLEM, headers=headers)


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    async def answer(request: Request) -> Response:
        found = endpoints["GET" if request.method == "HEAD" else request.method](request)
        return found if isinstance(found, Response) else await found

    return answer
