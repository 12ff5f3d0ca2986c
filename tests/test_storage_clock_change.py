"""What a person's word that the clock was set rightly does to the ledger, on both kinds of databases."""

from datetime import timedelta

import pytest

from builders import finding, instance_header, received_instance
from cxr_triage.model.priority import rank
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger import Circuits, ClockChange
from cxr_triage.storage.ledger.history import History
from steps import LEASE, OWNER, PACS, Steps

YEAR = timedelta(days=365)
JUMPS = [5 * YEAR + timedelta(microseconds=7), -10 * YEAR]
STUDY = "1.2.840.1"


class Changed:
    """A ledger before and after."""

    def __init__(self, database: Database, by: timedelta) -> None:
        self.steps = Steps(database)
        self.change = ClockChange(database, clock=self.steps.clock)
        self.by = by

    def accept(self) -> None:
        """Set the clock, and say that it is right."""
        assert self.change.move(self.by, anchor="anchor", actor="somebody")
        self.steps.clock.move(self.by)


@pytest.fixture(params=JUMPS, ids=["forward", "back"])
def changed(database: Database, request: pytest.FixtureRequest) -> Changed:
    """An empty one."""
    return Changed(database, request.param)


def order(steps: Steps) -> list[str]:
    """The list as it is read now."""
    ranked = rank(steps.reading_list.studies(), now=steps.clock(), policy=steps.policy)
    return [f"{each.study.study_instance_uid} {'overdue' if each.overdue else ''}".strip() for each in ranked]


def test_nobody_has_waited_longer(changed: Changed) -> None:
    """A study that is overdue is so still, another is not; the order stays, and so does the age."""
    steps = changed.steps
    steps.score("1.1")
    steps.clock.move(timedelta(hours=30))
    steps.score("1.2")
    steps.score("1.3", finding())
    before, waited = order(steps), [steps.clock() - each.arrived_at for each in steps.reading_list.studies()]
    changed.accept()
    assert order(steps) == before == ["1.1 overdue", "1.3", "1.2"]
    assert [steps.clock() - each.arrived_at for each in steps.reading_list.studies()] == waited


def test_priorities_stay_what_they_were(changed: Changed) -> None:
    """Computed anew from the moved arrival they are the same: nothing is written."""
    changed.steps.score(STUDY, finding())
    changed.accept()
    assert changed.steps.reading_list.reprioritise(changed.steps.policy) == 0


def test_a_lease_lasts_as_long_as_it_would_have(changed: Changed) -> None:
    """Neither given back early nor kept for years."""
    steps = changed.steps
    steps.receive()
    steps.claim_to_index()
    changed.accept()
    steps.clock.move(LEASE - timedelta(seconds=1))
    assert steps.scoring.release_leases(lambda _: True, steps.clock()) == 0
    steps.clock.move(timedelta(seconds=2))
    assert steps.scoring.release_leases(lambda _: True, steps.clock()) == 1


def test_a_back_off_goes_on(changed: Changed) -> None:
    """Of images and of deliveries."""
    steps, wait = changed.steps, timedelta(minutes=10)
    steps.score(STUDY)
    steps.report(STUDY)
    steps.receive()
    retry_at = steps.clock() + wait
    steps.scoring.record_failure(steps.claim_to_index(), error_class="x", explanation="x", retry_at=retry_at)
    for delivery in steps.dispatch.claim(OWNER, PACS[0], 9):
        steps.dispatch.record_attempt_failed(delivery, error="x", retry_at=retry_at)
    changed.accept()
    steps.clock.move(wait - timedelta(seconds=1))
    assert (steps.scoring.claim_to_index(OWNER, 9), steps.dispatch.claim(OWNER, PACS[0], 9)) == ([], [])
    steps.clock.move(timedelta(seconds=1))
    assert len(steps.scoring.claim_to_index(OWNER, 9)) == 1
    assert len(steps.dispatch.claim(OWNER, PACS[0], 9)) == 1


def test_a_destination_is_left_alone_as_long_as_it_would_have_been(changed: Changed, database: Database) -> None:
    """Its circuit stays open, and closes neither early nor years later."""
    until = changed.steps.clock() + timedelta(minutes=5)
    opened = Circuit(failures=3, open_until=until, reason="no answer", changed_at=changed.steps.clock())
    circuits = Circuits(database, clock=changed.steps.clock)
    circuits.record(PACS[0], before=Circuit(), after=opened, actor="deliver")
    changed.accept()
    assert circuits.of(PACS[0]).open_until == until + changed.by


def test_an_image_that_waits_keeps_its_place(changed: Changed) -> None:
    """It was received before the change, and is indexed and scored after it, before those that came later."""
    steps = changed.steps
    first = steps.receive()
    changed.accept()
    steps.clock.move(timedelta(seconds=1))
    second = steps.receive()
    claims = steps.scoring.claim_to_index(OWNER, 2)
    assert [claim.sop_instance_uid for claim in claims] == [first.sop_instance_uid, second.sop_instance_uid]


def test_an_image_that_comes_after_the_reading_brings_its_study_back(changed: Changed) -> None:
    """Also when the study was read before the clock was set back."""
    steps = changed.steps
    steps.score(STUDY)
    steps.reading_list.finish(STUDY, actor="reader")
    changed.accept()
    steps.clock.move(timedelta(seconds=1))
    steps.index(STUDY)
    assert steps.listed(STUDY).arrived_at == steps.clock()


def test_an_image_that_came_before_the_reading_does_not(changed: Changed) -> None:
    """It was there when the study was read, and is indexed only after the clock was set forward."""
    steps = changed.steps
    steps.score(STUDY)
    steps.receive()
    steps.clock.move(timedelta(seconds=1))
    steps.reading_list.finish(STUDY, actor="reader")
    changed.accept()
    header = instance_header(study_instance_uid=STUDY)
    steps.scoring.record_indexed(steps.claim_to_index(), header, steps.policy)
    assert steps.reading_list.studies() == []


def test_files_are_as_old_as_they_were(changed: Changed) -> None:
    """They go neither years before their time nor years after it."""
    steps = changed.steps
    steps.score(STUDY)
    steps.report(STUDY)
    for _ in range(2):
        [delivery] = steps.dispatch.claim(OWNER, PACS[0], 1)
        steps.dispatch.record_stored(delivery)
    steps.reading_list.finish(STUDY, actor="reader")
    changed.accept()
    assert steps.housekeeping.forgettable_files(steps.clock()) == []
    assert len(steps.housekeeping.forgettable_files(steps.clock() + timedelta(seconds=1))) == 3


def test_the_latest_content_of_an_instance_still_counts(changed: Changed) -> None:
    """The one that came after the change."""
    steps = changed.steps
    first = steps.score(STUDY)
    changed.accept()
    steps.clock.move(timedelta(seconds=1))
    again = received_instance(sop_instance_uid=first.sop_instance_uid, received_at=steps.clock())
    steps.score(STUDY, image=again)
    revision = steps.reporting.open_revision(STUDY, steps.policy.digest())
    assert [each.sha256 for each in steps.reporting.predictions(revision)] == [again.sha256]


def test_what_was_told_stays(changed: Changed, database: Database) -> None:
    """Dates in reports, and the history; it says who moved the rest, and how far."""
    steps = changed.steps
    steps.score(STUDY)
    revision, _ = steps.report(STUDY)
    scored, told = History(database).scored_images(), steps.reading_list.history(STUDY)
    changed.accept()
    assert History(database).scored_images() == scored
    assert steps.reading_list.history(STUDY) == told
    assert steps.reporting.open_revision(STUDY, steps.policy.digest()).created_at == revision.created_at


def test_nothing_is_moved_twice(changed: Changed) -> None:
    """A command that was killed after the ledger had moved is run again."""
    steps = changed.steps
    steps.score(STUDY)
    changed.accept()
    moved = steps.listed(STUDY)
    assert not changed.change.move(changed.by, anchor="anchor", actor="somebody")
    assert steps.listed(STUDY) == moved
    assert changed.change.move(changed.by, anchor="another", actor="somebody")
    assert steps.listed(STUDY).arrived_at == moved.arrived_at + changed.by
