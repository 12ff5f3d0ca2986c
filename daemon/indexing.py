"""A file's header -> InstanceHeader: what the ledger must know of an image before anyone reads its pixels."""

import re
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from cxr_triage.model.errors import UnreadableImageError
from cxr_triage.model.header import items, open_dataset, quiet_pydicom, text
from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.order_records import issuer

#: Field of InstanceHeader -> DICOM keyword; the issuer of the accession number is in a sequence.
KEYWORDS: Final = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "view": "ViewPosition",
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "study_description": "StudyDescription",
    "referring_physician_name": "ReferringPhysicianName",
    "specific_character_set": "SpecificCharacterSet",
}
#: PS3.5 9.1 allows digits and dots, 64 at most; letters and hyphens are seen and harm nobody, other characters might.
UID: Final = re.compile(r"[0-9A-Za-z.-]{1,64}")


def read_instance_header(path: Path) -> InstanceHeader:
    """Read what indexing needs, skipping all else: pixel data and large values are never in memory.

    Text is decoded by Specific Character Set (PS3.5 6.1); what cannot be decoded becomes replacement characters, what
    does not fit its VR becomes empty.

    Args:
        path: a DICOM Part 10 file.

    Raises:
        UnreadableImageError: it is not DICOM, or Study or Series Instance UID (both Type 1) is missing.
        OSError: the file could not be read; trying again may help.
    """
    with quiet_pydicom():
        dataset = open_dataset(path, only=(*KEYWORDS.values(), "IssuerOfAccessionNumberSequence"))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
            _require_uid(dataset, keyword)
        return InstanceHeader(
            issuer_of_accession_number=issuer_of_accession_number(dataset),
            **{field: text(dataset, keyword) for field, keyword in KEYWORDS.items()},
        )


def issuer_of_accession_number(dataset: Dataset) -> str:
    """Read Issuer of Accession Number Sequence (0008,0051), as `order_records.issuer` writes it; empty: not said."""
    for item in items(dataset, "IssuerOfAccessionNumberSequence"):
        keywords = ("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")
        return issuer(*(text(item, keyword) for keyword in keywords))
    return ""


def _require_uid(dataset: Dataset, keyword: str) -> None:
    if not UID.fullmatch(text(dataset, keyword)):
        raise UnreadableImageError(
            f"The image has no usable {keyword}, so that it belongs to no study: correct it at its source and send it "
            "again."
        )
