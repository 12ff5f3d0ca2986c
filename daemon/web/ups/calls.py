"""A request as the transactions see it, and what they make of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.daemon.web.ups.attributes import MalformedError
from cxr_triage.daemon.web.ups.meanings import Meanings
from cxr_triage.daemon.web.ups.queries import Pairs

#: Who asks, where the request does not say: HTTP has no AE titles.
SOMEBODY: Final = "UPS-RS"
#: PS3.5 9.1, with 64 characters at most.
UID_PATTERN: Final = r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+"
#: PS3.5 6.2, VR AE, with 16 characters at most; neither the first nor the last is a space, which means nothing there.
AE_PATTERN: Final = r"[!-\[\]-~]([ -\[\]-~]*[!-\[\]-~])?"
UID_LENGTH: Final = 64
AE_LENGTH: Final = 16

#: What the standard calls each status, for a status report.
SAID: Final = {
    **statuses.CREATE_ANSWERS,
    **statuses.SET_ANSWERS,
    **statuses.GET_ANSWERS,
    **statuses.ACTION_ANSWERS,
}
_UID: Final = re.compile(UID_PATTERN)
_AE: Final = re.compile(AE_PATTERN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request, read."""

    steps: ProcedureSteps
    #: Variables of the path.
    path: Mapping[str, str]
    query: Pairs
    #: None: it has none.
    payload: Dataset | None
    #: Base URI of the service, as the peer wrote it: "http://127.0.0.1:8080".
    service: str

    @property
    def workitem(self) -> str:
        """The Workitem's UID, of the path.

        Raises:
            MalformedError: it is none.
        """
        return checked_uid(self.path["workitem"], "workitem")

    @property
    def subscriber(self) -> str:
        """The AE title to be told, of the path.

        Raises:
            MalformedError: it is none.
        """
        return checked_ae_title(self.path["aetitle"], "aetitle")

    @property
    def caller(self) -> str:
        """Who asks.

        Raises:
            MalformedError: it is no AE title.
        """
        return checked_ae_title(self.path.get("requester", SOMEBODY), "requester")

    @property
    def data_set(self) -> Dataset:
        """The payload; one that may be left out is empty then."""
        return Dataset() if self.payload is None else self.payload

    def named_uid(self, name: str) -> str | None:
        """Give a UID of the query, written `?1.2.3`, as PS3.18 has it, or `?NAME=1.2.3`; None: there is none.

        Raises:
            MalformedError: it is none, or there are several.
        """
        values = [value or key for key, value in self.query if key == name or not value]
        if len(values) > 1:
            raise MalformedError(f"the query has more than one {name}")
        return checked_uid(values[0], name) if values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A response, not yet written."""

    code: HTTPStatus
    #: None: there is no payload but, in a failure, the status report.
    data_sets: Sequence[Dataset] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Texts of Warning header fields.
    warnings: Sequence[str] = ()
    #: DIMSE status of a failure; None: it never came to one.
    status: int | None = None
    #: For a person: no patient data.
    detail: str = ""


def outcome(meanings: Meanings, answer: Answer) -> Outcome:
    """Give what an answer of the worklist comes to."""
    meaning, said = meanings[answer.status], SAID[answer.status].meaning
    return Outcome(
        code=meaning.code,
        warnings=[meaning.warning] if meaning.warning else [],
        status=None if meaning.is_success else answer.status,
        detail=f"{said}: {answer.comment}" if answer.comment else said,
    )


def checked_uid(text: str, name: str) -> str:
    """Give a UID back.

    Raises:
        MalformedError: it is none.
    """
    if len(text) > UID_LENGTH or not _UID.fullmatch(text):
        raise MalformedError(f"{name} must be a UID")
    return text


def checked_ae_title(text: str, name: str) -> str:
    """Give an AE title back.

    Raises:
        MalformedError: it is none.
    """
    if len(text) > AE_LENGTH or not _AE.fullmatch(text):
        raise MalformedError(f"{name} must be an AE title")
    return text
