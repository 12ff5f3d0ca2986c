"""Steps that others place: what they order, and what study they are the reading of."""

from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.model.priority import Level
from cxr_triage.storage.ledger import Orders, StepLedger
from cxr_triage.storage.order_records import Identity, Order, OrderSource
from cxr_triage.storage.step_records import (
    step_uid,
)
from placing import CALLER, PERFORMER, claim, complete, placed, service, state_of
from steps import Steps

STUDY = "1.1"
OURS = step_uid(STUDY, 1)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def test_a_placed_step_takes_the_place_of_ours(steps: Steps, procedure: ProcedureSteps) -> None:
    """It orders the study, and is claimed for it; ours is cancelled."""
    steps.index(STUDY)
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    assert state_of(procedure, OURS) == "CANCELED"
    assert steps.listed(STUDY).ordered is Level.STAT
    claim(procedure, "1.2.3")
    assert steps.listed(STUDY).claimed_by == PERFORMER


@pytest.mark.parametrize(("priority", "level"), [("HIGH", Level.STAT), ("MEDIUM", Level.HIGH), ("LOW", Level.ROUTINE)])
def test_a_step_placed_before_the_images_is_the_studys(
    steps: Steps, procedure: ProcedureSteps, priority: str, level: Level
) -> None:
    """No other one is made, and the study is ordered as placed."""
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority=priority)
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    steps.index(STUDY)
    assert [each.sop_instance_uid for each in StepLedger(steps.database).find()] == ["1.2.3"]
    assert steps.listed(STUDY).ordered is level


def test_whoever_claimed_before_the_images_came_has_the_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """No second reader is given it."""
    assert procedure.create("1.2.3", placed(StudyInstanceUID=STUDY), caller=CALLER).status == 0
    claim(procedure, "1.2.3")
    steps.index(STUDY)
    assert steps.listed(STUDY).claimed_by == PERFORMER
    assert not steps.reading_list.claim(STUDY, by="Dr. B", actor="web")


@pytest.mark.parametrize("ordered", list(Level))
@pytest.mark.parametrize("priority", ["HIGH", "MEDIUM", "LOW"])
def test_placing_never_lowers_and_setting_orders(
    steps: Steps, procedure: ProcedureSteps, ordered: Level, priority: str
) -> None:
    """Whoever places a step may not know of the other order; whoever changes the priority later says so."""
    order = Order(
        source=OrderSource.HL7,
        sender="RIS",
        message_id="1",
        at=steps.clock(),
        about=Identity(study_instance_uid=STUDY),
        level=ordered,
    )
    Orders(steps.database, clock=steps.clock).record(order, steps.policy)
    steps.clock.move(timedelta(seconds=1))
    level = {"HIGH": Level.STAT, "MEDIUM": Level.HIGH, "LOW": Level.ROUTINE}[priority]
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority=priority)
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    steps.index(STUDY)
    assert steps.listed(STUDY).ordered is min(ordered, level)
    steps.clock.move(timedelta(seconds=1))
    modification = Dataset()
    modification.ScheduledProcedureStepPriority = priority
    assert procedure.modify("1.2.3", modification, None, caller=CALLER).status == 0
    assert steps.listed(STUDY).ordered is level


def test_what_a_person_ordered_here_stands(steps: Steps, procedure: ProcedureSteps) -> None:
    """A system's step neither lowers nor raises it."""
    steps.index(STUDY)
    steps.reading_list.set_ordered(STUDY, Level.HIGH, actor="Dr. B", policy=steps.policy)
    steps.clock.move(timedelta(seconds=1))
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    assert steps.listed(STUDY).ordered is Level.HIGH


def test_other_work_on_a_study_is_not_its_reading(steps: Steps, procedure: ProcedureSteps) -> None:
    """A detection step that is complete leaves the study on the list, in its place."""
    steps.index(STUDY)
    work = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH")
    work.ScheduledWorkitemCodeSequence[0].CodeValue = "110004"
    assert procedure.create("1.2.3", work, caller=CALLER).status == 0
    complete(procedure, "1.2.3", claim(procedure, "1.2.3"))
    listed = steps.listed(STUDY)
    assert (listed.claimed_at, listed.ordered) == (None, Level.ROUTINE)
    assert state_of(procedure, OURS) == "SCHEDULED"


@pytest.mark.parametrize("before", [True, False])
def test_a_step_of_another_patient_is_not_the_studys(steps: Steps, procedure: ProcedureSteps, *, before: bool) -> None:
    """Placed before the images or after them: it moves nothing, and the study has a step of its own."""
    if not before:
        steps.index(STUDY)
    step = placed(StudyInstanceUID=STUDY, ScheduledProcedureStepPriority="HIGH", PatientID="SOMEBODY-ELSE")
    assert procedure.create("1.2.3", step, caller=CALLER).status == 0
    if before:
        steps.index(STUDY)
    assert (state_of(procedure, OURS), state_of(procedure, "1.2.3")) == ("SCHEDULED", "SCHEDULED")
    complete(procedure, "1.2.3", claim(procedure, "1.2.3"))
    listed = steps.listed(STUDY)
    assert (listed.ordered, listed.claimed_at) == (Level.ROUTINE, None)


def test_a_step_whose_study_another_reader_has_is_not_claimed(steps: Steps, procedure: ProcedureSteps) -> None:
    """Placed while a reader reads the study: that reader goes on alone."""
    steps.index(STUDY)
    claim(procedure, OURS)
    assert procedure.create("1.2.3", placed(StudyInstanceUID=STUDY), caller=CALLER).status == 0
    assert procedure.change_state("1.2.3", "IN PROGRESS", generate_uid(), caller="READER2").status == 0xC302
    assert state_of(procedure, "1.2.3") == "SCHEDULED"
