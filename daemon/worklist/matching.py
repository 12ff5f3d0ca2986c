"""Which entries of a list a C-FIND identifier asks for (PS3.4 C.2.2.2): pure functions over data sets."""

from collections.abc import Iterable
from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

#: What describes an identifier and asks for nothing: Specific Character Set and Timezone Offset From UTC.
_NOT_KEYS: Final = frozenset({BaseTag(0x00080005), BaseTag(0x00080201)})
#: PS3.4 C.2.2.2.4: where * and ? are wildcards.
_WILDCARD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
#: PS3.4 C.2.2.2.5.
_RANGE_VRS: Final = frozenset({"DA", "TM", "DT"})
_OLD_SEPARATORS: Final = {"DA": ".", "TM": ":"}
#: PS3.4 Table K.6-1: ranges of both together are one range of date and time.
_START: Final = (
    BaseTag(tag_for_keyword("ScheduledProcedureStepStartDate") or 0),
    BaseTag(tag_for_keyword("ScheduledProcedureStepStartTime") or 0),
)


def keys(identifier: Dataset) -> list[DataElement]:
    """The elements of an identifier that ask for something."""
    return [
        element
        for element in identifier
        if element.tag not in _NOT_KEYS and element.tag.element != 0  # group lengths
    ]


def matches(identifier: Dataset, entry: Dataset) -> bool:
    """Whether an entry is among what the identifier asks for; keys that the entry does not know are ignored."""
    asked = keys(identifier)
    ranges = [element for element in asked if element.tag in _START and "-" in _text(element)]
    if len(ranges) == len(_START):
        if not _in_combined_range(identifier, entry):
            return False
        asked = [element for element in asked if element.tag not in _START]
    return all(_matches(element, entry[element.tag]) for element in asked if element.tag in entry)


def select(identifier: Dataset, entry: Dataset) -> tuple[Dataset, bool]:
    """Give the part of an entry that an identifier asks back.

    Returns:
        It, and whether the entry knows every key.
    """
    selected = Dataset()
    complete = True
    for element in keys(identifier):
        if element.tag not in entry:
            complete = False
            continue
        found = entry[element.tag]
        if element.VR == "SQ" and element.value and len(element.value[0]):
            chosen = [select(element.value[0], item) for item in found.value]
            found = DataElement(element.tag, "SQ", [item for item, _ in chosen])
            complete = complete and all(known for _, known in chosen)
        selected.add(found)
    return selected, complete


def _matches(key: DataElement, found: DataElement) -> bool:
    if key.VR == "SQ":
        return not key.value or any(matches(key.value[0], item) for item in found.value or [Dataset()])
    wanted, value = _text(key), _text(found)
    if not wanted:
        return True
    if key.VR == "UI":
        return value in wanted.split("\\")
    if key.VR in _RANGE_VRS:
        return _in_range(wanted, value)
    if key.VR == "PN":
        return any(_like(_folded(wanted), name) for name in _names(value))
    return _like(wanted, value) if key.VR in _WILDCARD_VRS else wanted == value


def _in_range(wanted: str, value: str) -> bool:
    """A shorter time stands for all of its hour or minute."""
    if not value:
        return False
    if "-" not in wanted:
        return value.startswith(wanted)
    low, _, high = wanted.partition("-")
    return low <= value and (not high or value[: len(high)] <= high)


def _in_combined_range(identifier: Dataset, entry: Dataset) -> bool:
    low_date, _, high_date = _text(identifier[_START[0]]).partition("-")
    low_time, _, high_time = _text(identifier[_START[1]]).partition("-")
    date, time = (_text(entry[tag]) for tag in _START)
    after_low = not low_date or (date, time) >= (low_date, low_time)
    return after_low and (not high_date or (date, time[: len(high_time)]) <= (high_date, high_time))


def _like(pattern: str, value: str) -> bool:
    """Whether * (any text) and ? (any character) make the value; goes back to the last * only, so never far."""
    at = place = resume = 0
    star = -1
    while at < len(value):
        if place < len(pattern) and pattern[place] == "*":
            star, resume, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("?", value[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("*")


def _names(value: str) -> Iterable[str]:
    """A name as a whole, and each of its component groups (PS3.5 6.2.1)."""
    return [_folded(value), *map(_folded, value.split("="))]


def _folded(name: str) -> str:
    """PS3.4 C.2.2.2.1: names may be compared without regard to case; trailing delimiters mean nothing."""
    return name.rstrip("^= ").casefold()


def _text(element: DataElement) -> str:
    """The value as it would stand in a file, dates and times without the separators of old (PS3.5 6.2)."""
    value = element.value
    if value is None:
        return ""
    text = "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value).strip()
    return text.replace(_OLD_SEPARATORS[element.VR], "") if element.VR in _OLD_SEPARATORS else text
