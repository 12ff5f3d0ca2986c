"""`cxr-triage conformance`: prints a statement."""

from collections.abc import Callable
from typing import Final

from cxr_triage.daemon.conformance.ihe import integration_statement
from cxr_triage.daemon.conformance.statement import conformance_statement
from cxr_triage.model.errors import ConfigurationError

#: By what `--kind` calls it.
STATEMENTS: Final[dict[str, Callable[[], str]]] = {"dicom": conformance_statement, "ihe": integration_statement}


def statement(kind: str) -> str:
    """Give a statement as Markdown.

    Raises:
        ConfigurationError: there is none of that kind.
    """
    if kind not in STATEMENTS:
        raise ConfigurationError(f"kind {kind!r} is none: write one of {', '.join(STATEMENTS)}")
    return STATEMENTS[kind]()
