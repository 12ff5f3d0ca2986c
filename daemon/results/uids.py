"""UIDs that follow from what an object is made of: made again, an object has the same UIDs."""

import json
import uuid
from importlib.metadata import version
from typing import Final

from cxr_triage.model.findings import Structure
from cxr_triage.storage.image_records import StoredPrediction

#: Root of all UIDs that we derive.
NAMESPACE: Final = uuid.UUID("ef683776-0f57-4a39-a5e8-3c411d271090")


def derived_uid(*parts: str) -> str:
    """Give the UID that stands for these words in this order (PS3.5 B.2: a UUID under 2.25)."""
    return f"2.25.{uuid.uuid5(NAMESPACE, json.dumps(parts)).int}"


def segment_uid(stored: StoredPrediction, structure: Structure) -> str:
    """The tracking UID under which all objects know one structure of one image."""
    return derived_uid("segment", stored.sop_instance_uid, stored.sha256, structure.name)


def finding_uid(stored: StoredPrediction, label: str) -> str:
    """The tracking UID under which all objects know one finding of one image."""
    return derived_uid("finding", stored.sop_instance_uid, stored.sha256, label)


#: Name this implementation in associations and in file meta information (PS3.7 D.3.3.2; 16 characters at most).
IMPLEMENTATION_CLASS_UID: Final = derived_uid("implementation class", "cxr-triage")
IMPLEMENTATION_VERSION_NAME: Final = f"CXRTRIAGE_{version('cxr-triage')}"[:16]
#: Identifies our coding scheme (PS3.3 C.12.1.1.7).
CODING_SCHEME_UID: Final = derived_uid("coding scheme", "99CXRTRIAGE")
