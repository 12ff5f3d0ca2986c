"""Query parameters -> a C-FIND identifier and the page that is wanted (PS3.18 8.3.4)."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from cxr_triage.daemon.ups.attributes import TABLE
from cxr_triage.daemon.web.ups.attributes import BINARY_VRS, INTEGER_RANGES, TAG, MalformedError, data_set

#: Parameters of a request; the UPS IOD has fewer attributes to search by.
MAXIMUM_PARAMETERS: Final = 100
#: Workitems in one response, whatever `limit` says: `offset` gives the rest.
MAXIMUM_RESULTS: Final = 1000
#: Asks whether two quotation marks stand for an empty value (PS3.18 8.3.4.5).
EMPTY_VALUES: Final = "emptyvaluematching"
#: Parameters that ask for a kind of matching that we do not have (PS3.18 8.3.4.2 and 8.3.4.6).
UNSUPPORTED: Final = ("fuzzymatching", "multiplevaluematching")
#: What is no attribute among the parameters of a search: PS3.18 8.3.3 and 8.3.4.
CONTROLS: Final = frozenset({"accept", "charset", "includefield", "limit", "offset", EMPTY_VALUES, *UNSUPPORTED})
#: Returned where `includefield` does not say what: what every step has, and who and what it is about.
RETURNED: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    *(rule.keyword for rule in TABLE if rule.create in {"1", "1C", "2"}),
    "ScheduledProcedureStepModificationDateTime",
)
#: Returned for `includefield=all`: all but the Transaction UID, which is its performer's (PS3.4 CC.2.7.3).
ALL: Final = tuple(rule.keyword for rule in TABLE if rule.keyword != "TransactionUID")

_UNSIGNED: Final = re.compile(r"[0-9]{1,9}")
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What a search asks for."""

    #: As of C-FIND: values to match, and what is to be returned, empty.
    identifier: Dataset
    offset: int
    #: Workitems at most; None: as many as we give.
    limit: int | None
    #: Whether two quotation marks stand for an empty value.
    empty_values: bool
    #: Kinds of matching that were asked for and that we do not have.
    unsupported: tuple[str, ...]


def parameters(query: str) -> Pairs:
    """Take the query component of a URI apart; one that is a value alone has an empty value.

    Raises:
        MalformedError: it is not in UTF-8, or has too many parameters.
    """
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=MAXIMUM_PARAMETERS, errors="strict")
    except ValueError:
        raise MalformedError(f"the query is not in UTF-8, or has more than {MAXIMUM_PARAMETERS} parameters") from None


def search_of(pairs: Pairs) -> Search:
    """Give what the parameters of a search ask for; those that name no attribute are ignored (PS3.18 8.3.2).

    Raises:
        MalformedError: a value cannot be one of its parameter or attribute.
    """
    limit = single(pairs, "limit")
    return Search(
        identifier=data_set(_model(pairs, _returned(pairs)), keys=True),
        offset=_unsigned(single(pairs, "offset") or "0", "offset"),
        limit=None if limit is None else _unsigned(limit, "limit"),
        empty_values=truth(pairs, EMPTY_VALUES),
        unsupported=tuple(name for name in UNSUPPORTED if truth(pairs, name)),
    )


def filter_of(pairs: Pairs) -> Dataset:
    """Give the identifier of a Filtered Worklist Subscription: of `filter`, and of attributes by their own names.

    Raises:
        MalformedError: a value cannot be one of its attribute.
    """
    listed = single(pairs, "filter") or ""
    named = [key for key in listed.split(",") if key]
    split = [(name, value) for name, _, value in (each.partition("=") for each in named)]
    return data_set(_model([*split, *((name, value) for name, value in pairs if name != "filter")], ()), keys=True)


def single(pairs: Pairs, name: str) -> str | None:
    """Give the value of a parameter that may be there once; None: it is not there.

    Raises:
        MalformedError: it is there more than once.
    """
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise MalformedError(f"{name} is there more than once")
    return values[0] if values else None


def truth(pairs: Pairs, name: str) -> bool:
    """Give the value of a parameter that is true or false; left out, it is false.

    Raises:
        MalformedError: it is neither.
    """
    value = single(pairs, name)
    if value not in {None, "true", "false"}:
        raise MalformedError(f"{name} must be true or false")
    return value == "true"


def _unsigned(text: str, name: str) -> int:
    if not _UNSIGNED.fullmatch(text):
        raise MalformedError(f"{name} must be a number of at most nine digits")
    return int(text)


def _returned(pairs: Pairs) -> Sequence[str]:
    """What is to be returned besides what is matched."""
    fields = [field for name, value in pairs if name == "includefield" for field in value.split(",")]
    if "all" in fields and len(fields) > 1:
        raise MalformedError("includefield=all must be the only one")
    return (*RETURNED, *(ALL if "all" in fields else fields))


def _model(pairs: Pairs, returned: Sequence[str]) -> dict[str, object]:
    """The identifier as a DICOM JSON Model Object."""
    made: dict[str, object] = {}
    for field in returned:
        _put(made, _path(field), None)
    matched = [(name, value) for name, value in pairs if name not in CONTROLS]
    for name, value in matched:
        single(matched, name)
        _put(made, _path(name), value)
    return made


def _path(name: str) -> list[tuple[str, str]]:
    """The tags that an attribute's name leads through, each with its VR; empty: it is no attribute that we know."""
    path = []
    for part in name.split("."):
        # The dictionary has a retired attribute without a keyword.
        tag = int(part, 16) if TAG.fullmatch(part) else tag_for_keyword(part) if part else None
        if tag is None or not dictionary_has_tag(tag):
            return []
        path.append((f"{tag:08X}", dictionary_VR(tag).partition(" ")[0]))
    return path if all(vr == "SQ" for _, vr in path[:-1]) else []


def _put(made: dict[str, object], path: list[tuple[str, str]], value: str | None) -> None:
    """Set an attribute, in the first item of each sequence on the way; None: it is only to be returned."""
    if not path:
        return
    *outer, (tag, vr) = path
    for sequence, _ in outer:
        made = _first_item(made, sequence)
    _set(made, tag, vr, value)


def _first_item(made: dict[str, object], sequence: str) -> dict[str, object]:
    known = made.get(sequence)
    items: list[dict[str, object]] = known["Value"] if isinstance(known, dict) else []
    if not items:
        items.append({})
        made[sequence] = {"vr": "SQ", "Value": items}
    return items[0]


def _set(made: dict[str, object], tag: str, vr: str, value: str | None) -> None:
    if not value:
        made.setdefault(tag, {"vr": vr} if vr in BINARY_VRS else {"vr": vr, "Value": []})
        return
    if vr in BINARY_VRS or vr == "SQ":
        raise MalformedError(f"{tag} cannot be matched by a value")
    made[tag] = {"vr": vr, "Value": list(_values(vr, value))}


def _values(vr: str, value: str) -> Iterator[object]:
    """A list of UIDs is parted by commas (PS3.18 8.3.4.1)."""
    if vr == "PN":
        yield {"Alphabetic": value}
    elif vr == "UI":
        yield from value.split(",")
    elif vr in INTEGER_RANGES and value.isascii() and value.isdigit():
        yield int(value)
    else:
        yield value
