"""Our own steps follow the reading list, and the list follows the steps."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import select

from builders import finding
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.model.priority import Level
from cxr_triage.storage.ledger import StepLedger
from cxr_triage.storage.ledger.studies import locked_study
from cxr_triage.storage.schema import ProcedureStepRow
from cxr_triage.storage.step_records import step_uid
from peers import PATIENCE_SECONDS
from placing import CALLER, PERFORMER, claim, complete, placed, service, shown, state_of
from steps import Steps, until_somebody_waits

STUDY = "1.1"
OURS = step_uid(STUDY, 1)
NEXT = step_uid(STUDY, 2)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def test_a_study_has_one_step_from_its_first_image(steps: Steps, procedure: ProcedureSteps) -> None:
    """With its patient, its request and its images as inputs; later images are added."""
    steps.index(STUDY)
    step = shown(procedure, OURS)
    assert (step.ProcedureStepState, step.ScheduledProcedureStepPriority) == ("SCHEDULED", "LOW")
    assert step.ScheduledWorkitemCodeSequence[0].CodeValue == "110005"
    assert step.StudyInstanceUID == step.ReferencedRequestSequence[0].StudyInstanceUID == STUDY
    assert step.PatientID == steps.listed(STUDY).header.patient_id
    steps.index(STUDY)
    inputs = shown(procedure, OURS).InputInformationSequence
    assert sum(len(item.ReferencedSOPSequence) for item in inputs) == 2
    assert {item.DICOMRetrievalSequence[0].RetrieveAETitle for item in inputs} == {"PACS"}
    assert [each.sop_instance_uid for each in StepLedger(steps.database).find()] == [OURS]


@pytest.mark.parametrize(
    ("ordered", "priority", "raised"),
    [
        (Level.STAT, "HIGH", "HIGH"),
        (Level.HIGH, "MEDIUM", "MEDIUM"),
        (Level.ROUTINE, "LOW", "MEDIUM"),
        (Level.MEDIUM, "LOW", "MEDIUM"),
        (Level.LOW, "LOW", "MEDIUM"),
    ],
)
def test_findings_raise_to_medium_at_most(
    steps: Steps, procedure: ProcedureSteps, ordered: Level, priority: str, raised: str
) -> None:
    """HIGH is what was ordered STAT."""
    steps.reading_list.set_ordered(STUDY, ordered, actor="RIS", policy=steps.policy)
    steps.index(STUDY)
    assert shown(procedure, OURS).ScheduledProcedureStepPriority == priority
    steps.score(STUDY, finding("Pneumothorax", 0.9))
    assert shown(procedure, OURS).ScheduledProcedureStepPriority == raised


def test_claim_and_completion_are_the_studys(steps: Steps, procedure: ProcedureSteps) -> None:
    """Claimed by the performer, and off the list when the step is complete."""
    steps.index(STUDY)
    transaction = claim(procedure, OURS)
    assert steps.listed(STUDY).claimed_by == PERFORMER
    complete(procedure, OURS, transaction)
    assert steps.reading_list.studies() == []


def test_of_two_performers_at_once_one_gets_each_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """Whatever the database: the claim of the step and of its study are one transaction."""
    uids = [f"1.{number}" for number in range(1, 7)]
    for uid in uids:
        steps.index(uid)
    start = threading.Barrier(2)

    def race(name: str) -> list[int]:
        start.wait()
        return [
            procedure.change_state(step_uid(uid, 1), "IN PROGRESS", generate_uid(), caller=name).status for uid in uids
        ]

    with ThreadPoolExecutor(2) as racers:
        first, second = racers.map(race, ["READER1", "READER2"])
    assert [sorted(each) for each in zip(first, second, strict=True)] == [[0, 0xC301]] * len(uids)
    won = {uid: "READER1" if status == 0 else "READER2" for uid, status in zip(uids, first, strict=True)}
    assert {study.study_instance_uid: study.claimed_by for study in steps.reading_list.studies()} == won


def test_a_performer_who_cancels_gives_the_study_back(steps: Steps, procedure: ProcedureSteps) -> None:
    """Nobody has read it: it waits as a new step, and the old one says that it was cancelled, and when."""
    steps.index(STUDY)
    transaction = claim(procedure, OURS)
    assert procedure.change_state(OURS, "CANCELED", transaction, caller=PERFORMER).status == 0
    assert steps.listed(STUDY).claimed_at is None
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")
    progress = shown(procedure, OURS).ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
    assert progress.ProcedureStepCancellationDateTime


def test_a_request_to_cancel_what_waits_ends_it(steps: Steps, procedure: ProcedureSteps) -> None:
    """The reading is not wanted any more; the trail says who said so."""
    steps.index(STUDY)
    request = Dataset()
    request.ReasonForCancellation = "sent twice"
    assert procedure.request_cancel(OURS, request, caller=CALLER).status == 0
    assert shown(procedure, OURS).ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "sent twice"
    assert steps.reading_list.studies() == []
    last = steps.reading_list.history(STUDY)[-1]
    assert (last.event, last.actor) == ("finished", CALLER)


def test_a_reader_of_another_way_moves_the_step(steps: Steps, procedure: ProcedureSteps) -> None:
    """Claimed, it is IN PROGRESS and nobody else's; given back, a new one waits; read, that one is COMPLETED."""
    steps.index(STUDY)
    assert steps.reading_list.claim(STUDY, by="Dr. B", actor="web")
    assert procedure.change_state(OURS, "IN PROGRESS", generate_uid(), caller=PERFORMER).status == 0xC301
    assert procedure.request_cancel(OURS, Dataset(), caller=CALLER).status == 0xC312
    assert steps.reading_list.give_back(STUDY, actor="web")
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")
    assert steps.reading_list.claim(STUDY, by="Dr. B", actor="web")
    assert steps.reading_list.finish(STUDY, actor="web")
    step = shown(procedure, NEXT)
    assert step.ProcedureStepState == "COMPLETED"
    assert step.UnifiedProcedureStepPerformedProcedureSequence[0].PerformedProcedureStepEndDateTime


def test_a_study_read_elsewhere_ends_its_step(steps: Steps, procedure: ProcedureSteps) -> None:
    """An image after that is a new reading, and so a new step."""
    steps.index(STUDY)
    steps.clock.move(timedelta(minutes=1))
    assert steps.reading_list.finish(STUDY, actor="RIS")
    assert state_of(procedure, OURS) == "CANCELED"
    steps.clock.move(timedelta(minutes=1))
    steps.index(STUDY)
    assert (state_of(procedure, OURS), state_of(procedure, NEXT)) == ("CANCELED", "SCHEDULED")


def test_a_uid_that_somebody_else_took_keeps_no_study_off_the_list(steps: Steps, procedure: ProcedureSteps) -> None:
    """Whoever places steps chooses their UIDs, also the one that ours would have: ours has the next."""
    for uid in (OURS, NEXT):
        assert procedure.create(uid, placed(), caller=CALLER).done
    steps.index(STUDY)
    assert steps.listed(STUDY).study_instance_uid == STUDY
    assert shown(procedure, step_uid(STUDY, 3)).StudyInstanceUID == STUDY


def test_a_waiting_step_that_is_cancelled_leaves_the_reader_at_work(steps: Steps, procedure: ProcedureSteps) -> None:
    """The study is another reader's, who goes on."""
    steps.index(STUDY)
    assert steps.reading_list.claim(STUDY, by="Dr. B", actor="web")
    assert procedure.create("1.2.3", placed(StudyInstanceUID=STUDY), caller=CALLER).done
    assert procedure.request_cancel("1.2.3", Dataset(), caller=CALLER).status == 0
    assert steps.listed(STUDY).claimed_by == "Dr. B"
    assert state_of(procedure, OURS) == "IN PROGRESS"


def test_a_study_waits_for_as_long_as_one_of_its_steps_does(steps: Steps, procedure: ProcedureSteps) -> None:
    """Asked for twice, it is wanted until neither is."""
    steps.index(STUDY)
    for uid in ("1.2.3", "1.2.4"):
        assert procedure.create(uid, placed(StudyInstanceUID=STUDY), caller=CALLER).done
    assert procedure.request_cancel("1.2.3", Dataset(), caller=CALLER).status == 0
    assert steps.listed(STUDY).claimed_at is None
    assert procedure.request_cancel("1.2.4", Dataset(), caller=CALLER).status == 0
    assert steps.reading_list.studies() == []


@pytest.mark.parametrize("before", [True, False])
def test_two_readers_of_one_name_do_not_read_one_study(
    steps: Steps, procedure: ProcedureSteps, *, before: bool
) -> None:
    """All who come by HTTP without an AE title have the same; before the images came, and after."""
    if not before:
        steps.index(STUDY)
    for uid in ("1.2.3", "1.2.4"):
        assert procedure.create(uid, placed(StudyInstanceUID=STUDY), caller=CALLER).done
    claim(procedure, "1.2.3")
    assert procedure.change_state("1.2.4", "IN PROGRESS", generate_uid(), caller=PERFORMER).status == 0xC302
    assert state_of(procedure, "1.2.4") == "SCHEDULED"


def test_a_step_that_was_taken_from_its_study_moves_it_no_more(steps: Steps, procedure: ProcedureSteps) -> None:
    """Whoever waited for the study looks again at whose step it is."""
    steps.index(STUDY)
    with ThreadPoolExecutor(1) as other:
        with steps.database.transaction() as session:
            locked_study(session, STUDY)
            claimed = other.submit(procedure.change_state, OURS, "IN PROGRESS", generate_uid(), caller=PERFORMER)
            until_somebody_waits(steps.database)
            mine = select(ProcedureStepRow).filter_by(sop_instance_uid=OURS)
            session.scalars(mine).one().study_instance_uid = None
        assert claimed.result(PATIENCE_SECONDS).status == 0
    assert state_of(procedure, OURS) == "IN PROGRESS"
    assert steps.listed(STUDY).claimed_at is None
