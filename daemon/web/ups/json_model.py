"""The DICOM JSON Model as bytes (PS3.18 Annex F)."""

import json
from collections.abc import Sequence
from typing import Any

from cxr_triage.daemon.web.ups.attributes import MalformedError, Model


def read(content: bytes) -> object:
    """Parse one data set: an object, or an array of one, as PS3.18 F.2.1 has it.

    Raises:
        MalformedError: it is not JSON in UTF-8, or an attribute is there twice.
    """
    try:
        parsed = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, _DoubleError):
            raise MalformedError("an attribute is there twice") from None
        raise MalformedError("the payload is not JSON in UTF-8") from None
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 else parsed


def write(models: Sequence[Model]) -> bytes:
    """Give the bytes of data sets: an array with an object for each, attributes in the order of their tags."""
    return json.dumps(list(models), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


class _DoubleError(ValueError):
    """JSON leaves open what two members of one name mean (RFC 8259 4)."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _DoubleError
    return made


def _refuse(_constant: str) -> float:
    """JSON knows no NaN and no Infinity (RFC 8259 6)."""
    raise ValueError
