"""Identifiers of our worklist's entries: by them we know our own list when it comes back to us."""

import hashlib
from typing import Final

#: SH holds 16 characters (PS3.5 6.2).
_LENGTH: Final = 16


def reading_id(study_instance_uid: str) -> str:
    """Give Scheduled Procedure Step ID (0040,0009) of the reading of a study: it stays the same for the study."""
    return hashlib.sha256(study_instance_uid.encode()).hexdigest()[:_LENGTH].upper()
