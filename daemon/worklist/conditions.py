"""A key of a C-FIND identifier as a test of an entry's value (PS3.4 C.2.2.2): pure functions over text.

Values are text as they would stand in a file, decoded; several are separated by a backslash.
"""

import re
import unicodedata
from datetime import tzinfo
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Final

from cxr_triage.daemon.worklist.moments import Test, date_test, date_time_test, time_test
from cxr_triage.daemon.worklist.negotiated import NOTHING, Agreed

#: PS3.4 C.2.2.2.4: where * and ? are wildcards.
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
#: PS3.5 6.2: a backslash is text there, and spaces in front count.
_ONE_TEXT: Final = frozenset({"LT", "ST", "UR", "UT"})
#: PS3.4 C.2.2.2.8.
_SEVERAL_VRS: Final = frozenset({"AE", "AS", "AT", "CS", "LO", "PN", "SH", "UC"})
#: PS3.4 C.2.2.2.7.
_EMPTY: Final = '""'
_UID: Final = re.compile(r"[0-9.]+")


def condition(
    vr: str, wanted: str, *, zone: tzinfo | None = None, agreed: Agreed = NOTHING, several: bool = False
) -> Test | None:
    """Make the test of one key.

    Args:
        vr: of the attribute, by the data dictionary.
        wanted: the key's value; several separated by a backslash ask for any of them. The standard leaves that open
            but for UIDs (PS3.4 C.2.2.2.8, note 4).
        zone: of dates and times without an offset; None: this machine's.
        agreed: what was negotiated.
        several: whether the attribute may have several values.

    Returns:
        It, true of an entry if it is of one of its values (PS3.4 C.2.2.3); None: it asks for whatever there is.

    Raises:
        ValueError: the key breaks a rule; says which, without quoting it.
    """
    if agreed.empty and wanted.strip() == _EMPTY:
        return lambda value: not value.strip()
    make = partial(date_time_test, zone=zone) if vr == "DT" else _MAKERS.get(vr, partial(_text_test, vr))
    if vr in _ONE_TEXT:
        return make(wanted) if wanted.strip("* ") else None
    parts = [part.strip() for part in wanted.split("\\")]
    # "*" asks for whatever there is where it is a wildcard; where it is none, nobody can mean anything else by it.
    if not any(parts) or any(part and not part.strip("*") for part in parts):
        return None
    if vr == "UI":
        return _uid_test(parts)
    tests = [make(part) for part in parts if part]
    if agreed.several and several and vr in _SEVERAL_VRS:
        return lambda value: all(any(map(each, value.split("\\"))) for each in tests)
    test = tests[0] if len(tests) == 1 else lambda value: any(each(value) for each in tests)
    return lambda value: test(value) if "\\" not in value else any(map(test, value.split("\\")))


def pattern_test(pattern: str) -> Test:
    """Make the test for a text with * (any text) and ? (any character), in time bounded by both lengths."""
    first, *rest = pattern.split("*")
    if not rest:
        return _Piece(pattern).fullmatches if "?" in pattern else pattern.__eq__
    *middle, last = rest
    start, end, pieces = _Piece(first), _Piece(last), [_Piece(part) for part in middle if part]

    def test(value: str) -> bool:
        at, stop = len(first), len(value) - len(last)
        if at > stop or not start.stands_at(value, 0) or not end.stands_at(value, stop):
            return False
        for piece in pieces:
            at = piece.end_in(value, at, stop)
            if at < 0:
                return False
        return True

    return test


class _Piece:
    """Text between two *: found at its first place, which leaves most for what follows."""

    def __init__(self, text: str) -> None:
        self._length = len(text)
        self._found = re.compile("".join("." if each == "?" else re.escape(each) for each in text), re.DOTALL)

    def stands_at(self, value: str, at: int) -> bool:
        """Whether it is there at that place."""
        return self._found.match(value, at) is not None

    def fullmatches(self, value: str) -> bool:
        """Whether it is all of it."""
        return self._found.fullmatch(value) is not None

    def end_in(self, value: str, at: int, stop: int) -> int:
        """Where it ends when it is found first between two places; -1: it is not there."""
        found = self._found.search(value, at, stop)
        return found.end() if found else -1


def _text_test(vr: str, wanted: str) -> Test:
    """Spaces at the end never count, nor do those in front unless it is a text (PS3.5 6.2)."""
    if vr in _ONE_TEXT:
        test = pattern_test(wanted.rstrip())
        return lambda value: test(value.rstrip())
    test = pattern_test(wanted) if vr in _WILDCARD_VRS else wanted.__eq__
    return lambda value: test(value.strip())


def _uid_test(parts: list[str]) -> Test:
    """PS3.4 C.2.2.2.2: a list of UIDs asks for each of them."""
    if not all(_UID.fullmatch(part) for part in parts if part):
        raise ValueError("not a UID, which has no wildcards")
    wanted = frozenset(part for part in parts if part)
    return lambda value: any(each.strip(" \0") in wanted for each in value.split("\\"))


def _name_test(wanted: str) -> Test:
    """Without regard to case and width of characters (PS3.4 C.2.2.2.1.1).

    One component group asks for a name that has it as any of its groups; several ask each for its own (PS3.5 6.2.1).
    """
    groups = [_folded(group) for group in wanted.split("=")]
    if len(groups) == 1:
        any_group = _group_test(groups[0])
        return lambda value: any(any_group(_folded(group)) for group in value.split("="))
    tests = {place: _group_test(group) for place, group in enumerate(groups) if group.strip("*")}

    def test(value: str) -> bool:
        found = [_folded(group) for group in value.split("=")]
        return all(each(found[place] if place < len(found) else "") for place, each in tests.items())

    return test


def _group_test(group: str) -> Test:
    """Make the test for one folded component group.

    A name may leave its last components out with their delimiters (PS3.5 6.2.1.2), and * asks for no character too
    (PS3.4 C.2.2.2.4): SMITH^* is also Smith alone.
    """
    named = group.rstrip("^*")
    open_end = group[len(named) :]
    named += "*" * (len(open_end) - len(open_end.lstrip("*")))  # these belong to the last component that is named
    delimiters, wildcard, _ = group[len(named) :].partition("*")
    if not wildcard:
        return pattern_test(group)
    alone, longer = pattern_test(named), pattern_test(f"{named}{delimiters}*")
    return lambda value: alone(value) or longer(value)


def _folded(group: str) -> str:
    """Without trailing delimiters and the spaces around components, which mean nothing (PS3.5 6.2)."""
    plain = group if group.isascii() else unicodedata.normalize("NFKC", group)
    return re.sub(r" *\^ *", "^", plain).strip().rstrip("^").casefold()


def _number_test(wanted: str) -> Test:
    """Compared as numbers: 007 and +7 are 7, which the standard leaves to the implementation (PS3.4 C.2.2.2.1.4)."""
    number = _number(wanted)
    if number is None:
        raise ValueError("not a number")
    return lambda value: _number(value) == number


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None


_MAKERS: Final = {
    "DA": date_test,
    "TM": time_test,
    "PN": _name_test,
    **dict.fromkeys(("DS", "IS", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), _number_test),
}
