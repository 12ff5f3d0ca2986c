"""What a step must, may and must not have at N-CREATE, N-SET and in its final state (PS3.4 Table CC.2.5-3)."""

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.ups.attributes import missing_for_completion
from cxr_triage.daemon.ups.service import Answer, ProcedureSteps
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.step_records import (
    CANCEL_REASON,
    GLOBAL_SUBSCRIPTION,
    PERFORMED,
    PROGRESS,
    READINESS,
    STATE,
    Json,
    StepState,
    cancelled,
    state_report,
)
from placing import CALLER, PERFORMER, brought_to, code, performed, placed, service, state_of
from steps import Steps

TYPE_1 = (
    "ScheduledProcedureStepPriority",
    "ProcedureStepLabel",
    "ScheduledProcedureStepStartDateTime",
    "InputReadinessState",
    "ProcedureStepState",
)


@pytest.fixture
def procedure(sqlite_database: Database) -> ProcedureSteps:
    """Give the service: the rules know no database."""
    return service(Steps(sqlite_database))


def create(procedure: ProcedureSteps, **changes: object) -> Answer:
    """Place a step."""
    return procedure.create("1.2.3", placed(**changes), caller=CALLER)


@pytest.mark.parametrize("keyword", TYPE_1)
def test_type_1_must_be_there_with_a_value(procedure: ProcedureSteps, keyword: str) -> None:
    """Missing attribute, missing value; the answer names it, and no step is made."""
    missing, empty = create(procedure, **{keyword: None}), create(procedure, **{keyword: ""})
    assert (missing.status, missing.comment) == (0x0120, keyword)
    assert (empty.status, empty.comment) == (0x0121, keyword)
    assert procedure.get("1.2.3").status == 0xC307


def test_type_2_that_is_left_out_is_added_empty(procedure: ProcedureSteps) -> None:
    """With a warning that says which."""
    answer = create(procedure, PatientName=None, InputInformationSequence=None)
    assert (answer.status, answer.comment) == (0xB300, "InputInformationSequence, PatientName")
    shown = procedure.get("1.2.3").attributes
    assert shown is not None
    assert (str(shown.PatientName), len(shown.InputInformationSequence)) == ("", 0)


def test_a_worklist_label_is_filled_in(procedure: ProcedureSteps) -> None:
    """As the standard asks of us, and so without a warning."""
    assert create(procedure, WorklistLabel="").status == 0
    shown = procedure.get("1.2.3").attributes
    assert shown is not None
    assert shown.WorklistLabel == "Chest radiographs to read"


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("ScheduledProcedureStepPriority", "URGENT", 0x0106),
        ("InputReadinessState", "MAYBE", 0x0106),
        ("ProcedureStepState", "IN PROGRESS", 0xC309),
        ("ProcedureStepState", "COMPLETED", 0xC309),
        ("ProcedureStepProgressInformationSequence", [code("1", "2", "3")], 0x0106),
        ("UnifiedProcedureStepPerformedProcedureSequence", [code("1", "2", "3")], 0x0106),
        ("TransactionUID", "1.2.3", 0x0106),
        ("SOPClassUID", "1.2.3", 0x0105),
        ("SOPInstanceUID", "1.2.3", 0x0105),
        ("ScheduledProcedureStepModificationDateTime", "20260101", 0x0105),
        ("ReferencedRequestSequence", [code("1", "2", "3")], 0x0120),
        ("ScheduledHumanPerformersSequence", [code("1", "2", "3")], 0x0120),
    ],
)
def test_what_may_not_be_at_creation(procedure: ProcedureSteps, keyword: str, value: object, status: int) -> None:
    """The standard's status for each."""
    assert create(procedure, **{keyword: value}).status == status


@pytest.mark.parametrize(
    ("uid", "status"), [("1.2.x", 0x0117), ("1." + "2" * 64, 0x0117), (GLOBAL_SUBSCRIPTION, 0x0111)]
)
def test_a_uid_that_no_step_can_have(procedure: ProcedureSteps, uid: str, status: int) -> None:
    """An invalid one, and that of a well-known instance."""
    assert procedure.create(uid, placed(), caller=CALLER).status == status


def test_a_step_without_a_uid_is_given_one(procedure: ProcedureSteps) -> None:
    """Which the answer says."""
    answer = procedure.create(None, placed(), caller=CALLER)
    assert answer.attributes is not None
    assert state_of(procedure, answer.attributes.SOPInstanceUID) == "SCHEDULED"


@pytest.mark.parametrize(
    ("keyword", "value", "status"),
    [
        ("ProcedureStepLabel", "Read it", 0),
        ("ProcedureStepLabel", "", 0x0121),
        ("InputReadinessState", "INCOMPLETE", 0),
        ("InputReadinessState", "NEVER", 0x0106),
        ("ScheduledStationNameCodeSequence", [code("1", "2", "3")], 0),
        ("ProcedureStepState", "COMPLETED", 0x0105),
        ("PatientName", "Other^Name", 0x0105),
        ("ReferencedRequestSequence", [], 0x0105),
        ("SOPInstanceUID", "1.2.3", 0x0105),
        ("ScheduledHumanPerformersSequence", [code("1", "2", "3")], 0x0120),
    ],
)
def test_what_may_be_set(procedure: ProcedureSteps, keyword: str, value: object, status: int) -> None:
    """And what may not: then nothing changes."""
    uid, _ = brought_to(procedure, StepState.SCHEDULED)
    before = procedure.get(uid).attributes
    modification = Dataset()
    setattr(modification, keyword, value)
    assert procedure.modify(uid, modification, None, caller=CALLER).status == status
    after = procedure.get(uid).attributes
    assert before is not None
    assert after is not None
    assert (after == before) == (status != 0)


@pytest.mark.parametrize(
    "keyword",
    [
        "PerformedStationNameCodeSequence",
        "PerformedProcedureStepStartDateTime",
        "PerformedProcedureStepEndDateTime",
        "PerformedWorkitemCodeSequence",
        "OutputInformationSequence",
    ],
)
def test_a_completed_step_says_what_was_done(procedure: ProcedureSteps, keyword: str) -> None:
    """Without any one of these, it stays IN PROGRESS, and the answer says which; with all of them, it is COMPLETED."""
    uid, transaction = brought_to(procedure, StepState.IN_PROGRESS)
    modifications = performed()
    del modifications.UnifiedProcedureStepPerformedProcedureSequence[0][keyword]
    assert procedure.modify(uid, modifications, transaction, caller=PERFORMER).status == 0
    answer = procedure.change_state(uid, "COMPLETED", transaction, caller=PERFORMER)
    assert (answer.status, answer.comment) == (0xC304, keyword)
    assert state_of(procedure, uid) == "IN PROGRESS"
    assert procedure.modify(uid, performed(), transaction, caller=PERFORMER).status == 0
    assert procedure.change_state(uid, "COMPLETED", transaction, caller=PERFORMER).status == 0


def test_unknown_attributes_are_left_out_with_a_warning(procedure: ProcedureSteps) -> None:
    """The others are given, never the Transaction UID."""
    uid, _ = brought_to(procedure, StepState.IN_PROGRESS)
    answer = procedure.get(uid, [0x00741000, 0x00081195, 0x00280010])
    assert (answer.status, answer.comment) == (0x0001, "TransactionUID, Rows")
    assert answer.attributes is not None
    assert [element.keyword for element in answer.attributes] == ["SpecificCharacterSet", "ProcedureStepState"]


@pytest.mark.parametrize("transaction", ["x", "1..2", "1." + "3" * 64])
def test_an_invalid_transaction_uid_claims_nothing(procedure: ProcedureSteps, transaction: str) -> None:
    """A step that is claimed under it could hardly be completed."""
    uid, _ = brought_to(procedure, StepState.SCHEDULED)
    assert procedure.change_state(uid, "IN PROGRESS", transaction, caller=PERFORMER).status == 0x0115
    assert procedure.change_state(uid, "IN PROGRESS", generate_uid(), caller=PERFORMER).status == 0


def test_what_is_no_item_is_none() -> None:
    """However it came there: a step of such attributes is shown as incomplete, and can be cancelled."""
    broken: Json = {PROGRESS: {"vr": "SQ", "Value": ["text"]}, PERFORMED: {"vr": "SQ", "Value": ["text"]}}
    assert "PerformedWorkitemCodeSequence" in missing_for_completion(broken)
    ended = cancelled(broken, utc_now(), "sent twice")
    assert state_report(ended, StepState.CANCELED).information[CANCEL_REASON]["Value"] == ["sent twice"]
    assert state_report(broken, StepState.CANCELED).information.keys() == {READINESS, STATE}
