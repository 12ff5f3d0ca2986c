"""The OpenAPI document (version 3.1), made of the table of operations, and a page of it for people."""

from collections.abc import Sequence
from html import escape
from importlib.metadata import version
from typing import Any, Final

from cxr_triage.daemon.web.operations import Answered, Operation, Parameter, Payload
from cxr_triage.daemon.web.schemas import SCHEMAS

TITLE: Final = "cxr-triage"
#: What a page may do: nothing but show itself (CSP level 3).
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Give the document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": version("cxr-triage")},
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def page(operations: Sequence[Operation]) -> str:
    """Give the page: it needs nothing from anywhere."""
    rows = "".join(_row(operation) for operation in operations)
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{TITLE}: HTTP</title>"
        "<style>body{font-family:sans-serif;margin:2em}td,th{text-align:left;vertical-align:top;padding:.3em .8em}"
        "code{white-space:nowrap}</style></head>"
        f"<body><h1>{TITLE} {escape(version('cxr-triage'))}: HTTP</h1>"
        "<p>The same for machines: <a href='/openapi.json'>/openapi.json</a>.</p>"
        "<table><thead><tr><th>request</th><th>what</th><th>clause</th><th>parameters</th><th>answers</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></body></html>"
    )


def _operation(operation: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {str(code.value): _response(answer) for code, answer in operation.answers.items()},
    }
    if operation.clause:
        made["description"] = operation.clause
    if operation.parameters:
        made["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.takes is not None:
        made["requestBody"] = {"required": operation.takes.required, "content": _content(operation.takes)}
    return made


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.within,
        "required": parameter.within == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _response(answer: Answered) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        made["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
        }
    if answer.payload is not None:
        made["content"] = _content(answer.payload)
    return made


def _content(payload: Payload) -> dict[str, Any]:
    return {
        name: {
            **({} if each.schema is None else {"schema": each.schema}),
            **({} if each.example is None else {"example": each.example}),
        }
        for name, each in payload.content.items()
    }


def _row(operation: Operation) -> str:
    parameters = "<br>".join(
        f"<code>{escape(each.name)}</code>: {escape(each.description)}" for each in operation.parameters
    )
    answers = "<br>".join(f"{code.value}: {escape(answer.description)}" for code, answer in operation.answers.items())
    cells = (
        f"<code>{operation.method} {escape(operation.path)}</code>",
        escape(operation.summary),
        escape(operation.clause),
        parameters,
        answers,
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
