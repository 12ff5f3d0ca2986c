"""A procedure step as it is kept: found, set, shown, and its trail."""

from datetime import timedelta

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from sqlalchemy import select

from builders import finding
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.storage.schema import AuditRow
from cxr_triage.storage.step_records import (
    step_uid,
)
from placing import CALLER, PERFORMER, claim, complete, placed, service, shown
from steps import Steps

STUDY = "1.1"
OURS = step_uid(STUDY, 1)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


@pytest.mark.parametrize(
    "keys",
    [
        {"StudyInstanceUID": "1.2.3"},
        {"PatientID": "PAT-0001"},
        {"ExpectedCompletionDateTime": "2026-"},
        {"ScheduledWorkitemCodeSequence": [{"CodeValue": "110005", "CodeMeaning": "Interpretation"}]},
    ],
)
def test_a_step_is_not_found_by_what_it_lacks(procedure: ProcedureSteps, keys: dict[str, object]) -> None:
    """A key with a value asks for that value; of an empty key every step is a match, and it is answered empty."""
    absent = dict.fromkeys(("StudyInstanceUID", "PatientID", "ExpectedCompletionDateTime"))
    step = placed(ScheduledWorkitemCodeSequence=[Dataset()], **{name: None for name in absent if name in placed()})
    assert procedure.create(None, step, caller=CALLER).done
    assert list(procedure.find(_keys(keys))) == []
    [found] = procedure.find(_keys(dict.fromkeys(keys, "" if "Sequence" not in next(iter(keys)) else [])))
    assert found.complete
    assert [not found.attributes[keyword].value for keyword in keys if "Sequence" not in keyword] in ([True], [])


def _keys(values: dict[str, object]) -> Dataset:
    identifier = Dataset()
    for keyword, value in values.items():
        setattr(identifier, keyword, [_keys(item) for item in value] if isinstance(value, list) else value)
    return identifier


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [(0x00400400, "US", 5), (0x00741002, "LO", "abc"), (0x00404025, "LO", "a")],
)
def test_an_attribute_of_another_vr_is_not_taken(
    steps: Steps, procedure: ProcedureSteps, tag: int, vr: str, value: object
) -> None:
    """0115: kept, it would break every answer that shows the step. Neither placed, nor set."""
    steps.index(STUDY)
    step, modifications = placed(), Dataset()
    for data in (step, modifications):
        data[tag] = DataElement(tag, vr, value)
    assert procedure.create(None, step, caller=CALLER).status == 0x0115
    assert procedure.modify(OURS, modifications, None, caller=CALLER).status == 0x0115
    assert shown(procedure, OURS).ProcedureStepState == "SCHEDULED"
    assert steps.reading_list.finish(STUDY, actor="reader")


def test_the_modification_time_changes_with_the_list(steps: Steps, procedure: ProcedureSteps) -> None:
    """So that whoever polls sees that the place may be another one; the place itself is in words."""
    steps.score(STUDY)
    before = shown(procedure, OURS)
    steps.clock.move(timedelta(minutes=1))
    steps.score("1.2", finding("Pneumothorax", 0.9))
    after = shown(procedure, OURS)
    assert before.ScheduledProcedureStepModificationDateTime < after.ScheduledProcedureStepModificationDateTime
    version = steps.reading_list.version()
    assert after.CommentsOnTheScheduledProcedureStep.startswith(f"Rank 2 of list version {version}.")


def test_every_transition_leaves_a_trail(steps: Steps, procedure: ProcedureSteps) -> None:
    """Who, and what; nothing of the patient."""
    procedure.create("1.2.3", placed(), caller=CALLER)
    transaction = claim(procedure, "1.2.3")
    complete(procedure, "1.2.3", transaction)
    procedure.subscribe("1.2.3", "WATCHER", deletion_lock=False, caller="WATCHER")
    with steps.database.read() as session:
        trail = [(row.event, row.actor, row.detail) for row in session.scalars(select(AuditRow).order_by(AuditRow.id))]
    assert trail == [
        ("step_created", CALLER, "1.2.3"),
        ("step_changed", PERFORMER, "SCHEDULED -> IN PROGRESS: 1.2.3"),
        ("step_set", PERFORMER, "1.2.3"),
        ("step_changed", PERFORMER, "IN PROGRESS -> COMPLETED: 1.2.3"),
        ("step_subscribed", "WATCHER", "WATCHER to 1.2.3"),
    ]
