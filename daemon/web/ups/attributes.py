"""Data set <-> DICOM JSON Model (PS3.18 Annex F) as plain dictionaries, which JSON and XML are two spellings of."""

import base64
import binascii
import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from cxr_triage.model.errors import TriageError

#: The DICOM JSON Model Object of one data set (PS3.18 F.2.2).
Model = dict[str, Any]

#: Sequences within sequences; the UPS IOD has four (PS3.3 B.26).
MAXIMUM_DEPTH: Final = 16
#: JSON is in UTF-8 (PS3.18 F.2), and so is what we make of it.
UNICODE: Final = "ISO_IR 192"

TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
#: PS3.18 Table F.2.3-1: how the values of a VR are written.
TEXT_VRS: Final = frozenset(["AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])
#: These are never more than one value (PS3.5 6.2), and so may hold a backslash, and have lines.
LONG_TEXT_VRS: Final = frozenset({"LT", "ST", "UR", "UT"})
#: Least and greatest value of whole numbers (PS3.5 6.2); of these, IS, SV and UV may be written as text too.
INTEGER_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "IS": (-(2**31), 2**31 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "UL": (0, 2**32 - 1),
    "US": (0, 2**16 - 1),
    "UV": (0, 2**64 - 1),
}
INTEGER: Final = re.compile(r" *[+-]?[0-9]{1,20} *")
DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
SPELLED_VRS: Final = frozenset({"IS", "SV", "UV"})
#: These cannot be empty beside other values: they have as many bytes as any.
_FIXED_VRS: Final = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
#: Greatest value of the floating point numbers (IEEE 754).
FLOAT_RANGES: Final[Mapping[str, float]] = {"FD": sys.float_info.max, "FL": 3.4028234663852886e38}
BINARY_VRS: Final = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
#: PS3.18 F.2.3: the groups of a name, in the order of PS3.5 6.2.1.
NAME_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")

_CHARACTER_SET: Final = BaseTag(0x00080005)
#: Command Set and File Meta Information are no part of a data set (PS3.7 6.3.1, PS3.10 7.1).
_FOREIGN_GROUPS: Final = frozenset({0x0000, 0x0002})
#: PS3.5 6.1.3: the control characters that text may hold are TAB, LF, FF and CR; ESC means nothing in UTF-8, and a
#: lone surrogate is no character.
_NO_TEXT: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
#: PS3.5 6.2: what may be one of several values has no control characters, and a backslash parts it from the next.
_NO_VALUE: Final = re.compile("[\x00-\x1f\x7f\\\\\ud800-\udfff]")


class MalformedError(TriageError):
    """What a peer sent is no data set; the message does not quote its values."""


def data_set(model: object, *, keys: bool = False) -> Dataset:
    """Give the data set of a DICOM JSON Model Object, its text as Unicode.

    What is checked is what a value is made of, and how many there are; not what it says.

    Args:
        model: the object.
        keys: it is what a search asks for, and any attribute may have several values.

    Raises:
        MalformedError: it is none.
    """
    made = _data_set(model, 0)
    if not keys:
        _require_multiplicity(made)
    if made:
        made.add(_element(_CHARACTER_SET, "CS", UNICODE))
    return made


def model(dataset: Dataset) -> Model:
    """Give the DICOM JSON Model Object of a data set, which says of itself that it is in UTF-8 if it holds anything."""
    made = {f"{element.tag:08X}": _attribute(element) for element in dataset if element.tag != _CHARACTER_SET}
    if made:
        made["00080005"] = {"vr": "CS", "Value": [UNICODE]}
    return dict(sorted(made.items()))


def _data_set(model: object, depth: int) -> Dataset:
    if not isinstance(model, dict):
        raise MalformedError("a data set must be an object of attributes by tag")
    if depth > MAXIMUM_DEPTH:
        raise MalformedError(f"sequences within sequences go deeper than {MAXIMUM_DEPTH}")
    made = Dataset()
    for name, attribute in model.items():
        tag = _tag(name)
        if tag in made:
            raise MalformedError(f"{tag} is there twice")
        if tag != _CHARACTER_SET:
            made.add(_read(tag, attribute, depth))
    return made


def _require_multiplicity(dataset: Dataset) -> None:
    """Refuse more values than an attribute may have (PS3.6 6)."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _require_multiplicity(item)
        elif dictionary_has_tag(element.tag):
            most = dictionary_VM(element.tag).rpartition("-")[2]
            if most.isdigit() and int(most) < element.VM:
                raise MalformedError(f"{element.tag} may have {most} values at most")


def _tag(name: str) -> BaseTag:
    if not TAG.fullmatch(name):
        raise MalformedError("an attribute must be named by the eight hexadecimal digits of its tag")
    tag = BaseTag(int(name, 16))
    if tag.group in _FOREIGN_GROUPS or tag.element == 0:
        raise MalformedError(f"{tag} is no attribute of a data set")
    return tag


def _read(tag: BaseTag, attribute: object, depth: int) -> DataElement:
    if not isinstance(attribute, dict) or not isinstance(vr := attribute.get("vr"), str):
        raise MalformedError(f"{tag} must be an object with a vr")
    if attribute.keys() - {"vr", "Value", "InlineBinary"}:
        raise MalformedError(f"{tag} may have vr, Value and InlineBinary only")
    if dictionary_has_tag(tag) and vr not in dictionary_VR(tag).split(" or "):
        raise MalformedError(f"{tag} is not of VR {vr[:2]}")
    if vr in BINARY_VRS:
        return _element(tag, vr, _bytes(tag, attribute))
    values = attribute.get("Value", [])
    if not isinstance(values, list) or "InlineBinary" in attribute:
        raise MalformedError(f"{tag} must have an array as its Value")
    if vr == "SQ":
        return _element(tag, vr, [_data_set(item, depth + 1) for item in values])
    reader = _READERS.get(vr)
    if reader is None:
        raise MalformedError(f"{tag} has no VR that the standard knows")
    return _element(tag, vr, _read_values(tag, vr, values, reader))


def _read_values(tag: BaseTag, vr: str, values: list[object], reader: Callable[[object], object]) -> object:
    if vr in _FIXED_VRS and None in values:
        raise MalformedError(f"{tag} has an empty value, and its VR has none")
    try:
        read = ["" if value is None else reader(value) for value in values]
    except (ValueError, TypeError, ArithmeticError):
        raise MalformedError(f"{tag} has a value that is not of its VR") from None
    return read[0] if len(read) == 1 else read


def _element(tag: BaseTag, vr: str, value: object) -> DataElement:
    """Make an element of whatever it holds: what does not fit the VR is the worklist's to refuse, and is not quoted."""
    try:
        return DataElement(tag, vr, value, validation_mode=config.IGNORE)
    except (ValueError, TypeError, ArithmeticError):
        raise MalformedError(f"{tag} has a value that is not of its VR") from None


def _bytes(tag: BaseTag, attribute: Mapping[str, object]) -> bytes:
    encoded = attribute.get("InlineBinary", "")
    if not isinstance(encoded, str) or "Value" in attribute:
        raise MalformedError(f"{tag} must have InlineBinary")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError(f"{tag} is not in base64") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or _NO_TEXT.search(value):
        raise ValueError
    return value


def _one_of_many(value: object) -> str:
    if not isinstance(value, str) or _NO_VALUE.search(value):
        raise ValueError
    return value


def _name(value: object) -> str:
    if not isinstance(value, dict) or value.keys() - set(NAME_GROUPS):
        raise ValueError
    groups = [_one_of_many(value.get(group, "")) for group in NAME_GROUPS]
    if any("=" in group for group in groups):
        raise ValueError
    return "=".join(groups).rstrip("=")


def _at(value: object) -> BaseTag:
    if not isinstance(value, str) or not TAG.fullmatch(value):
        raise ValueError
    return BaseTag(int(value, 16))


def _integer(value: object, vr: str) -> int:
    if vr in SPELLED_VRS and isinstance(value, str) and INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError
    least, greatest = INTEGER_RANGES[vr]
    if not least <= value <= greatest:
        raise ValueError
    return int(value)


def _float(value: object, greatest: float = sys.float_info.max) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= greatest:
        raise ValueError
    return float(value)


def _decimal(value: object) -> str | float:
    if not isinstance(value, str):
        return _float(value)
    if value.strip(" ") and not (DECIMAL.fullmatch(value.strip(" ")) and math.isfinite(float(value))):
        raise ValueError
    return value


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    **dict.fromkeys(TEXT_VRS - LONG_TEXT_VRS, _one_of_many),
    **dict.fromkeys(LONG_TEXT_VRS, _text),
    **{vr: partial(_integer, vr=vr) for vr in INTEGER_RANGES},
    **{vr: partial(_float, greatest=greatest) for vr, greatest in FLOAT_RANGES.items()},
    "DS": _decimal,
    "PN": _name,
    "AT": _at,
}


def _attribute(element: DataElement) -> Model:
    vr = element.VR
    if vr in BINARY_VRS:
        encoded = base64.b64encode(element.value or b"").decode("ascii")
        return {"vr": vr, "InlineBinary": encoded} if encoded else {"vr": vr}
    if vr == "SQ":
        values: list[object] = [_item(item) for item in element.value or ()]
    else:
        values = [_written(vr, value) for value in _values(element)]
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _item(item: Dataset) -> Model:
    """What an item of a sequence holds; which character set it is in is said once, by what it is an item of."""
    made = model(item)
    made.pop("00080005", None)
    return made


def _values(element: DataElement) -> list[object]:
    if isinstance(element.value, MultiValue | list):
        return list(element.value)
    return [] if element.is_empty else [element.value]


def _written(vr: str, value: object) -> object:
    if value is None or str(value) == "":
        return None
    if vr == "PN":
        groups = zip(NAME_GROUPS, str(value).split("="), strict=False)
        return {group: text for group, text in groups if text} or None
    if vr == "AT":
        assert isinstance(value, int)  # BaseTag
        return f"{value:08X}"
    if vr in TEXT_VRS:
        return str(value)
    if vr in INTEGER_RANGES:
        return int(str(value))
    number = float(str(value))
    return int(number) if number.is_integer() else number
