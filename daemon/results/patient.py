"""Who and which study: the source's own elements, copied byte for byte with their oddities."""

from copy import deepcopy
from typing import Final

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import VR

from cxr_triage.daemon.indexing import KEYWORDS
from cxr_triage.storage.image_records import InstanceHeader

#: PS3.3 C.7.1.1 Patient Module and C.7.1.3 Clinical Trial Subject Module.
PATIENT: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence", "GroupOfPatientsIdentificationSequence", "PatientBirthDate",
    "PatientBirthTime", "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar", "PatientSex", "QualityControlSubject", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "EthnicGroup", "EthnicGroupCodeSequence", "PatientComments",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "BreedRegistrationSequence", "StrainDescription", "StrainNomenclature", "StrainCodeSequence",
    "StrainAdditionalInformation", "StrainStockSequence", "GeneticModificationsSequence", "ResponsiblePerson",
    "ResponsiblePersonRole", "ResponsibleOrganization", "ReferencedPatientSequence", "ReferencedPatientPhotoSequence",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "IssuerOfClinicalTrialProtocolID", "OtherClinicalTrialProtocolIDsSequence", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "IssuerOfClinicalTrialSiteID", "ClinicalTrialSubjectID", "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
)  # fmt: skip
#: PS3.3 C.7.2.1 General Study, C.7.2.2 Patient Study and C.7.2.3 Clinical Trial Study Modules. The Study Instance UID
#: is the ledger's.
STUDY: Final = (
    "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "ConsultingPhysicianIdentificationSequence",
    "StudyDescription", "ProcedureCodeSequence", "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence", "ReferencedStudySequence",
    "StudyID", "RequestingService", "RequestingServiceCodeSequence", "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize",
    "PatientSizeCodeSequence", "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension",
    "PatientWeight", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory",
    "PregnancyStatus", "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence",
    "AdmissionID", "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence", "PatientState", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "ClinicalTrialTimePointTypeCodeSequence", "IssuerOfClinicalTrialTimePointID",
    "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType", "ConsentForClinicalTrialUseSequence",
)  # fmt: skip
#: Type 2 in those modules: present even where the source lacks them (PS3.5 7.4.3).
MUST_BE_PRESENT: Final = frozenset(
    {
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
        *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"),
    }
)
#: Says how all of the above is encoded, and by which clock it was dated (PS3.3 C.12.1.1.2, C.12.1).
ENCODING: Final = ("SpecificCharacterSet", "TimezoneOffsetFromUTC")
#: What derives from a lossy image was lossy too (PS3.3 C.7.6.1.1.5).
LOSSY: Final = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
#: Everything of the source's header that is copied.
COPIED: Final = (*ENCODING, *PATIENT, *STUDY)
#: What the ledger keeps of patient and study, by the name there.
KNOWN: Final = {field: keyword for field, keyword in KEYWORDS.items() if keyword in (*PATIENT, *STUDY)}

#: VRs whose bytes depend on the byte order.
_BINARY: Final = frozenset(
    {VR.AT, VR.FD, VR.FL, VR.SL, VR.SS, VR.SV, VR.UL, VR.US, VR.UV, VR.OW, VR.OF, VR.OD, VR.OL, VR.OV}
)

#: Of one VR each; the others of the enumeration are choices such as "US or SS".
_KNOWN: Final = frozenset(vr.value for vr in VR if len(vr.value) == 2)


def copy_patient_and_study(source: Dataset, target: Dataset) -> None:
    """Replace the target's patient and study modules, and its character set, by the source's.

    Args:
        source: as read from its file; elements that nobody has looked at yet keep their bytes.
        target: an object in Explicit VR Little Endian.
    """
    copy_elements(source, target, COPIED)
    _keep_bytes(target)
    for keyword in MUST_BE_PRESENT:
        if keyword not in target:
            setattr(target, keyword, None)


def copy_elements(source: Dataset, target: Dataset, keywords: tuple[str, ...]) -> None:
    """Make these elements of the target what they are in the source: absent where that has none, or unreadable ones."""
    for keyword in keywords:
        tag = Tag(keyword)
        element = _faithful(source, tag) if tag in source else None
        if element is not None:
            target[tag] = element
        elif tag in target:
            del target[tag]


def header_known(known: InstanceHeader) -> Dataset:
    """Make a header of what the ledger keeps of it, for a source whose file was removed after its time."""
    source = Dataset()
    if known.specific_character_set:
        source.SpecificCharacterSet = known.specific_character_set.split("\\")
    for field, keyword in KNOWN.items():
        if value := getattr(known, field):
            setattr(source, keyword, value)
    return source


def can_say(source: Dataset, words: str) -> bool:
    """Whether these words can be written in the source's character set, which all of our objects have (C.12.1.1.2).

    ASCII can be written in each (PS3.5 6.1.2.1), also where the name of the set is not one that anybody knows.
    """
    if words.isascii():
        return True
    try:
        encodings = convert_encodings(source.get("SpecificCharacterSet") or "")
    except (ValueError, TypeError, LookupError):  # not even a name: it is left out, and ASCII remains
        encodings = [default_encoding]
    return any(_encodes(encoding, words) for encoding in encodings)


def _encodes(encoding: str, words: str) -> bool:
    try:
        # What pydicom calls by that name is the default repertoire, which is ASCII (PS3.5 6.1.2.1).
        words.encode("ascii" if encoding == default_encoding else encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _keep_bytes(dataset: Dataset) -> None:
    """Have undecoded elements written as they are; else pydicom decodes and encodes them again, and may fail at it.

    A character set that is not even a name is left out: nothing can be written under it. One that is merely unknown
    stays, and what is ours is ASCII.
    """
    encodings: str | list[str] = default_encoding
    if "SpecificCharacterSet" in dataset:
        try:
            encodings = convert_encodings(dataset.SpecificCharacterSet)
        except (ValueError, TypeError, LookupError):
            del dataset.SpecificCharacterSet
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=True, character_encoding=encodings)


def _faithful(source: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    """The element as it came, or None if it cannot be read.

    Bytes that pydicom has not decoded stay so: no VR's rules apply to them.
    """
    element = source.get_item(tag)
    if isinstance(element, RawDataElement):
        vr = _vr(element)
        if vr != VR.SQ and (element.is_little_endian or vr not in _BINARY):
            return _as_explicit(element, vr)
    try:
        decoded = source[tag]
    except Exception:  # noqa: BLE001 - pydicom parses on access, and fails in as many ways as a sequence can be broken
        return None
    if decoded.VR == VR.SQ:
        return DataElement(tag, VR.SQ, Sequence(_item(item) for item in decoded.value))
    return deepcopy(decoded)


def _item(source: Dataset) -> Dataset:
    copied = Dataset()
    for tag in source.keys():  # noqa: SIM118 - iterating over a Dataset decodes every element
        element = _faithful(source, tag)
        if element is not None:
            copied[tag] = element
    _keep_bytes(copied)
    return copied


def _vr(element: RawDataElement) -> str:
    """The VR that was sent, else the dictionary's."""
    if element.VR in _KNOWN and element.VR != VR.UN:
        return element.VR
    try:
        vr = dictionary_VR(element.tag)
    except KeyError:  # private: neither sent nor known
        return VR.UN
    return vr if vr in _KNOWN else VR.UN


def _as_explicit(element: RawDataElement, vr: str) -> RawDataElement:
    value = element.value or b""
    if len(value) % 2:  # PS3.5 6.2: values have even length
        value += b"\0" if vr in {VR.UI, VR.OB, VR.UN} else b" "
    return element._replace(
        VR=vr, length=len(value), value=value, value_tell=0, is_implicit_VR=False, is_little_endian=True
    )
