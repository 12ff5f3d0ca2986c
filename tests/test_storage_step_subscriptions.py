"""Who is told of which steps: of one, of all, of those that a filter lets through."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.storage.ledger import StepSubscriptions
from cxr_triage.storage.ledger.reading_steps import add, new_step
from cxr_triage.storage.schema import ProcedureStepRow, StepSubscriptionRow
from cxr_triage.storage.step_records import (
    FILTERED_GLOBAL_SUBSCRIPTION,
    GLOBAL_SUBSCRIPTION,
    Json,
    Step,
    element,
    step_uid,
)
from peers import PATIENCE_SECONDS
from placing import CALLER, claim, placed, service, told
from steps import Steps, until_somebody_waits

STUDY = "1.1"
#: Of a filter, and of what it lets through.
KEYS: Json = {"00741202": element("LO", "Theirs")}
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


def test_who_subscribes_while_a_step_comes_is_told_of_it(
    steps: Steps, procedure: ProcedureSteps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is there when the new ones are looked for, and the filter is there before it."""
    assert _subscribed(procedure, "READER1")
    look = StepSubscriptions.unconsidered
    late = ["1.2.3"]

    def look_late(subscriptions: StepSubscriptions) -> Sequence[Step]:
        if late:
            _filter(steps).subscribe_to_all("WATCHER", deletion_lock=False, keys=KEYS, actor=CALLER)
            _add(steps, late.pop())
        return look(subscriptions)

    monkeypatch.setattr(StepSubscriptions, "unconsidered", look_late)
    procedure.consider()
    assert (told(steps), told(steps, "READER1")) == ([(1, "SCHEDULED")], [(1, "SCHEDULED")])


def test_where_nobody_filters_nothing_is_left_to_be_tried(steps: Steps, procedure: ProcedureSteps) -> None:
    """Of what came while somebody did, when nobody does any more, too: no later filter finds a hundred thousand."""
    steps.index("1.1")
    assert _filter(steps).unconsidered() == []
    assert _subscribed(procedure, "WATCHER")
    steps.index("1.2")
    assert [step.sop_instance_uid for step in _filter(steps).unconsidered()] == [step_uid("1.2", 1)]
    assert procedure.suspend_global(FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).done
    procedure.consider()
    assert _filter(steps).unconsidered() == []


def test_a_step_is_considered_once(steps: Steps, procedure: ProcedureSteps) -> None:
    """Two who look at the same time: the second tells nobody who has let go of the step since."""
    assert _subscribed(procedure, "WATCHER")
    _add(steps, "1.2.3")
    for _ in range(2):
        _filter(steps).record_considered("1.2.3", {"WATCHER": False})
        _filter(steps).unsubscribe("1.2.3", "WATCHER", actor=CALLER)
    assert told(steps) == [(1, "SCHEDULED")]


def test_who_has_unsubscribed_is_told_of_no_new_step(steps: Steps, procedure: ProcedureSteps) -> None:
    """Also where the filter was tried before."""
    assert _subscribed(procedure, "WATCHER")
    _add(steps, "1.2.3")
    assert procedure.unsubscribe(FILTERED_GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER).done
    _filter(steps).record_considered("1.2.3", {"WATCHER": False})
    assert told(steps) == []


def test_an_end_of_everything_waits_for_the_step_that_is_coming(steps: Steps, procedure: ProcedureSteps) -> None:
    """So that no subscription to it is left over."""
    assert procedure.subscribe(GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller=CALLER).done
    with ThreadPoolExecutor(1) as other:
        with steps.database.transaction() as session:
            add(session, new_step("1.2.3", None, {}, steps.clock(), own=False), steps.clock())
            ended = other.submit(procedure.unsubscribe, GLOBAL_SUBSCRIPTION, "WATCHER", caller=CALLER)
            until_somebody_waits(steps.database)
        assert ended.result(PATIENCE_SECONDS).done
    assert _filter(steps).receivers("1.2.3") == []


def _filter(steps: Steps) -> StepSubscriptions:
    return StepSubscriptions(steps.database, clock=steps.clock)


def _subscribed(procedure: ProcedureSteps, receiver: str) -> bool:
    keys = Dataset.from_json(KEYS)
    return procedure.subscribe(
        FILTERED_GLOBAL_SUBSCRIPTION, receiver, deletion_lock=False, filter_keys=keys, caller=CALLER
    ).done


def _add(steps: Steps, uid: str) -> None:
    with steps.database.transaction() as session:
        add(session, new_step(uid, None, KEYS, steps.clock(), own=False), steps.clock())
