"""Which of our media types a request is written in, and which it accepts (PS3.18 8.7)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cxr_triage.daemon.web.ups import json_model, xml_model
from cxr_triage.daemon.web.ups.attributes import Model

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
MULTIPART: Final = "multipart/related"
#: Between the parts of an answer; no text of XML holds a line of this kind.
BOUNDARY: Final = "cxr-triage-part"
#: RFC 9110 12.4.2.
_NO_WEIGHT: Final = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaType:
    """A way to write data sets."""

    #: As in Content-Type.
    name: str
    write: Callable[[Sequence[Model]], bytes]
    #: Name, and value of the parameter "type", by which it is accepted.
    accepted_as: tuple[str, str] = ("", "")


def _multipart(models: Sequence[Model]) -> bytes:
    """A part per data set (PS3.18 8.6.1.2.1, RFC 2046 5.1.1)."""
    head = f"--{BOUNDARY}\r\nContent-Type: {XML}\r\n\r\n".encode()
    return b"".join(head + xml_model.write(model) + b"\r\n" for model in models) + f"--{BOUNDARY}--\r\n".encode()


AS_JSON: Final = MediaType(name=JSON, write=json_model.write, accepted_as=(JSON, ""))
AS_XML: Final = MediaType(name=XML, write=lambda models: xml_model.write(models[0]), accepted_as=(XML, ""))
AS_PARTS: Final = MediaType(
    name=f'{MULTIPART}; type="{XML}"; boundary={BOUNDARY}', write=_multipart, accepted_as=(MULTIPART, XML)
)
#: What a response about one Workitem, and about any number of them, may be in; the default is first (PS3.18 11.1.3).
ONE: Final = (AS_JSON, AS_XML)
MANY: Final = (AS_JSON, AS_PARTS)
#: What a payload may be in.
READERS: Final[Mapping[str, Callable[[bytes], object]]] = {JSON: json_model.read, XML: xml_model.read}


def reader_of(content_type: str) -> Callable[[bytes], object] | None:
    """Give what reads a payload of this Content-Type; None: nothing of ours does."""
    name, parameters = _parted(content_type)
    if parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        return None
    return READERS.get(name)


def acceptable(accept: str, offered: Sequence[MediaType]) -> MediaType | None:
    """Give the offered media type that a list of acceptable ones likes best; None: none of them will do."""
    ranges = [_parted(each) for each in accept.split(",")]
    best = max(offered, key=lambda offer: _weight(offer, ranges))  # of equals the first
    return best if _weight(best, ranges) > _NO_WEIGHT else None


def _weight(offer: MediaType, ranges: Sequence[tuple[str, dict[str, str]]]) -> float:
    """The weight of the most specific range that an offer is in (RFC 9110 12.5.1)."""
    name, kind = offer.accepted_as
    for wanted in (name, f"{name.partition('/')[0]}/*", "*/*"):
        for found, parameters in ranges:
            if found == wanted and (wanted != name or parameters.get("type", kind).lower() == kind):
                return _q(parameters)
    return _NO_WEIGHT


def _q(parameters: Mapping[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return _NO_WEIGHT


def _parted(value: str) -> tuple[str, dict[str, str]]:
    """Take a media type or range apart (RFC 9110 8.3.1): its name in small letters, its parameters unquoted."""
    name, *parameters = value.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return name.strip().lower(), {key.strip().lower(): text.strip().strip('"') for key, _, text in pairs}
