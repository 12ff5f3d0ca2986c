"""The state machine of PS3.4 Table CC.1.1-2: each request in each state, with the standard's status."""

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.daemon.ups.states import TRANSITIONS, Asked
from cxr_triage.storage.step_records import StepState
from placing import CALLER, PERFORMER, brought_to, performed, placed, service, state_of
from steps import Steps

NOWHERE = "1.2.3.4"
SCHEDULED, PROGRESS = StepState.SCHEDULED, StepState.IN_PROGRESS

#: As the standard has it, written down apart from the code: request -> statuses where there is no step, and where it is
#: SCHEDULED, IN PROGRESS, COMPLETED, CANCELED.
TABLE = {
    "create": (0x0000, 0x0111, 0x0111, 0x0111, 0x0111),
    "begin": (0xC307, 0x0000, 0xC302, 0xC300, 0xC300),
    # Before anybody has claimed a step, each Transaction UID is the correct one.
    "begin wrong": (0xC307, 0x0000, 0xC301, 0xC301, 0xC301),
    "begin without": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
    "schedule": (0xC307, 0xC303, 0xC303, 0xC303, 0xC303),
    "complete": (0xC307, 0xC310, 0x0000, 0xB306, 0xC300),
    "complete wrong": (0xC307, 0xC310, 0xC301, 0xC301, 0xC301),
    "complete without": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
    "complete unmet": (0xC307, 0xC310, 0xC304, 0xB306, 0xC300),
    "request": (0xC307, 0x0000, 0xC312, 0xC311, 0xB304),
    "cancel": (0xC307, 0xC310, 0x0000, 0xC300, 0xB304),
    "cancel wrong": (0xC307, 0xC310, 0xC301, 0xC301, 0xC301),
    "cancel without": (0xC307, 0xC301, 0xC301, 0xC301, 0xC301),
    "set": (0xC307, 0xC310, 0x0000, 0xC300, 0xC300),
    "set wrong": (0xC307, 0xC310, 0xC301, 0xC300, 0xC300),
    "set without": (0xC307, 0x0000, 0xC301, 0xC300, 0xC300),
}
STATES = (None, *StepState)
#: Where the state is another one afterwards.
BECOMES = {
    ("begin", SCHEDULED): "IN PROGRESS",
    ("begin wrong", SCHEDULED): "IN PROGRESS",
    ("complete", PROGRESS): "COMPLETED",
    ("request", SCHEDULED): "CANCELED",
    ("cancel", PROGRESS): "CANCELED",
}
WANTED = {"begin": "IN PROGRESS", "schedule": "SCHEDULED", "complete": "COMPLETED", "cancel": "CANCELED"}


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def ask(procedure: ProcedureSteps, request: str, uid: str, transaction: str) -> int:
    """Make a request of the table."""
    what, _, how = request.partition(" ")
    given = {"": transaction, "unmet": transaction, "wrong": generate_uid(), "without": None}[how]
    if what == "create":
        return procedure.create(uid, placed(), caller=CALLER).status
    if what == "request":
        return procedure.request_cancel(uid, Dataset(), caller=CALLER).status
    if what == "set":
        modification = Dataset()
        modification.ProcedureStepLabel = "Read it"
        return procedure.modify(uid, modification, given, caller=PERFORMER).status
    if request == "complete":
        procedure.modify(uid, performed(), given, caller=PERFORMER)
    return procedure.change_state(uid, WANTED[what], given, caller=PERFORMER).status


@pytest.mark.parametrize("request_", TABLE)
def test_each_request_in_each_state(procedure: ProcedureSteps, request_: str) -> None:
    """The standard's status, and the state that follows: where a request is refused, the one that was."""
    answers = []
    for state in STATES:
        uid, transaction = (NOWHERE, generate_uid()) if state is None else brought_to(procedure, state)
        answers.append(ask(procedure, request_, uid, transaction))
        if state is not None:
            assert state_of(procedure, uid) == BECOMES.get((request_, state), state.value)
    assert [f"{status:04X}" for status in answers] == [f"{status:04X}" for status in TABLE[request_]]


def test_table_has_a_cell_for_every_row_and_state() -> None:
    """No request in any state is left to chance."""
    assert set(TRANSITIONS) == set(Asked)
    assert all(set(row) == set(STATES) for row in TRANSITIONS.values())


def test_one_of_two_performers_gets_a_step(procedure: ProcedureSteps) -> None:
    """The other is told that the Transaction UID is not the correct one; the first one's claim stands."""
    uid, _ = brought_to(procedure, StepState.SCHEDULED)
    first, second = generate_uid(), generate_uid()
    assert procedure.change_state(uid, "IN PROGRESS", first, caller="READER1").status == 0
    assert procedure.change_state(uid, "IN PROGRESS", second, caller="READER2").status == 0xC301
    assert procedure.change_state(uid, "CANCELED", second, caller="READER2").status == 0xC301
    assert procedure.change_state(uid, "CANCELED", first, caller="READER1").status == 0


@pytest.mark.parametrize(("state", "status"), [("DONE", 0x0115), ("", 0x0115), ("in progress", 0x0115)])
def test_state_that_is_none_is_no_argument(procedure: ProcedureSteps, state: str, status: int) -> None:
    """Nothing changes."""
    uid, transaction = brought_to(procedure, StepState.SCHEDULED)
    assert procedure.change_state(uid, state, transaction, caller=PERFORMER).status == status
    assert state_of(procedure, uid) == "SCHEDULED"
