"""What went in and what came out, as both ends of the daemon note it: the modality's ledger and the PACS' journal."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from pydicom import Dataset
from pynetdicom.dsutils import split_dataset


class Sent(NamedTuple):
    """One content of one image that a modality offered."""

    sop_instance_uid: str
    #: SHA-256 of the data set, without file meta information.
    sha256: str

    @classmethod
    def file(cls, path: Path) -> Self:
        """What sending this Part 10 file offers; its name begins with its SOP Instance UID."""
        return cls(path.stem, data_set_digest(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One object that a PACS received, whether or not it could say so."""

    sop_instance_uid: str
    sop_class_uid: str
    #: SHA-256 of the data set as it came.
    sha256: str
    #: SOP Instance UIDs that it refers to, but for predecessors.
    references: frozenset[str]
    #: SOP Instance UIDs of the reports that it takes the place of.
    predecessors: frozenset[str]

    @classmethod
    def of(cls, ds: Dataset, encoded: bytes) -> Self:
        """Note what arrived.

        Args:
            ds: the decoded data set.
            encoded: its bytes as they came.
        """
        predecessors = {uid for item in ds.get("PredecessorDocumentsSequence", []) for uid in references(item)}
        return cls(
            sop_instance_uid=str(ds.SOPInstanceUID),
            sop_class_uid=str(ds.SOPClassUID),
            sha256=hashlib.sha256(encoded).hexdigest(),
            references=frozenset(references(ds) - predecessors),
            predecessors=frozenset(predecessors),
        )


def data_set_digest(path: Path) -> str:
    """SHA-256 of what follows a file's meta information."""
    _, offset = split_dataset(path)
    return hashlib.sha256(path.read_bytes()[offset:]).hexdigest()


def references(ds: Dataset) -> set[str]:
    """Every SOP Instance UID that an object refers to."""
    return {str(element.value) for element in ds.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
