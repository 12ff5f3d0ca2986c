"""Orders and studies in one line each, and a RIS that says them."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from builders import MORNING, instance_header, received_instance
from cxr_triage.daemon.worklist.c_find import MODALITY_WORKLIST_FIND
from cxr_triage.model.priority import Level, Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import Claim, InstanceHeader
from cxr_triage.storage.ledger import Inquiries, Orders
from cxr_triage.storage.order_records import Ending, EndReason, Identity, Order, OrderSource
from steps import LEASE, Steps

RIS = "RIS"
STUDY, OTHER = "1.2.840.1", "1.2.840.2"
#: Of the patient whom `instance_header` names.
PATIENT = "PAT-0001"

_numbers = count(1)


def identity(**changes: Any) -> Identity:
    """Give what an order names: the accession number and the patient of `instance_header`, unless said otherwise."""
    return replace(Identity(accession_number="ACC-0001", patient_id=PATIENT), **changes)


def order(level: Level = Level.STAT, *, minutes: float = 0, **changes: Any) -> Order:
    """Give an order of the RIS, said so many minutes after the start of the day; each call another message."""
    made = Order(
        source=OrderSource.HL7,
        sender=RIS,
        message_id=f"MSG{next(_numbers)}",
        at=MORNING + timedelta(minutes=minutes),
        about=identity(),
        level=level,
    )
    return replace(made, **changes)


def ending(reason: EndReason = EndReason.FINAL_REPORT, **changes: Any) -> Ending:
    """Give the end of an order; each call another message."""
    made = Ending(
        source=OrderSource.HL7,
        sender=RIS,
        message_id=f"MSG{next(_numbers)}",
        at=MORNING,
        about=identity(),
        reason=reason,
    )
    return replace(made, **changes)


def entry(study: str = STUDY, priority: str | None = "STAT", **tags: Any) -> Dataset:
    """Give a RIS's worklist entry of a study of `instance_header`'s patient, as a file."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = MODALITY_WORKLIST_FIND
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {
        "SpecificCharacterSet": "ISO_IR 100",
        "AccessionNumber": "ACC-0001",
        "PatientName": "Muster^Erika",
        "PatientID": PATIENT,
        "PatientBirthDate": "19640812",
        "PatientSex": "F",
        "StudyInstanceUID": study,
        "RequestedProcedureID": "RP1",
        "RequestedProcedureDescription": "Thorax pa",
        "RequestedProcedurePriority": priority,
        "ScheduledProcedureStepSequence": [_step()],
    }
    for keyword, value in (values | tags).items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def _step() -> Dataset:
    step = Dataset()
    step.Modality = "DX"
    step.ScheduledStationAETitle = "DX1"
    step.ScheduledProcedureStepStartDate = "20240304"
    step.ScheduledProcedureStepStartTime = "0700"
    step.ScheduledPerformingPhysicianName = "Beispiel^Otto"
    step.ScheduledProcedureStepDescription = "Thorax pa"
    step.ScheduledProcedureStepID = "SPS1"
    return step


class Desk:
    """The inlet of orders on a ledger, and images that come beside it."""

    def __init__(self, database: Database) -> None:
        self.steps = Steps(database)
        self.orders = Orders(database, ours={"CXRTRIAGE", "CXRLIST"}, clock=self.steps.clock)
        self.inquiries = Inquiries(database, lease=LEASE, clock=self.steps.clock)
        self.policy: Policy = self.steps.policy

    def image(self, study: str = STUDY, *, received_at: datetime | None = None, **header: Any) -> InstanceHeader:
        """Take an image of a study in."""
        self.steps.receive(received_instance(received_at=received_at or self.steps.clock()))
        claim: Claim = self.steps.claim_to_index()
        made = instance_header(study_instance_uid=study, **header)
        self.steps.scoring.record_indexed(claim, made, self.policy)
        return made

    def level(self, study: str = STUDY) -> Level:
        """Say what a listed study is ordered."""
        return self.steps.listed(study).ordered

    def events(self, study: str = STUDY) -> list[tuple[str, str, str]]:
        """Give who did what to a study, and more, oldest first."""
        history = self.steps.reading_list.history(study)
        return [(entry.actor, entry.event, entry.detail) for entry in history]
