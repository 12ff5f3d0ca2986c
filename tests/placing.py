"""Procedure steps as another system places them, and ours to be changed."""

import json

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.step_records import UPS_FACE, StepState
from steps import LEASE, OWNER, Steps

#: Who asks, where it does not matter.
CALLER = "PLACER"
PERFORMER = "READER1"
RECEIVERS = frozenset({"WATCHER", "READER1"})


def service(steps: Steps) -> ProcedureSteps:
    """Give the service over a ledger."""
    return ProcedureSteps(
        steps.database,
        policy=steps.policy,
        receivers=RECEIVERS,
        retrieve_ae_titles=["PACS"],
        clock=steps.clock,
    )


def placed(**changes: object) -> Dataset:
    """Give what an N-CREATE must have; None: without that attribute."""
    step = Dataset()
    step.ScheduledProcedureStepPriority = "MEDIUM"
    step.ProcedureStepLabel = "Read chest"
    step.WorklistLabel = "Theirs"
    step.ScheduledProcessingParametersSequence = []
    step.ScheduledStationNameCodeSequence = []
    step.ScheduledStationClassCodeSequence = []
    step.ScheduledStationGeographicLocationCodeSequence = []
    step.ScheduledProcedureStepStartDateTime = "20260301120000"
    step.ScheduledWorkitemCodeSequence = [code("110005", "DCM", "Interpretation")]
    step.CommentsOnTheScheduledProcedureStep = ""
    step.InputReadinessState = "READY"
    step.InputInformationSequence = []
    step.PatientName = "Grün^Eva"
    step.PatientID = "PAT-0001"  # as the images have it
    step.IssuerOfPatientID = ""
    step.IssuerOfPatientIDQualifiersSequence = []
    step.OtherPatientIDsSequence = []
    step.PatientBirthDate = ""
    step.PatientSex = "F"
    step.AdmissionID = ""
    step.IssuerOfAdmissionIDSequence = []
    step.AdmittingDiagnosesDescription = ""
    step.AdmittingDiagnosesCodeSequence = []
    step.ReferencedRequestSequence = []
    step.ProcedureStepState = "SCHEDULED"
    step.ProcedureStepProgressInformationSequence = []
    step.UnifiedProcedureStepPerformedProcedureSequence = []
    for keyword, value in changes.items():
        if value is None:
            del step[keyword]
        else:
            setattr(step, keyword, value)
    return step


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Give a coded entry."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def performed() -> Dataset:
    """Give what a step needs to be COMPLETED."""
    item = Dataset()
    item.PerformedStationNameCodeSequence = [code("WS1", "99SITE", "Workstation 1")]
    item.PerformedProcedureStepStartDateTime = "20260301121000"
    item.PerformedProcedureStepEndDateTime = "20260301121500"
    item.PerformedWorkitemCodeSequence = [code("110005", "DCM", "Interpretation")]
    item.OutputInformationSequence = []
    modifications = Dataset()
    modifications.UnifiedProcedureStepPerformedProcedureSequence = [item]
    return modifications


def brought_to(procedure: ProcedureSteps, state: StepState, uid: str | None = None) -> tuple[str, str]:
    """Place a step and bring it to a state; gives its UID and its Transaction UID."""
    transaction = generate_uid()
    made = procedure.create(uid, placed(), caller=CALLER)
    assert made.status == 0
    assert made.attributes is not None
    uid = str(made.attributes.SOPInstanceUID)
    if state is StepState.SCHEDULED:
        return uid, transaction
    assert procedure.change_state(uid, "IN PROGRESS", transaction, caller=PERFORMER).status == 0
    if state is StepState.IN_PROGRESS:
        return uid, transaction
    assert procedure.modify(uid, performed(), transaction, caller=PERFORMER).status == 0
    assert procedure.change_state(uid, state.value, transaction, caller=PERFORMER).status == 0
    return uid, transaction


def state_of(procedure: ProcedureSteps, uid: str) -> str:
    """Give a step's state as it is shown."""
    shown = procedure.get(uid).attributes
    assert shown is not None
    return str(shown.ProcedureStepState)


def shown(procedure: ProcedureSteps, uid: str) -> Dataset:
    """Give a step as it is shown."""
    answer = procedure.get(uid)
    assert answer.attributes is not None, answer
    return answer.attributes


def claim(procedure: ProcedureSteps, uid: str, caller: str = PERFORMER) -> str:
    """Claim a step; gives the Transaction UID."""
    transaction = generate_uid()
    assert procedure.change_state(uid, "IN PROGRESS", transaction, caller=caller) == Answer(status=0)
    return transaction


def complete(procedure: ProcedureSteps, uid: str, transaction: str) -> None:
    """Complete a step."""
    assert procedure.modify(uid, performed(), transaction, caller=PERFORMER).status == 0
    assert procedure.change_state(uid, "COMPLETED", transaction, caller=PERFORMER).status == 0


def told(steps: Steps, receiver: str = "WATCHER") -> list[tuple[int, str]]:
    """Take all that waits for a receiver; gives the types and states."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    taken = []
    while (each := announcements.claim(OWNER, UPS_FACE, receiver)) is not None:
        message = json.loads(each.payload)
        state = message.get("00741000", {"Value": [""]})["Value"][0]
        taken.append((message["00001002"]["Value"][0], state))
        announcements.record_acknowledged(each)
    return taken
