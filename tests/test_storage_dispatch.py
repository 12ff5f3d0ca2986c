"""Deliveries: each object once per destination, a SEG before the SR that cites it, and none forgotten."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from builders import result_object
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.result_records import ObjectKind
from steps import LEASE, Steps

OWNER = "deliver-1-host-1"


@pytest.fixture
def reported(steps: Steps) -> Steps:
    """Give a ledger with one reported study: a SEG and an SR wait for two destinations."""
    steps.score("1.1")
    steps.report("1.1", ("pacs", "air"), ("archive", "air"))
    return steps


def test_seg_is_delivered_before_the_sr_that_cites_it(reported: Steps) -> None:
    """Per destination: what another one has does not count."""
    dispatch = reported.dispatch
    [seg] = dispatch.claim(OWNER, "pacs", 10)
    assert (seg.object.kind, seg.destination) == (ObjectKind.SEG, "pacs")
    assert dispatch.claim(OWNER, "pacs", 10) == []
    dispatch.record_stored(seg)
    [sr] = dispatch.claim(OWNER, "pacs", 10)
    assert sr.object.kind is ObjectKind.SR
    dispatch.record_stored(sr)
    assert dispatch.claim(OWNER, "pacs", 10) == []
    [other] = dispatch.claim(OWNER, "archive", 10)
    assert other.object == seg.object
    stored = reported.housekeeping.counts().deliveries
    assert (stored["pacs"][DeliveryState.STORED], stored["archive"][DeliveryState.STORED]) == (2, 0)


def test_sr_of_a_later_revision_waits_for_all_its_segs(steps: Steps) -> None:
    """Those made by the earlier revision, and its own."""
    steps.score("1.1")
    steps.report("1.1")
    steps.score("1.1")
    steps.report("1.1")
    first, second = steps.dispatch.claim(OWNER, "pacs", 10)
    assert {first.object.kind, second.object.kind} == {ObjectKind.SEG}
    steps.dispatch.record_stored(first)
    [first_sr] = steps.dispatch.claim(OWNER, "pacs", 10)
    assert first_sr.object.kind is ObjectKind.SR
    steps.dispatch.record_stored(second)
    [second_sr] = steps.dispatch.claim(OWNER, "pacs", 10)
    assert second_sr.object.sop_instance_uid != first_sr.object.sop_instance_uid


def test_failed_attempt_is_due_again_later(reported: Steps) -> None:
    """And the SR waits with it."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 10)
    retry_at = reported.clock() + timedelta(minutes=1)
    reported.dispatch.record_attempt_failed(seg, error="no association", retry_at=retry_at)
    assert reported.dispatch.claim(OWNER, "pacs", 10) == []
    reported.clock.move(timedelta(minutes=1))
    [again] = reported.dispatch.claim(OWNER, "pacs", 10)
    assert (seg.object, seg.attempt + 1, 1) == (again.object, again.attempt, again.failures)


def test_what_is_not_taken_holds_nothing_back(reported: Steps) -> None:
    """The SR that cites it goes; elsewhere nothing changes."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 10)
    reported.dispatch.record_not_taken(seg, error="not supported")
    [sr] = reported.dispatch.claim(OWNER, "pacs", 10)
    assert sr.object.kind is ObjectKind.SR
    counts = reported.housekeeping.counts()
    assert (counts.deliveries["pacs"][DeliveryState.NOT_TAKEN], counts.held_back) == (1, {})
    assert [each.object.kind for each in reported.dispatch.claim(OWNER, "archive", 10)] == [ObjectKind.SEG]
    with pytest.raises(StaleAttemptError):
        reported.dispatch.record_not_taken(seg, error="said twice")


def test_what_was_not_taken_is_offered_again(reported: Steps) -> None:
    """By a person, with all chances; one object or all of them, and at that destination alone."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 10)
    reported.dispatch.record_not_taken(seg, error="not supported")
    assert reported.dispatch.replay_not_taken("archive") == 0
    assert reported.dispatch.replay_dead("pacs") == 0
    assert reported.dispatch.replay_not_taken("pacs", actor="engineer") == 1
    [again] = reported.dispatch.claim(OWNER, "pacs", 10)
    assert (again.object, again.failures) == (seg.object, 0)
    reported.dispatch.record_not_taken(again, error="not supported")
    assert reported.dispatch.replay_object(seg.object.sop_instance_uid, ["pacs"]) == ["pacs"]
    assert reported.stand_ins.due(["pacs"], 9) == []


def test_a_stand_in_that_is_dead_holds_nothing_back(reported: Steps) -> None:
    """No document cites it."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 10)
    reported.dispatch.record_not_taken(seg, error="not supported")
    [untaken] = reported.stand_ins.due(["pacs"], 9)
    assert reported.stand_ins.record_stand_in(
        untaken, result_object(ObjectKind.PR, study_instance_uid="1.1", stand_in=True)
    )
    for delivery in reported.dispatch.claim(OWNER, "pacs", 10):
        reported.dispatch.record_dead(delivery, "refused")
    assert reported.housekeeping.counts().held_back == {}


def test_dead_delivery_waits_for_a_person(reported: Steps) -> None:
    """It is counted, keeps its SR back, and both go when it is replayed."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 10)
    reported.dispatch.record_dead(seg, "refused: SOP class not supported")
    reported.clock.move(timedelta(days=1))
    assert reported.dispatch.claim(OWNER, "pacs", 10) == []
    assert reported.housekeeping.counts().deliveries["pacs"][DeliveryState.DEAD] == 1
    assert reported.dispatch.replay_dead("pacs", actor="engineer") == 1
    assert reported.dispatch.replay_dead("pacs", actor="engineer") == 0
    [again] = reported.dispatch.claim(OWNER, "pacs", 10)
    assert (seg.object, 0) == (again.object, again.failures)


def test_late_attempt_records_nothing(reported: Steps) -> None:
    """The delivery was given to another, who has the say."""
    [late] = reported.dispatch.claim(OWNER, "pacs", 1)
    reported.clock.move(LEASE)
    assert reported.dispatch.release_leases(lambda _: True, reported.clock()) == 1
    [current] = reported.dispatch.claim(OWNER, "pacs", 1)
    too_late: list[Callable[[], None]] = [
        lambda: reported.dispatch.record_stored(late),
        lambda: reported.dispatch.record_attempt_failed(late, error="x", retry_at=reported.clock()),
        lambda: reported.dispatch.record_dead(late, "x"),
    ]
    for record in too_late:
        with pytest.raises(StaleAttemptError):
            record()
    reported.dispatch.record_stored(current)


def test_deliveries_of_a_dead_process_are_free_at_once(reported: Steps) -> None:
    """Those of the living are not."""
    reported.dispatch.claim("dead", "pacs", 1)
    reported.dispatch.claim("living", "archive", 1)
    assert reported.dispatch.release_leases(lambda owner: owner == "living", reported.clock()) == 1
    assert reported.dispatch.release_leases(lambda owner: owner == "living", reported.clock()) == 0
    assert len(reported.dispatch.claim(OWNER, "pacs", 1)) == 1
    assert reported.dispatch.claim(OWNER, "archive", 1) == []


def test_what_a_sender_forgot_is_given_back(reported: Steps) -> None:
    """For the destination that it asks about: another one's is under way."""
    dispatch = reported.dispatch
    (forgotten,) = dispatch.claim(OWNER, "pacs", 1)
    (under_way,) = dispatch.claim(OWNER, "archive", 1)
    assert dispatch.give_back_forgotten(OWNER, "pacs") == 1
    (again,) = dispatch.claim(OWNER, "pacs", 1)
    assert (again.id, again.attempt) == (forgotten.id, forgotten.attempt + 1)
    with pytest.raises(StaleAttemptError):
        dispatch.record_stored(forgotten)
    dispatch.record_stored(under_way)


def test_deliveries_are_in_the_audit_trail(reported: Steps) -> None:
    """What went where, and why not."""
    [seg] = reported.dispatch.claim(OWNER, "pacs", 1)
    reported.dispatch.record_attempt_failed(seg, error="no association", retry_at=reported.clock())
    [seg] = reported.dispatch.claim(OWNER, "pacs", 1)
    reported.dispatch.record_stored(seg)
    told = [(entry.event, entry.detail) for entry in reported.reading_list.history("1.1")][-2:]
    assert told == [("delivery_retried", "SEG to pacs: no association"), ("delivered", "SEG to pacs")]


def test_refusals_are_counted_until_a_replay(reported: Steps) -> None:
    """By themselves: an attempt without an answer is none."""
    dispatch = reported.dispatch
    [seg] = dispatch.claim(OWNER, "pacs", 1)
    dispatch.record_attempt_failed(seg, error="no answer", retry_at=reported.clock())
    [seg] = dispatch.claim(OWNER, "pacs", 1)
    dispatch.record_refused(seg, error="refused", retry_at=reported.clock())
    [seg] = dispatch.claim(OWNER, "pacs", 1)
    assert (seg.failures, seg.refusals) == (2, 1)
    dispatch.record_refused(seg, error="refused", retry_at=None)
    assert dispatch.claim(OWNER, "pacs", 1) == []
    dispatch.replay_dead("pacs")
    [seg] = dispatch.claim(OWNER, "pacs", 1)
    assert (seg.failures, seg.refusals) == (0, 0)


def test_what_was_not_tried_is_given_back_as_it_was(reported: Steps) -> None:
    """Due as before, and nothing is told of it; what another has by now is left to it."""
    told = len(reported.reading_list.history("1.1"))
    [seg] = reported.dispatch.claim(OWNER, "pacs", 1)
    reported.dispatch.give_back([seg])
    [again] = reported.dispatch.claim("other", "pacs", 1)
    assert (again.object, again.failures) == (seg.object, 0)
    reported.dispatch.give_back([seg])
    assert reported.dispatch.claim(OWNER, "pacs", 1) == []
    assert len(reported.reading_list.history("1.1")) == told


def test_those_never_tried_go_first(steps: Steps) -> None:
    """Then those whose time came earliest: one that fails again and again holds nobody up."""
    for number in (1, 2, 3):
        steps.score(f"1.{number}")
        steps.report(f"1.{number}")
    first, second = steps.dispatch.claim(OWNER, "pacs", 2)
    steps.dispatch.record_attempt_failed(first, error="x", retry_at=steps.clock() + timedelta(seconds=2))
    steps.dispatch.record_attempt_failed(second, error="x", retry_at=steps.clock() + timedelta(seconds=1))
    steps.clock.move(timedelta(seconds=2))
    studies = [delivery.object.study_instance_uid for delivery in steps.dispatch.claim(OWNER, "pacs", 9)]
    assert studies == ["1.3", "1.2", "1.1"]


def test_what_waits_too_long_is_given_up_at_once(steps: Steps) -> None:
    """Of one destination, by the age of its waiting; not what somebody is sending just now."""
    for number in (1, 2, 3):
        steps.score(f"1.{number}")
        steps.report(f"1.{number}", ("pacs", "air"), ("archive", "air"))
        steps.clock.move(timedelta(hours=1))
    [sending] = steps.dispatch.claim(OWNER, "pacs", 1)
    given_up = steps.dispatch.give_up("pacs", pending_since=steps.clock() - timedelta(hours=2), error="away")
    assert given_up == 3  # two studies of two objects each, less the one that is being sent
    counts = steps.housekeeping.counts().deliveries
    assert [counts[name][DeliveryState.DEAD] for name in ("pacs", "archive")] == [3, 0]
    steps.dispatch.record_stored(sending)
