"""What every object of ours has in common: who made it, when, and how it becomes bytes."""

import hashlib
import re
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from io import BytesIO
from typing import Any, Final, NamedTuple

from highdicom.sr import CodedConcept
from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, GrayscaleSoftcopyPresentationStateStorage

from cxr_triage.daemon.results.patient import copy_patient_and_study
from cxr_triage.daemon.results.profiles import Profile
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, derived_uid
from cxr_triage.model.header import GROUP_LENGTH_ELEMENT_BYTES, PREAMBLE_BYTES, quiet_pydicom, text
from cxr_triage.model.prediction import BundleIdentity
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.result_records import ObjectKind, ObjectReference, Revision

MANUFACTURER: Final = "cxr-triage project"
MODEL_NAME: Final = "cxr-triage"
SOFTWARE_VERSION: Final = version("cxr-triage")
#: Of every object, as it is kept and sent.
TRANSFER_SYNTAX: Final = ExplicitVRLittleEndian
#: Part of every derived UID.
EMITTER: Final = f"{SOFTWARE_VERSION}/1"
#: Body Part Examined (PS3.16 Annex L): not of a pair, so that no Laterality is called for (PS3.3 C.7.3.1).
CHEST: Final = "CHEST"
#: When it was made, by prefix of a date and a time; a presentation state has a pair of its own (PS3.3 C.11.10).
SERIES, CONTENT, PRESENTATION = "Series", "Content", "PresentationCreation"
#: Characters of a Series Description (PS3.5 6.2, LO).
LONGEST_DESCRIPTION: Final = 64
#: PS3.3 C.12.1.1.8.
_OFFSET: Final = re.compile(r"([+-])(\d{2})(\d{2})")


def source_stand_in(stored: StoredPrediction) -> Dataset:
    """A source that a library can trust: the ledger's UIDs, and nothing of what a sender may have written oddly."""
    dataset = Dataset()
    dataset.SOPClassUID = stored.sop_class_uid
    dataset.SOPInstanceUID = stored.sop_instance_uid
    dataset.StudyInstanceUID = stored.study_instance_uid
    dataset.SeriesInstanceUID = stored.series_instance_uid
    dataset.Modality = "DX"
    dataset.Rows, dataset.Columns = stored.prediction.masks_CHW.shape[1:]
    return without_patient(dataset)


def stand_in(referenced: ObjectReference) -> Dataset:
    """A data set of which a library takes the reference, and nothing else."""
    dataset = Dataset()
    dataset.SOPClassUID = referenced.sop_class_uid
    dataset.SOPInstanceUID = referenced.sop_instance_uid
    dataset.SeriesInstanceUID = referenced.series_instance_uid
    dataset.StudyInstanceUID = referenced.study_instance_uid
    return without_patient(dataset)


def without_patient(dataset: Dataset) -> Dataset:
    """Give it empty patient and study modules, to be replaced by the source's when the object is finished."""
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber"):
        setattr(dataset, keyword, "")
    dataset.StudyDate = dataset.StudyTime = None
    dataset.ReferringPhysicianName = ""
    return dataset


def equipment(bundle: BundleIdentity) -> dict[str, Any]:
    """Enhanced General Equipment Module (PS3.3 C.7.5.2), as highdicom's arguments; the weights are the device."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": [f"{MODEL_NAME} {SOFTWARE_VERSION}", f"{bundle.name} {bundle.version}"],
        "device_serial_number": bundle.sha256,
    }


def device_uid(weights_sha256: str) -> str:
    """The UID of the device that this software with these weights is."""
    return derived_uid("device", MODEL_NAME, SOFTWARE_VERSION, weights_sha256)


def image_object_uid(kind: ObjectKind, stored: StoredPrediction, profile: Profile, part: str = "instance") -> str:
    """What the UID of an object about an image, or of a part of it, is derived from."""
    content = [stored.sop_instance_uid, stored.sha256, stored.prediction.bundle.sha256]
    if stored.version > 1:
        content.append(f"rev {stored.version}")
    return derived_uid(kind.value, *content, profile.name, EMITTER, part)


def image_series_description(kind: ObjectKind, stored: StoredPrediction, profile: Profile) -> str:
    """Say in the list of series what an object about an image is, and whether an earlier one is out of date.

    No attribute of theirs says so, as Predecessor Documents Sequence does of documents.
    """
    description = profile.series_description(kind)
    return description if stored.version == 1 else numbered(description, stored.version)


def numbered(description: str, number: int) -> str:
    """A Series Description with the number of its revision; what does not fit before that is cut off (PS3.5 6.2)."""
    suffix = f", rev {number}"
    return f"{description[: LONGEST_DESCRIPTION - len(suffix)]}{suffix}"


def document_uid(kind: ObjectKind, revision: Revision, profile: Profile, part: str = "instance") -> str:
    """What the UID of a revision's document, or of a part of it, is derived from."""
    return derived_uid(kind.value, revision.study_instance_uid, revision.digest, profile.name, EMITTER, part)


def finish(dataset: Dataset, *, source: Dataset, moment: datetime) -> str:
    """Replace what a library made up (patient, UIDs, times, implementation) by the source's and the ledger's.

    Args:
        dataset: a new object under UIDs that say what it is about, changed in place.
        source: header of the image that it is about.
        moment: when what it is about came, aware. Made again, after a crash or from a backup, it says the same.

    Returns:
        What the UIDs of its parts are to be derived from.
    """
    correct_ambiguous_vr(dataset, is_little_endian=True)
    with quiet_pydicom():
        copy_patient_and_study(source, dataset)
    # highdicom names itself there, with the time of day.
    dataset.ContributingEquipmentSequence = [_contributing(dataset)]
    for prefix in ("InstanceCreation", SERIES, CONTENT, PRESENTATION):
        dataset.pop(f"{prefix}Date", None)
        dataset.pop(f"{prefix}Time", None)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    content = _identify(dataset)
    _date(dataset, _in_zone_of(source, moment))
    return content


def _contributing(dataset: Dataset) -> Dataset:
    """The algorithm as equipment that contributed to an object (PS3.3 C.12.1.1.5), where IHE AI Results look for it."""
    item, purpose = Dataset(), codes.DCM.ProcessingEquipment
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    item.Manufacturer = dataset.Manufacturer
    item.ManufacturerModelName = dataset.ManufacturerModelName
    item.SoftwareVersions = dataset.SoftwareVersions
    item.DeviceSerialNumber = dataset.DeviceSerialNumber
    item.DeviceUID = device_uid(dataset.DeviceSerialNumber)
    return item


class Encoded(NamedTuple):
    """A file (PS3.10) in its two parts."""

    #: Zero preamble, prefix and file meta information.
    meta: bytes
    #: The data set, Explicit VR Little Endian.
    dataset: bytes


def encode(dataset: Dataset) -> Encoded:
    """Turn a finished object into the bytes that are kept and sent."""
    assert dataset.file_meta.TransferSyntaxUID == TRANSFER_SYNTAX
    buffer = BytesIO()
    dataset.preamble = bytes(PREAMBLE_BYTES - len(b"DICM"))
    with quiet_pydicom():
        dcmwrite(buffer, dataset, enforce_file_format=True)
    content = buffer.getvalue()
    start = PREAMBLE_BYTES + GROUP_LENGTH_ELEMENT_BYTES
    end = start + int.from_bytes(content[start - 4 : start], "little")  # the group's length is its first element
    return Encoded(content[:end], content[end:])


def _identify(dataset: Dataset) -> str:
    """Give an object its UIDs, which follow from all that it says but for its dates; the digest of that.

    What is computed again, as from a backup, is the same object as before, or else another one: never another content
    under the same UID.
    """
    content = hashlib.sha256(encode(dataset).dataset).hexdigest()
    dataset.SeriesInstanceUID = derived_uid(dataset.SeriesInstanceUID, content)
    uid = UID(derived_uid(dataset.SOPInstanceUID, content))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
    return content


def _date(dataset: Dataset, moment: datetime) -> None:
    is_presentation = dataset.SOPClassUID == GrayscaleSoftcopyPresentationStateStorage
    for prefix in (SERIES, PRESENTATION if is_presentation else CONTENT):
        setattr(dataset, f"{prefix}Date", moment.strftime("%Y%m%d"))
        setattr(dataset, f"{prefix}Time", moment.strftime("%H%M%S.%f"))


def _in_zone_of(source: Dataset, moment: datetime) -> datetime:
    """DICOM dates are local: by the source's stated offset, else by this machine's zone (PS3.3 C.12.1.1.8)."""
    stated = _OFFSET.fullmatch(text(source, "TimezoneOffsetFromUTC"))
    if stated is None:
        return moment.astimezone()
    sign, hours, minutes = stated.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    if offset >= timedelta(days=1):
        return moment.astimezone()
    return moment.astimezone(timezone(-offset if sign == "-" else offset))
