"""Who is told of which steps: of one, of all, of those that a filter lets through."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.storage.schema import ProcedureStepRow, StepSubscriptionRow
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    step_uid,
)
from peers import PATIENCE_SECONDS
from placing import CALLER, claim, placed, service, told
from steps import Steps

STUDY = "1.1"
OURS = step_uid(STUDY, 1)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def test_a_global_subscriber_is_told_of_all_steps(steps: Steps, procedure: ProcedureSteps) -> None:
    """Of what is here, then of what comes; suspended, no more of what comes; ended, of nothing."""
    steps.index("1.1")
    assert procedure.subscribe(GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=True, caller=CALLER).status == 0
    assert told(steps) == [(1, "SCHEDULED")]
    steps.index("1.2")
    assert told(steps) == [(1, "SCHEDULED")]
    assert procedure.suspend_global(GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).status == 0
    steps.index("1.3")
    assert told(steps) == []
    claim(procedure, step_uid("1.2", 1))
    assert told(steps) == [(1, "IN PROGRESS")]
    assert procedure.unsubscribe(GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).status == 0
    steps.reading_list.finish("1.1", actor="RIS")
    assert told(steps) == []


def test_a_step_that_is_being_changed_is_waited_for_alone(steps: Steps, procedure: ProcedureSteps) -> None:
    """A global subscription passes it by, comes back to it, and locks nothing else meanwhile."""
    steps.index("1.1")
    steps.index("1.2")
    with ThreadPoolExecutor(1) as other:
        with steps.database.transaction() as session:
            session.scalars(select(ProcedureStepRow).filter_by(sop_instance_uid=OURS).with_for_update()).one()
            subscribed = other.submit(
                procedure.subscribe, GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER
            )
        assert subscribed.result(PATIENCE_SECONDS).status == 0
    assert told(steps) == [(1, "SCHEDULED")] * 2


def test_a_filter_lets_through_what_matches(steps: Steps, procedure: ProcedureSteps) -> None:
    """Of steps that are here and of those that come, each once; it needs keys."""
    assert (
        procedure.subscribe(FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER).status
        == 0x0115
    )
    keys = Dataset()
    keys.WorklistLabel = "Their*"
    assert procedure.create("1.2.1", placed(), caller=CALLER).status == 0
    assert (
        procedure.subscribe(
            FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER, filter_keys=keys
        ).status
        == 0
    )
    assert procedure.create("1.2.2", placed(), caller=CALLER).status == 0
    assert procedure.create("1.2.3", placed(WorklistLabel="Ours"), caller=CALLER).status == 0
    steps.index(STUDY)
    procedure.consider()
    procedure.consider()
    assert told(steps) == [(1, "SCHEDULED")] * 2
    with steps.database.read() as session:
        mine = select(StepSubscriptionRow.sop_instance_uid).where(StepSubscriptionRow.receiver == "WATCHER")
        assert set(session.scalars(mine)) == {FILTERED_GLOBAL_SUBSCRIPTION, "1.2.1", "1.2.2"}
