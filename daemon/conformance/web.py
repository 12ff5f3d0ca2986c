"""Chapter 4.2.4: the worklist over HTTP (PS3.18 section 11), in the tables of PS3.2's N.7.3.3.4."""

from collections.abc import Iterator
from http import HTTPStatus

from cxr_triage.daemon.conformance.markdown import table, text
from cxr_triage.daemon.web.ups.calls import SAID
from cxr_triage.daemon.web.ups.meanings import Meaning
from cxr_triage.daemon.web.ups.operations import ROWS, Row
from cxr_triage.daemon.web.ups.queries import MAXIMUM_RESULTS
from cxr_triage.daemon.web.ups.transactions import LIST_VERSION


def web() -> str:
    """The chapter."""
    return text(
        "web",
        transactions=table(("transaction", "request", "clause"), map(_transaction, ROWS)),
        statuses=table(("transaction", "DIMSE status", "HTTP status", "Warning"), _statuses()),
        list_version=LIST_VERSION,
        maximum_results=MAXIMUM_RESULTS,
    )


def _transaction(row: Row) -> tuple[str, str, str]:
    return row.summary, f"`{row.method} {row.path}`", row.clause


def _statuses() -> Iterator[tuple[str, str, str, str]]:
    """A row for each status of each transaction; a path with {requester} is answered like its neighbour."""
    for row in ROWS:
        if "{requester}" not in row.path:
            for status, meaning in row.meanings.items():
                yield row.name, _named(status), _code(meaning), meaning.warning or "none"


def _named(status: int) -> str:
    return f"0x{status:04X}, {SAID[status].meaning}"


def _code(meaning: Meaning) -> str:
    return f"{meaning.code.value} ({HTTPStatus(meaning.code).phrase})"
