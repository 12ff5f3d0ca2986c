"""What is told is kept until it is taken: in order, the same at each attempt."""

from datetime import timedelta

import pytest

from builders import finding
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.step_records import (
    GLOBAL_SUBSCRIPTION,
    UPS_FACE,
    Announcement,
    AnnouncementState,
    step_uid,
)
from placing import CALLER, RECEIVERS, claim, service
from steps import LEASE, OWNER, Steps

STUDY = "1.1"
OURS = step_uid(STUDY, 1)


@pytest.fixture
def procedure(steps: Steps) -> ProcedureSteps:
    """Give the service on a fresh database: the test runs once per kind."""
    return service(steps)


def test_one_message_is_the_same_at_each_attempt_and_nothing_overtakes_it(
    steps: Steps, procedure: ProcedureSteps
) -> None:
    """Same ID, same bytes; given up, the next one follows."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)

    def take() -> Announcement | None:
        return announcements.claim(OWNER, UPS_FACE, "WATCHER")

    steps.index(STUDY)
    procedure.subscribe(OURS, "WATCHER", deletion_lock=False, caller=CALLER)
    claim(procedure, OURS)
    first = take()
    assert first is not None
    assert take() is None  # one sends it
    announcements.record_failure(first, error="away", retry_at=steps.clock() + timedelta(minutes=1))
    assert take() is None  # not its time, and nothing goes before it
    with pytest.raises(StaleAttemptError):
        announcements.record_acknowledged(first)
    steps.clock.move(timedelta(minutes=1))
    again = take()
    assert again is not None
    assert (again.message_id, again.payload, again.attempt) == (first.message_id, first.payload, 2)
    announcements.record_failure(again, error="refused", retry_at=None)
    second = take()
    assert second is not None
    assert second.message_id != first.message_id
    assert announcements.receivers(UPS_FACE) == ["WATCHER"]


def test_how_messages_stand_is_counted_and_told_by_study(steps: Steps, procedure: ProcedureSteps) -> None:
    """Per receiver, with the last failure; what nobody comes for is given up after its time."""
    for receiver in sorted(RECEIVERS):
        assert procedure.subscribe(GLOBAL_SUBSCRIPTION, receiver, deletion_lock=False, caller=CALLER).done
    steps.score("1.1", finding())
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    refused = announcements.claim(OWNER, UPS_FACE, "READER1")
    assert refused is not None
    announcements.record_failure(refused, error="it refused", retry_at=None)
    counted = {each.receiver: (each.states, each.last_error) for each in announcements.counts()}
    assert counted["READER1"][0][AnnouncementState.DEAD] == 1
    assert (counted["READER1"][1], counted["WATCHER"][1]) == ("it refused", "")
    told = announcements.of_study("1.1")
    assert {each.receiver for each in told} == RECEIVERS
    assert [each.last_error for each in told if each.state is AnnouncementState.DEAD] == ["it refused"]
    assert announcements.of_study("1.2") == []
    assert announcements.give_up(steps.clock()) == 0
    steps.clock.move(timedelta(hours=1))
    waiting = sum(each.states[AnnouncementState.PENDING] for each in announcements.counts())
    assert (waiting > 0, announcements.give_up(steps.clock()), announcements.give_up(steps.clock())) == (
        True,
        waiting,
        0,
    )
    assert {each.state for each in announcements.of_study("1.1")} == {AnnouncementState.DEAD}
    assert {each.last_error for each in announcements.of_study("1.1")} == {"it refused", "nobody came for it"}


def test_a_dead_senders_message_is_sent_by_another(steps: Steps, procedure: ProcedureSteps) -> None:
    """Killed between the commit and the event, or in the middle of it: the event is in the ledger, and goes again."""
    announcements = Announcements(steps.database, lease=LEASE, clock=steps.clock)
    steps.index(STUDY)
    procedure.subscribe(OURS, "WATCHER", deletion_lock=False, caller=CALLER)
    before = announcements.claim("worklist-1-gone-1", UPS_FACE, "WATCHER")
    assert before is not None
    assert announcements.release_leases(lambda _owner: False, steps.clock()) == 1
    after = announcements.claim(OWNER, UPS_FACE, "WATCHER")
    assert after is not None
    assert (after.message_id, after.payload) == (before.message_id, before.payload)
    announcements.record_acknowledged(after)
    assert announcements.forget(steps.clock()) == 0
    assert announcements.forget(steps.clock() + timedelta(seconds=1)) == 1
