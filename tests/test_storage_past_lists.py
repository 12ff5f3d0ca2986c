"""The list of a past instant: by the rules of then, and what is not kept of it."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete

from backed_up import old_ledger
from builders import finding
from cxr_triage.model.priority import Level, Mode, Policy
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import ReadingList
from cxr_triage.storage.list_records import PastList
from cxr_triage.storage.migrate import migrate
from cxr_triage.storage.schema import ListChangeRow
from steps import Steps

MINUTE = timedelta(minutes=1)


@pytest.fixture
def steps(database: Database) -> Steps:
    """Two studies, the later one with a finding that moves it ahead: the test runs once per kind of database."""
    made = Steps(database)
    made.score("1.1", finding("Effusion", 0.1))
    made.clock.move(MINUTE)
    made.score("1.2", finding("Pneumothorax", 0.9))
    return made


def later(steps: Steps) -> datetime:
    """Give the present, and let a minute pass before and after it."""
    steps.clock.move(MINUTE)
    now = steps.clock()
    steps.clock.move(MINUTE)
    return now


def order(past: PastList, policy: Policy) -> list[str]:
    """Give the studies in their order."""
    return [place.study.study_instance_uid for place in past.ranked(policy)]


def under(steps: Steps, policy: Policy) -> datetime:
    """Go over to a policy; an instant at which it is in force."""
    steps.reading_list.reprioritise(policy)
    return later(steps)


def test_a_past_order_goes_by_the_policy_of_then(steps: Steps) -> None:
    """Whatever it is today: the mode, up to where findings raise, and how long a study may wait."""
    policies = [
        Policy(),
        Policy(mode=Mode.ADVISE),
        Policy(mode=Mode.SHADOW),
        Policy(raise_to=Level.ROUTINE),
        Policy(maximum_wait={Level.ROUTINE: timedelta(seconds=1)}),
    ]
    stood = {under(steps, policy): policy for policy in policies}
    for when, policy in stood.items():
        past = steps.reading_list.stood_at(when)
        assert (past.mode, past.raise_to, past.pause) == (policy.mode, policy.raise_to, None)
        found = [[(each.study.study_instance_uid, each.reason) for each in past.ranked(now)] for now in policies]
        assert found == [found[policies.index(policy)]] * len(policies)
    orders = [order(steps.reading_list.stood_at(when), Policy(mode=Mode.SHADOW)) for when in stood]
    assert orders == [["1.2", "1.1"], ["1.1", "1.2"], ["1.1", "1.2"], ["1.2", "1.1"], ["1.1", "1.2"]]


def test_a_past_order_goes_by_the_pause_of_then(steps: Steps) -> None:
    """From the instant of the pause to that of its end, with who and why; also where it moved no study."""
    before = later(steps)
    steps.reading_list.pause("drift", actor="physicist", policy=steps.policy)
    paused = later(steps)
    steps.reading_list.resume(actor="physicist", policy=steps.policy)
    after = later(steps)
    pauses = [steps.reading_list.stood_at(when).pause for when in (before, paused, after)]
    assert [pause and (pause.by, pause.reason) for pause in pauses] == [None, ("physicist", "drift"), None]
    orders = [order(steps.reading_list.stood_at(when), steps.policy) for when in (before, paused, after)]
    assert orders == [["1.2", "1.1"], ["1.1", "1.2"], ["1.2", "1.1"]]
    for study in ("1.1", "1.2"):
        steps.reading_list.finish(study, actor="reader")
    steps.reading_list.pause("again", actor="physicist", policy=steps.policy)
    paused_again = steps.reading_list.stood_at(later(steps)).pause
    assert paused_again is not None
    assert paused_again.reason == "again"


def test_studies_of_which_nothing_was_kept_are_named(steps: Steps, database: Database) -> None:
    """They were listed by a release that kept no changes; from their first one on they are known."""
    with database.transaction() as session:
        session.execute(delete(ListChangeRow).where(ListChangeRow.study_instance_uid == "1.1"))
    unknown = later(steps)
    assert steps.reading_list.stood_at(unknown).not_kept == {"1.1"}
    steps.reading_list.claim("1.1", by="reader", actor="reader")
    assert steps.reading_list.stood_at(later(steps)).not_kept == set()
    steps.reading_list.finish("1.1", actor="reader")
    assert steps.reading_list.stood_at(unknown).not_kept == {"1.1"}
    assert steps.reading_list.stood_at(later(steps)).not_kept == set()


def test_changes_of_an_older_release_are_of_an_unknown_policy(steps: Steps, empty_database_url: str) -> None:
    """After an upgrade they are ranked by today's; what changes since then knows its own."""
    when, database = under(steps, Policy(raise_to=Level.ROUTINE)), steps.database
    old_ledger(database, empty_database_url, "0010")
    migrate(empty_database_url)
    upgraded = open_database(empty_database_url)
    reading_list = ReadingList(upgraded, clock=steps.clock)
    past = reading_list.stood_at(when)
    assert (past.mode, past.raise_to) == (None, None)
    assert order(past, Policy()) == ["1.2", "1.1"]
    assert order(past, Policy(mode=Mode.SHADOW)) == ["1.1", "1.2"]
    reading_list.reprioritise(replace(steps.policy, mode=Mode.ADVISE))
    assert reading_list.stood_at(later(steps)).mode is Mode.ADVISE
    upgraded.close()
