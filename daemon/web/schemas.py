"""JSON Schemas of what is sent and answered, with examples (PS3.18 Annex F, PS3.4 Table CC.2.5-3)."""

from collections.abc import Mapping
from typing import Any, Final

from cxr_triage.daemon.web.ups.attributes import BINARY_VRS, FLOAT_RANGES, INTEGER_RANGES, TEXT_VRS

Schema = Mapping[str, Any]

#: All that an N-CREATE must have (PS3.4 Table CC.2.5-3, type 1).
NEW_WORKITEM: Final[dict[str, Any]] = {
    "00404005": {"vr": "DT", "Value": ["20260105083000"]},
    "00404041": {"vr": "CS", "Value": ["READY"]},
    "00741000": {"vr": "CS", "Value": ["SCHEDULED"]},
    "00741200": {"vr": "CS", "Value": ["HIGH"]},
    "00741204": {"vr": "LO", "Value": ["Read chest radiograph"]},
}
#: PS3.4 Table CC.2.1-1.
CLAIM: Final[dict[str, Any]] = {
    "00081195": {"vr": "UI", "Value": ["2.25.270695996825855179949881587723571202391"]},
    "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
}


def named(name: str) -> Schema:
    """Refer to one of the schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def _of(vr: str, value: Schema) -> Schema:
    """An attribute with one value."""
    return {
        "type": "object",
        "required": ["vr", "Value"],
        "properties": {
            "vr": {"const": vr},
            "Value": {"type": "array", "items": value, "minItems": 1, "maxItems": 1},
        },
        "additionalProperties": False,
    }


def _one_of(vr: str, *values: str) -> Schema:
    return _of(vr, {"type": "string", "enum": list(values)})


def _data_set(**properties: Schema) -> Schema:
    """A data set that must have these attributes, and may have others."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "patternProperties": {"^[0-9A-Fa-f]{8}$": named("Attribute")},
        "additionalProperties": False,
    }


#: Text without control characters and backslashes.
_LINE: Final = {"type": "string", "pattern": r"^[^\u0000-\u001f\u007f\\]+$"}
#: By the name that they are referred to by.
SCHEMAS: Final[Mapping[str, Schema]] = {
    "DataSet": {
        "description": "A data set in the DICOM JSON Model (PS3.18 Annex F).",
        "type": "object",
        "patternProperties": {"^[0-9A-Fa-f]{8}$": named("Attribute")},
        "additionalProperties": False,
    },
    "Attribute": {
        "description": "What values are written like follows from the VR (PS3.18 Table F.2.3-1).",
        "type": "object",
        "required": ["vr"],
        "properties": {
            "vr": {"enum": sorted({*TEXT_VRS, *INTEGER_RANGES, *FLOAT_RANGES, *BINARY_VRS, "AT", "DS", "PN", "SQ"})},
            "Value": {"type": "array"},
            "InlineBinary": {"type": "string"},
        },
        "additionalProperties": False,
    },
    "NewWorkitem": _data_set(
        **{
            "00404005": _of("DT", _LINE),
            "00404041": _one_of("CS", "INCOMPLETE", "UNAVAILABLE", "READY"),
            "00741000": _one_of("CS", "SCHEDULED"),
            "00741200": _one_of("CS", "HIGH", "MEDIUM", "LOW"),
            "00741204": _of("LO", _LINE),
        }
    ),
    "ChangeOfState": _data_set(
        **{
            "00081195": _of("UI", {"type": "string", "pattern": r"^2\.25\.[1-9][0-9]{0,37}$"}),
            "00741000": _one_of("CS", "IN PROGRESS", "COMPLETED", "CANCELED"),
        }
    ),
    "Problem": {
        "description": "A status report (RFC 9457).",
        "type": "object",
        "required": ["title", "status"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "dicomStatus": {"description": "The DIMSE status (PS3.4 CC.2).", "type": "string"},
        },
    },
}
