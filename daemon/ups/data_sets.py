"""Data sets as requests bring them: as JSON to be kept, as a query, as plain values."""

import json
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

from cxr_triage.daemon.ups.attributes import tag_of
from cxr_triage.daemon.ups.catalogue import STEPS
from cxr_triage.daemon.worklist.matching import Query
from cxr_triage.storage.step_records import Json

_WILDCARDS: Final = frozenset("*?")


def as_json(attributes: Dataset) -> Json | None:
    """Write a data set as JSON, its text as Unicode; None: it cannot be, or not be read back, or has other VRs."""
    try:
        with config.disable_value_validation():
            given: Json = attributes.to_json_dict()
            given.pop(tag_of("SpecificCharacterSet"), None)
            Dataset.from_json(given)
            json.dumps(given, allow_nan=False)  # neither JSON nor PostgreSQL has NaN
            if not all(map(_is_as_the_dictionary_has_it, attributes.iterall())):
                return None
    except Exception:  # noqa: BLE001 - pydicom raises whatever it meets in hostile bytes
        return None
    return given


def query_of(keys: Json) -> Query[Dataset]:
    """Make a query of matching keys.

    Raises:
        IdentifierError: they break a rule.
    """
    with config.disable_value_validation():
        return Query(Dataset.from_json(keys), STEPS)


def exact_values(identifier: Dataset, keyword: str) -> list[str]:
    """The exact values that a key asks for; empty: any, also where it has wildcards."""
    if keyword not in identifier or not identifier[keyword].value:
        return []
    values = str(identifier[keyword].value) if identifier[keyword].VM <= 1 else "\\".join(identifier[keyword].value)
    return [] if _WILDCARDS & set(values) else values.split("\\")


def is_uid(text: str) -> bool:
    """Whether a text is a valid UID (PS3.5 9.1)."""
    return UID(text, validation_mode=config.IGNORE).is_valid


def _is_as_the_dictionary_has_it(element: DataElement) -> bool:
    """Whether an element has the VR of its attribute: text in place of a sequence is not taken."""
    if not dictionary_has_tag(element.tag):
        return True
    return element.VR in dictionary_VR(element.tag).split(" or ")
