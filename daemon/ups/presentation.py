"""A step as it is shown: what was placed or set, and what comes from its study and from the list at that instant."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from pydicom import config
from pydicom.dataset import Dataset

from cxr_triage.daemon.ups.attributes import completed, tag_of
from cxr_triage.daemon.ups.priorities import more_urgent
from cxr_triage.daemon.worklist.version_words import place_in_words
from cxr_triage.model.priority import Ranked
from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.list_records import ListedStudy, ListVersion
from cxr_triage.storage.step_records import (
    INTERPRETATION,
    Json,
    Step,
    StepInput,
    StepStudy,
    date_time,
    element,
    value_of,
)

#: PS3.4 CC.3.1: the class of every step, whichever class it is spoken of under.
PUSH_SOP_CLASS: Final = "1.2.840.10008.5.1.4.34.6.1"
#: What we call our list, and a reading on it.
WORKLIST_LABEL: Final = "Chest radiographs to read"
STEP_LABEL: Final = "Read chest radiograph"


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """The reading list at one instant, by Study Instance UID."""

    version: ListVersion
    #: When its order changed last, UTC.
    changed_at: datetime
    places: dict[str, Ranked[ListedStudy]]


def shown(step: Step, study: StepStudy | None, listing: Listing, *, retrieve_ae_titles: Sequence[str] = ()) -> Dataset:
    """Give all of a step but its Transaction UID, with text as Unicode.

    Args:
        step: as it is kept.
        study: its study, if it has one.
        listing: the list that it may be on.
        retrieve_ae_titles: where its images can be had.
    """
    base = _reading(step, study, retrieve_ae_titles) if step.own and study is not None else {}
    attributes, _ = completed(base | step.attributes)
    on_list = None if step.state.is_final else listing.places.get(step.study_instance_uid or "")
    attributes |= _now(step, study, attributes, on_list, listing)
    with config.disable_value_validation():
        return Dataset.from_json(attributes)


def _now(
    step: Step, study: StepStudy | None, attributes: Json, on_list: Ranked[ListedStudy] | None, listing: Listing
) -> Json:
    """What is so at this instant."""
    level = on_list.level if on_list else study.effective if study and not step.state.is_final else None
    placed = value_of(attributes, tag_of("ScheduledProcedureStepPriority"))
    changed_at = max(step.changed_at, listing.changed_at) if on_list else step.changed_at
    comments = value_of(attributes, tag_of("CommentsOnTheScheduledProcedureStep"))
    words = [comments] if comments else []
    if on_list is not None:
        words += [place_in_words(on_list.rank, listing.version), on_list.reason]
    return _elements(
        SpecificCharacterSet=("CS", "ISO_IR 192"),
        SOPClassUID=("UI", PUSH_SOP_CLASS),
        SOPInstanceUID=("UI", step.sop_instance_uid),
        ProcedureStepState=("CS", step.state.value),
        ScheduledProcedureStepPriority=("CS", more_urgent(placed, level)),
        ScheduledProcedureStepModificationDateTime=("DT", date_time(changed_at)),
        CommentsOnTheScheduledProcedureStep=("LT", " ".join(words)),
        WorklistLabel=("LO", value_of(attributes, tag_of("WorklistLabel")) or WORKLIST_LABEL),
    )


def _reading(step: Step, study: StepStudy, retrieve_ae_titles: Sequence[str]) -> Json:
    """Our own step for reading a study (IHE Reporting Workflow)."""
    arrived_at = study.arrived_at or step.created_at
    return {
        **_elements(
            ProcedureStepLabel=("LO", STEP_LABEL),
            ScheduledProcedureStepStartDateTime=("DT", date_time(arrived_at)),
            ScheduledWorkitemCodeSequence=("SQ", INTERPRETATION),
            InputReadinessState=("CS", "READY"),
            StudyInstanceUID=("UI", study.study_instance_uid),
        ),
        tag_of("InputInformationSequence"): element("SQ", *_inputs(study, retrieve_ae_titles)),
        **({} if study.header is None else _patient(study.header)),
    }


def _patient(header: InstanceHeader) -> Json:
    request = _elements(
        StudyInstanceUID=("UI", header.study_instance_uid),
        AccessionNumber=("SH", header.accession_number),
        IssuerOfAccessionNumberSequence=("SQ", None),
        OrderPlacerIdentifierSequence=("SQ", None),
        OrderFillerIdentifierSequence=("SQ", None),
        RequestedProcedureID=("SH", header.study_id),
        RequestedProcedureDescription=("LO", header.study_description),
        RequestedProcedureCodeSequence=("SQ", None),
        ReferringPhysicianName=("PN", _name(header.referring_physician_name)),
    )
    return _elements(
        PatientName=("PN", _name(header.patient_name)),
        PatientID=("LO", header.patient_id),
        IssuerOfPatientID=("LO", header.issuer_of_patient_id),
        PatientBirthDate=("DA", header.patient_birth_date),
        PatientSex=("CS", header.patient_sex),
        ReferencedRequestSequence=("SQ", request),
    )


def _inputs(study: StepStudy, retrieve_ae_titles: Sequence[str]) -> list[Json]:
    """The images, series by series (PS3.3 Table 10-3b)."""
    by_series = sorted(study.inputs, key=lambda image: image.series_instance_uid)
    return [
        _elements(
            TypeOfInstances=("CS", "DICOM"),
            StudyInstanceUID=("UI", study.study_instance_uid),
            SeriesInstanceUID=("UI", uid),
            **_retrieval(retrieve_ae_titles),
        )
        | {tag_of("ReferencedSOPSequence"): element("SQ", *map(_reference, images))}
        for uid, images in groupby(by_series, key=lambda image: image.series_instance_uid)
    ]


def _retrieval(ae_titles: Sequence[str]) -> dict[str, tuple[str, Any]]:
    if not ae_titles:
        return {}
    where = {tag_of("RetrieveAETitle"): element("AE", *ae_titles)}
    return {"DICOMRetrievalSequence": ("SQ", where)}


def _reference(image: StepInput) -> Json:
    return _elements(
        ReferencedSOPClassUID=("UI", image.sop_class_uid), ReferencedSOPInstanceUID=("UI", image.sop_instance_uid)
    )


def _name(name: str) -> Json | None:
    """A name as it came, in its component groups (PS3.18 F.2.2)."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False)
    return {kind: text for kind, text in groups if text} or None


def _elements(**values: tuple[str, Any]) -> Json:
    """Write elements by keyword; None and an empty text: no value."""
    return {
        tag_of(keyword): element(vr) if value in (None, "") else element(vr, value)
        for keyword, (vr, value) in values.items()
    }
