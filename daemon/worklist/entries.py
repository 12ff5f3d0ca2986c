"""A ranked study as an entry of a modality worklist (PS3.4 Table K.6-1)."""

from datetime import datetime
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from cxr_triage.daemon.worklist.identifiers import reading_id
from cxr_triage.model.priority import Ranked
from cxr_triage.storage.records import ListedStudy

#: Return keys of type 2 that nobody has told us: answered, and empty.
UNKNOWN_TO_US: Final = (
    "ReferencedStudySequence",
    "PatientTransportArrangements",
    "RequestingPhysician",
    "AdmissionID",
    "CurrentPatientLocation",
    "ReferencedPatientSequence",
    "PatientWeight",
    "ConfidentialityConstraintOnPatientDataDescription",
    "PatientState",
    "PregnancyStatus",
    "MedicalAlerts",
    "Allergies",
    "SpecialNeeds",
)
UNKNOWN_STEP_TO_US: Final = (
    "ScheduledPerformingPhysicianName",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "PreMedication",
    "RequestedContrastAgent",
)


def entry(ranked: Ranked[ListedStudy], *, station_ae_title: str) -> Dataset:
    """Give everything that a study can be asked for, with text as Unicode.

    Args:
        ranked: the study and its place.
        station_ae_title: whoever asks: any station that may read the list may read any study on it.
    """
    header = ranked.study.header
    answer = Dataset()
    _put(answer, SpecificCharacterSet="ISO_IR 192")
    _put(
        answer,
        StudyDate=header.study_date,
        StudyTime=header.study_time,
        AccessionNumber=header.accession_number,
        ReferringPhysicianName=header.referring_physician_name,
        PatientName=header.patient_name,
        PatientID=header.patient_id,
        IssuerOfPatientID=header.issuer_of_patient_id,
        PatientBirthDate=header.patient_birth_date,
        PatientSex=header.patient_sex,
    )
    _put(
        answer,
        StudyInstanceUID=ranked.study.study_instance_uid,
        RequestedProcedureID=header.study_id or _derived_id(ranked.study),
        RequestedProcedureDescription=header.study_description or "Chest radiograph",
        # PS3.3 C.4.11: STAT, HIGH, ROUTINE, MEDIUM or LOW.
        RequestedProcedurePriority=ranked.level.name,
        # PS3.3 C.4.11, "User-defined comments on the Requested Procedure": why it has this place. Reason for the
        # Requested Procedure (0040,1002) is what the referrer asked, and so is not ours to write.
        RequestedProcedureComments=ranked.reason,
        ScheduledProcedureStepSequence=[_step(ranked.study, station_ae_title)],
    )
    _put(answer, **dict.fromkeys(UNKNOWN_TO_US))
    return answer


def _step(study: ListedStudy, station_ae_title: str) -> Dataset:
    """The reading of the study; it waits since the study was made, else since it arrived."""
    header = study.header
    step = Dataset()
    _put(
        step,
        Modality=header.modality,
        ScheduledStationAETitle=station_ae_title,
        ScheduledProcedureStepStartDate=header.study_date or _local(study.arrived_at).strftime("%Y%m%d"),
        ScheduledProcedureStepStartTime=header.study_time or _local(study.arrived_at).strftime("%H%M%S"),
        ScheduledProcedureStepDescription=header.study_description or "Chest radiograph",
        ScheduledProcedureStepID=_derived_id(study),
    )
    _put(step, **dict.fromkeys(UNKNOWN_STEP_TO_US))
    return step


def _put(dataset: Dataset, **values: object) -> None:
    """Set elements by keyword as they came: what an image carries is passed on with its oddities, and not quoted."""
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None, keyword
        vr = dictionary_VR(tag)
        given = [] if value is None and vr == "SQ" else value
        dataset.add(DataElement(tag, vr, given, validation_mode=config.IGNORE))


def _derived_id(study: ListedStudy) -> str:
    """An identifier of type 1 that stays the same for the study."""
    return reading_id(study.study_instance_uid)


def _local(instant: datetime) -> datetime:
    """DA and TM are in the site's time zone (PS3.3 C.12.1.1.8)."""
    return instant.astimezone()
