"""The Native DICOM Model, in XML (PS3.19 A.1), by way of the DICOM JSON Model (PS3.18 F.3). No private attributes."""

import re
from collections.abc import Iterator
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from pydicom.datadict import keyword_for_tag

from cxr_triage.daemon.web.ups.attributes import (
    FLOAT_RANGES,
    INTEGER,
    INTEGER_RANGES,
    MAXIMUM_DEPTH,
    NAME_GROUPS,
    TAG,
    MalformedError,
    Model,
)

NAMESPACE: Final = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
#: PS3.19 Table A.1.5-2, in the order of the components of a name (PS3.5 6.2.1).
NAME_COMPONENTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
#: Values that one attribute may have: a number may skip some that are empty.
MAXIMUM_VALUES: Final = 1024

#: Characters that XML cannot hold (XML 1.0, 2.2): it has no way to write them.
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"


def read(content: bytes) -> Model:
    """Parse one data set.

    Raises:
        MalformedError: it is none; entities and document types are refused unread.
    """
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        raise MalformedError("the payload is not XML that may be read") from None
    if _name(root) != "NativeDicomModel":
        raise MalformedError("the payload is no NativeDicomModel")
    return _read_model(root, 0)


def write(model: Model) -> bytes:
    """Give the bytes of one data set."""
    inner = "".join(_attributes(model))
    head = f'<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
    return f"{head}{inner}</NativeDicomModel>".encode()


def _name(element: Element) -> str:
    """The name of an element, whether or not it says that it is in PS3.19's name space."""
    return element.tag.removeprefix(f"{{{NAMESPACE}}}")


def _read_model(parent: Element, depth: int) -> Model:
    if depth > MAXIMUM_DEPTH:
        raise MalformedError(f"sequences within sequences go deeper than {MAXIMUM_DEPTH}")
    made: Model = {}
    for element in parent:
        tag = element.get("tag", "").upper()
        if _name(element) != "DicomAttribute" or not TAG.fullmatch(tag) or tag in made:
            raise MalformedError("a data set must hold one DicomAttribute per tag")
        if int(tag[:4], 16) % 2:
            raise MalformedError("private attributes are not taken in XML")
        made[tag] = _read_attribute(element, depth)
    return made


def _read_attribute(element: Element, depth: int) -> Model:
    vr = element.get("vr", "")
    if len(element) == 1 and _name(element[0]) == "InlineBinary":
        return {"vr": vr, "InlineBinary": "".join((element[0].text or "").split())}
    values = _by_number(element)
    if vr == "SQ":
        return {"vr": vr, "Value": [{} if item is None else _read_model(item, depth + 1) for item in values]}
    return {"vr": vr, "Value": [None if value is None else _read_value(vr, value) for value in values]}


def _by_number(element: Element) -> list[Element | None]:
    """Put children where their numbers say, from 1; a number that is left out is a value that is empty."""
    numbered: dict[int, Element] = {}
    for child in element:
        written = child.get("number", "")
        # Its length first: to read digits takes longer than their number, and Python refuses more than 4300.
        digits = written.lstrip("0") if written.isascii() and written.isdigit() else ""
        number = int(digits or 0) if len(digits) <= len(str(MAXIMUM_VALUES)) else 0
        if not 0 < number <= MAXIMUM_VALUES:
            raise MalformedError(f"a value must have a number from 1 to {MAXIMUM_VALUES}")
        if number in numbered:
            raise MalformedError("a value's number is there twice")
        numbered[number] = child
    return [numbered.get(number) for number in range(1, max(numbered, default=0) + 1)]


def _read_value(vr: str, element: Element) -> object:
    if vr == "PN":
        return _read_person(element)
    if _name(element) != "Value" or len(element):
        raise MalformedError("a value must be a Value of text")
    text = element.text or ""
    try:
        if vr in INTEGER_RANGES:
            return int(text) if INTEGER.fullmatch(text) else text
        return float(text) if vr in FLOAT_RANGES else text or None
    except ValueError:
        raise MalformedError("a value is no number") from None


def _read_person(element: Element) -> dict[str, str] | None:
    if _name(element) != "PersonName":
        raise MalformedError("a name must be a PersonName")
    groups = {_name(group): _components(group) for group in element}
    if groups.keys() - set(NAME_GROUPS):
        raise MalformedError("a PersonName has a group that no name has")
    return groups or None


def _components(group: Element) -> str:
    held = {_name(component): component.text or "" for component in group}
    if held.keys() - set(NAME_COMPONENTS) or any("^" in text for text in held.values()):
        raise MalformedError("a name has a component that no name has")
    return "^".join(held.get(name, "") for name in NAME_COMPONENTS).rstrip("^")


def _attributes(model: Model) -> Iterator[str]:
    for tag, attribute in model.items():
        if int(tag[:4], 16) % 2:
            continue
        keyword = keyword_for_tag(int(tag, 16))
        named = f" keyword={quoteattr(keyword)}" if keyword else ""
        inner = "".join(_values(attribute))
        yield f'<DicomAttribute tag="{tag}" vr="{attribute["vr"]}"{named}>{inner}</DicomAttribute>'


def _values(attribute: Model) -> Iterator[str]:
    if "InlineBinary" in attribute:
        yield f"<InlineBinary>{attribute['InlineBinary']}</InlineBinary>"
    for number, value in enumerate(attribute.get("Value", ()), start=1):
        if attribute["vr"] == "SQ":
            yield f'<Item number="{number}">{"".join(_attributes(value))}</Item>'
        elif attribute["vr"] == "PN" and value is not None:
            yield f'<PersonName number="{number}">{"".join(_person(value))}</PersonName>'
        else:
            yield f'<Value number="{number}">{"" if value is None else _escaped(value)}</Value>'


def _person(groups: dict[str, str]) -> Iterator[str]:
    for group, text in groups.items():
        parts = zip(NAME_COMPONENTS, text.split("^", len(NAME_COMPONENTS) - 1), strict=False)
        inner = "".join(f"<{name}>{_escaped(part)}</{name}>" for name, part in parts if part)
        yield f"<{group}>{inner}</{group}>"


def _escaped(value: Any) -> str:
    """Text that a parser gives back as it was; it would read a CR as the end of a line (XML 1.0, 2.11)."""
    return escape(_NO_XML.sub(_INSTEAD, str(value)), {"\r": "&#13;"})
