"""A study on the list as an entry of a modality worklist (PS3.4 Table K.6-1)."""

from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from typing import Final

from cxr_triage.daemon.worklist.board import Board, Place
from cxr_triage.daemon.worklist.catalogue import DATASETS, Attributes, Items
from cxr_triage.daemon.worklist.identifiers import reading_id
from cxr_triage.daemon.worklist.version_words import place_in_words

#: Return keys of type 2 that nobody has told us: answered, and empty.
UNKNOWN_TO_US: Final = (
    "PatientTransportArrangements",
    "RequestingPhysician",
    "AdmissionID",
    "CurrentPatientLocation",
    "PatientWeight",
    "ConfidentialityConstraintOnPatientDataDescription",
    "PatientState",
    "PregnancyStatus",
    "MedicalAlerts",
    "Allergies",
    "SpecialNeeds",
)
UNKNOWN_SEQUENCES: Final = ("ReferencedStudySequence", "ReferencedPatientSequence")
UNKNOWN_STEP_TO_US: Final = (
    "ScheduledPerformingPhysicianName",
    "ScheduledStationName",
    "ScheduledProcedureStepLocation",
    "PreMedication",
    "RequestedContrastAgent",
)
_NO_DESCRIPTION: Final = "Chest radiograph"

Values = dict[str, Callable[[Place], str]]


def _header(name: str) -> Callable[[Place], str]:
    """Give what finds a field of the study's header."""
    find = attrgetter(f"study.header.{name}")
    return lambda place: str(find(place))


#: Known of patient and study as the first image says it, for both information models.
OF_THE_IMAGE: Final[Values] = {
    "StudyDate": _header("study_date"),
    "StudyTime": _header("study_time"),
    "AccessionNumber": _header("accession_number"),
    "ReferringPhysicianName": _header("referring_physician_name"),
    "PatientName": _header("patient_name"),
    "PatientID": _header("patient_id"),
    "IssuerOfPatientID": _header("issuer_of_patient_id"),
    "PatientBirthDate": _header("patient_birth_date"),
    "PatientSex": _header("patient_sex"),
    "StudyInstanceUID": lambda place: place.study.study_instance_uid,
}
#: The place on the list, for both.
OF_THE_LIST: Final[Values] = {
    # PS3.3 C.4.11: STAT, HIGH, ROUTINE, MEDIUM or LOW.
    "RequestedProcedurePriority": lambda place: place.level.name,
    # PS3.3 C.4.11, "User-defined comments on the Requested Procedure": why it has this place. Reason for the Requested
    # Procedure (0040,1002) is what the referrer asked, and so is not ours to write.
    "RequestedProcedureComments": lambda place: place.reason,
}


def worklist_entries(board: Board, *, station_ae_title: str) -> Attributes[Place]:
    """Say what the entries of a worklist have.

    Args:
        board: the list.
        station_ae_title: whoever asks: any station that may read the list may read any study on it.
    """
    values: Values = {
        **OF_THE_IMAGE,
        "RequestedProcedureID": lambda place: place.study.header.study_id or reading_id(place.study.study_instance_uid),
        "RequestedProcedureDescription": _description,
        **OF_THE_LIST,
        **dict.fromkeys(UNKNOWN_TO_US, _nothing),
    }
    sequences = {name: Items(lambda _place: (), DATASETS) for name in UNKNOWN_SEQUENCES}
    step = Items(lambda place: (place,), _step(board, station_ae_title))
    return Attributes(values, {**sequences, "ScheduledProcedureStepSequence": step})


def _step(board: Board, station_ae_title: str) -> Attributes[Place]:
    """The reading of the study; it waits since the study was made, else since it arrived."""
    since = _local(board.since).strftime("%Y%m%d%H%M%S.%f%z")
    values: Values = {
        "Modality": _header("modality"),
        "ScheduledStationAETitle": lambda _place: station_ae_title,
        "ScheduledProcedureStepStartDate": _start_date,
        "ScheduledProcedureStepStartTime": _start_time,
        "ScheduledProcedureStepDescription": _description,
        "ScheduledProcedureStepID": lambda place: reading_id(place.study.study_instance_uid),
        "CommentsOnTheScheduledProcedureStep": lambda place: place_in_words(place.rank, board.version),
        # Not in Table K.6-1: what an entry says changes with each version of the list.
        "ScheduledProcedureStepModificationDateTime": lambda _place: since,
        **dict.fromkeys(UNKNOWN_STEP_TO_US, _nothing),
    }
    return Attributes(values)


def _nothing(place: Place) -> str:
    del place
    return ""


def _description(place: Place) -> str:
    return place.study.header.study_description or _NO_DESCRIPTION


def _start_date(place: Place) -> str:
    return place.study.header.study_date or _local(place.study.arrived_at).strftime("%Y%m%d")


def _start_time(place: Place) -> str:
    return place.study.header.study_time or _local(place.study.arrived_at).strftime("%H%M%S")


def _local(instant: datetime) -> datetime:
    """DA and TM are in the site's time zone (PS3.3 C.12.1.1.8)."""
    return instant.astimezone()
