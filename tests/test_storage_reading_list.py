"""The reading list: findings raise, people order, and nothing is lowered behind their back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from builders import finding, prediction, received_instance
from cxr_triage.model.errors import StorageError
from cxr_triage.model.prediction import Refusal, Remark
from cxr_triage.model.priority import Level, Mode, Policy
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import ReadingList, Scoring
from cxr_triage.storage.list_records import Change
from cxr_triage.storage.schema import StudyRow
from steps import LEASE, OWNER, Steps

EVERY_LEVEL = list(Level)


def test_study_is_listed_from_its_first_indexed_image(steps: Steps) -> None:
    """As ordered, which is ROUTINE until somebody says otherwise; its arrival is the image's."""
    steps.receive()
    assert steps.reading_list.studies() == []
    image = received_instance(received_at=steps.clock() + timedelta(seconds=2))
    steps.claim_to_index()
    steps.index("1.1", image)
    listed = steps.listed("1.1")
    assert (
        listed.ordered,
        listed.priority.effective,
        listed.priority.utility,
    ) == (Level.ROUTINE, Level.ROUTINE, 0.0)
    assert listed.arrived_at == image.received_at
    assert listed.images == dict.fromkeys(InstanceState, 0) | {InstanceState.INDEXED: 1}


def test_finding_raises_a_study_in_the_transaction_that_records_it(steps: Steps) -> None:
    """The list has moved when the result is recorded, says why, and knows what it would be without."""
    steps.score("1.1", finding("Pneumothorax", 0.9, 0.5))
    listed = steps.listed("1.1")
    assert (listed.ordered, listed.priority.effective, listed.priority.utility) == (Level.ROUTINE, Level.HIGH, 0.9)
    assert "Pneumothorax" in listed.priority.reason
    assert "first 1.0.0" in listed.priority.reason
    assert (
        listed.priority_without_findings.effective,
        listed.priority_without_findings.utility,
    ) == (Level.ROUTINE, 0.0)


def test_most_urgent_finding_of_all_images_counts(steps: Steps) -> None:
    """A later image with nothing on it takes nothing back; from then on, the reason names the image."""
    steps.score("1.1", finding("Pneumothorax", 0.9))
    before = steps.listed("1.1").priority
    assert "frontal image" not in before.reason
    steps.score("1.1", finding("Nodule", 0.1))
    after = steps.listed("1.1").priority
    assert replace(after, reason=before.reason) == before
    assert after.reason.endswith("severity weight 1; frontal image 1; model first 1.0.0).")
    steps.score("1.1", finding("Pneumothorax", 0.95))
    assert "Pneumothorax 0.950" in steps.listed("1.1").priority.reason
    assert "frontal image 3" in steps.listed("1.1").priority.reason


@pytest.mark.parametrize("ordered", EVERY_LEVEL)
def test_ordered_level_is_never_touched_by_a_result(steps: Steps, ordered: Level) -> None:
    """Whatever was ordered stays, and the study is read as that or earlier."""
    steps.reading_list.set_ordered("1.1", ordered, actor="RIS", policy=steps.policy)
    steps.score("1.1", finding(probability=0.9))
    listed = steps.listed("1.1")
    assert (ordered, min(ordered, Level.HIGH)) == (listed.ordered, listed.priority.effective)


@pytest.mark.parametrize("ordered", EVERY_LEVEL)
def test_database_itself_refuses_to_lower(database: Database, steps: Steps, ordered: Level) -> None:
    """Even a programming mistake cannot read a study later than ordered."""
    steps.reading_list.set_ordered("1.1", ordered, actor="RIS", policy=steps.policy)
    if ordered is Level.LOW:
        return
    with pytest.raises(StorageError, match="never_lowered"), database.transaction() as session:
        session.execute(update(StudyRow).values(effective=Level(ordered + 1)))


def test_people_may_order_up_and_down(steps: Steps) -> None:
    """Findings count on top of each order."""
    steps.score("1.1", finding(probability=0.9))
    for ordered, effective in ((Level.STAT, Level.STAT), (Level.LOW, Level.HIGH), (Level.ROUTINE, Level.HIGH)):
        steps.reading_list.set_ordered("1.1", ordered, actor="RIS", policy=steps.policy)
        listed = steps.listed("1.1")
        assert (ordered, effective) == (listed.ordered, listed.priority.effective)
        assert listed.priority.overdue_at == listed.arrived_at + steps.policy.maximum_wait[ordered]


def test_order_of_an_unknown_study_lists_nothing(steps: Steps) -> None:
    """It waits for the study's first image."""
    steps.reading_list.set_ordered("1.1", Level.LOW, actor="RIS", policy=steps.policy)
    assert steps.reading_list.studies() == []
    steps.index("1.1")
    assert steps.listed("1.1").priority.effective is Level.LOW


def test_finished_study_leaves_and_stays_away(steps: Steps) -> None:
    """Also when a result of an image that was there comes later."""
    steps.index("1.1")
    steps.clock.move(timedelta(minutes=1))
    assert steps.reading_list.finish("1.1", actor="reader")
    assert not steps.reading_list.finish("1.1", actor="reader")
    assert not steps.reading_list.finish("9.9", actor="reader")
    steps.scoring.record_scored(steps.claim_to_score(), prediction(), steps.policy)
    assert steps.reading_list.studies() == []


def test_image_after_the_reading_brings_the_study_back(steps: Steps) -> None:
    """Nobody has read it; its wait begins with that image."""
    steps.score("1.1")
    steps.clock.move(timedelta(hours=1))
    steps.reading_list.finish("1.1", actor="reader")
    steps.clock.move(timedelta(hours=1))
    steps.index("1.1")
    assert steps.listed("1.1").arrived_at == steps.clock()


def test_image_from_before_the_reading_does_not_bring_it_back(steps: Steps) -> None:
    """It was received in time, and indexed late."""
    early = received_instance(received_at=steps.clock())
    steps.score("1.1")
    steps.clock.move(timedelta(hours=1))
    steps.reading_list.finish("1.1", actor="reader")
    steps.index("1.1", early)
    assert steps.reading_list.studies() == []


def test_aged_studies_leave(steps: Steps) -> None:
    """Those that arrived before the time named; the others stay."""
    steps.index("1.1")
    steps.clock.move(timedelta(hours=1))
    steps.index("1.2")
    assert steps.reading_list.finish_aged(steps.clock()) == 1
    assert steps.reading_list.finish_aged(steps.clock()) == 0
    assert [listed.study_instance_uid for listed in steps.reading_list.studies()] == ["1.2"]


def test_changed_policy_moves_the_whole_list(steps: Steps) -> None:
    """Advice only: every study goes back to what was ordered; switched on again: raised again."""
    for study in ("1.1", "1.2"):
        steps.score(study, finding(probability=0.9))
    advise = Policy(mode=Mode.ADVISE)
    assert steps.reading_list.reprioritise(advise) == 2
    assert steps.reading_list.reprioritise(advise) == 0
    assert {each.priority.effective for each in steps.reading_list.studies()} == {Level.ROUTINE}
    assert steps.reading_list.reprioritise(steps.policy) == 2
    assert {each.priority.effective for each in steps.reading_list.studies()} == {Level.HIGH}


def test_list_is_in_the_order_of_arrival(steps: Steps) -> None:
    """Ranking is left to the one pure function; each study has the header of its first image."""
    now = steps.clock()
    steps.index("1.2", received_instance(received_at=now + timedelta(seconds=5)))
    steps.index("1.1", received_instance(received_at=now + timedelta(seconds=1)))
    steps.index("1.2", received_instance(received_at=now))
    studies = steps.reading_list.studies()
    assert [listed.study_instance_uid for listed in studies] == ["1.2", "1.1"]
    assert [listed.arrived_at for listed in studies] == [now, now + timedelta(seconds=1)]
    assert studies[0].images[InstanceState.INDEXED] == 2
    assert studies[0].header == steps.reporting.header("1.2")


def test_every_change_is_in_the_audit_trail(steps: Steps) -> None:
    """Who, what and why, in order; and no patient data."""
    steps.reading_list.set_ordered("1.1", Level.LOW, actor="RIS", policy=steps.policy)
    steps.score("1.1", finding("Mass", 0.9))
    steps.report("1.1")
    steps.clock.move(timedelta(minutes=5))
    steps.reading_list.finish("1.1", actor="reader")
    history = steps.reading_list.history("1.1")
    assert [(entry.actor, entry.event) for entry in history] == [
        ("RIS", "ordered"),
        ("infer-1-host-1", "indexed"),
        ("ledger", "prioritised"),
        ("infer-1-host-1", "scored"),
        ("ledger", "prioritised"),
        ("report", "revision_opened"),
        ("report", "revision_reported"),
        ("reader", "finished"),
    ]
    assert "LOW -> HIGH" in history[4].detail
    assert "Mass 0.900" in history[4].detail
    assert history[-1].at == steps.clock()
    header = steps.reporting.header("1.1")
    told = " ".join(entry.detail for entry in history)
    for secret in (header.patient_name, header.patient_id, header.accession_number, header.patient_birth_date):
        assert secret not in told


def test_changed_maximum_wait_changes_when_a_study_is_overdue(steps: Steps) -> None:
    """At once, for the studies that wait already."""
    steps.index("1.1")
    patient = replace(steps.policy, maximum_wait={Level.ROUTINE: timedelta(hours=30)})
    steps.reading_list.reprioritise(patient)
    listed = steps.listed("1.1")
    assert listed.priority.overdue_at == listed.arrived_at + timedelta(hours=30)


def test_list_says_what_was_not_done(steps: Steps) -> None:
    """An image that is not triaged and one that waits are named, in place of a silence that could pass for normal."""
    steps.index("1.1")
    assert steps.listed("1.1").remarks == ("Waiting for the network: 1 of 1 images.",)
    claim = steps.scoring.claim_to_score(OWNER)
    assert claim is not None
    steps.scoring.record_unsuitable(claim, Refusal(reason="not_frontal", explanation="A lateral view."))
    steps.score("1.1")
    assert steps.listed("1.1").remarks == ("Not triaged, 1 of 2 images: A lateral view.",)


def test_scored_study_has_nothing_to_add(steps: Steps) -> None:
    """The reason of its priority says it all."""
    steps.score("1.1")
    assert steps.listed("1.1").remarks == ()


def test_list_passes_on_what_is_remarked_on_images(steps: Steps) -> None:
    """Each sentence once, after what was not done; it changes no priority."""
    mirrored = Remark(word="heart_on_right", sentence="The heart lies on the patient's right.")
    unmeasured = Remark(word="not_measured", sentence="Nothing was measured: Only one lung is seen.")
    steps.score("1.1")
    before = steps.listed("1.1").priority.effective
    for remarks in ((mirrored,), (mirrored, unmeasured)):
        steps.index("1.1")
        claim = steps.scoring.claim_to_score(OWNER)
        assert claim is not None
        steps.scoring.record_scored(claim, prediction(findings=(), remarks=remarks), steps.policy)
    steps.index("1.1")
    listed = steps.listed("1.1")
    assert listed.remarks == ("Waiting for the network: 1 of 4 images.", mirrored.sentence, unmeasured.sentence)
    assert listed.priority.effective == before


def test_a_reader_keeps_the_study_that_was_opened(steps: Steps) -> None:
    """It goes to the front and stays there; another reader is refused; put back, it waits where it belongs."""
    steps.score("1.1", finding("Nodule", 0.1))
    steps.clock.move(timedelta(minutes=1))
    assert steps.reading_list.claim("1.1", by="WS1", actor="WS1")
    assert steps.reading_list.claim("1.1", by="WS1", actor="WS1")
    assert not steps.reading_list.claim("1.1", by="WS2", actor="WS2")
    assert not steps.reading_list.claim("9.9", by="WS2", actor="WS2")
    steps.score("1.2", finding("Pneumothorax", 0.9))
    steps.reading_list.set_ordered("1.2", Level.STAT, actor="RIS", policy=steps.policy)
    assert order(steps) == ["1.1", "1.2"]
    assert steps.reading_list.give_back("1.1", actor="WS1")
    assert not steps.reading_list.give_back("1.1", actor="WS1")
    assert order(steps) == ["1.2", "1.1"]
    told = [entry.event for entry in steps.reading_list.history("1.1")]
    assert told[-2:] == ["claimed", "given_back"]


def test_readers_who_ask_at_the_same_time_are_not_given_the_same_study(database: Database, steps: Steps) -> None:
    """Whatever the database, exactly one of them has it."""
    steps.score("1.1")
    with ThreadPoolExecutor(8) as pool:
        names = [f"WS{number}" for number in range(8)]
        won = list(pool.map(lambda name: ReadingList(database).claim("1.1", by=name, actor=name), names))
    assert sum(won) == 1
    assert steps.listed("1.1").claimed_by == names[won.index(True)]


def test_a_study_that_was_read_is_nobodys(steps: Steps) -> None:
    """It leaves the list; an image that comes later brings it back unclaimed."""
    steps.score("1.1")
    steps.reading_list.claim("1.1", by="WS1", actor="WS1")
    steps.clock.move(timedelta(minutes=1))
    assert steps.reading_list.finish("1.1", actor="WS1")
    steps.clock.move(timedelta(minutes=1))
    steps.score("1.1")
    assert (steps.listed("1.1").claimed_at, steps.listed("1.1").claimed_by) == (None, "")


def test_equal_versions_have_equal_order(steps: Steps) -> None:
    """Each change gives another version; time alone does so where it makes a study overdue."""
    seen: dict[str, list[str]] = {}

    def look() -> str:
        snapshot = steps.reading_list.snapshot()
        now = [place.study.study_instance_uid for place in snapshot.ranked(steps.policy)]
        assert seen.setdefault(str(snapshot.version), now) == now
        assert steps.reading_list.version() == snapshot.version
        return str(snapshot.version)

    versions = [look()]
    acts: list[Callable[[], object]] = [
        lambda: steps.index("1.1"),
        lambda: steps.scoring.record_scored(steps.claim_to_score(), prediction(findings=()), steps.policy),
        lambda: steps.score("1.2", finding("Effusion", 0.9)),
        lambda: steps.reading_list.set_ordered("1.1", Level.LOW, actor="RIS", policy=steps.policy),
        lambda: steps.reading_list.set_ordered("1.1", Level.LOW, actor="RIS", policy=steps.policy),
        lambda: steps.reading_list.claim("1.1", by="WS1", actor="WS1"),
        lambda: steps.reading_list.give_back("1.1", actor="WS1"),
        lambda: steps.clock.move(timedelta(hours=23)),
        lambda: steps.clock.move(timedelta(hours=2)),
        lambda: steps.clock.move(timedelta(hours=90)),
        steps.reading_list.note_overdue,
        lambda: steps.reading_list.finish("1.2", actor="WS1"),
    ]
    for act in acts:
        act()
        versions.append(look())
    expected = ("0.0", "1.0", "1.0", "3.0", "4.0", "4.0", "5.0", "6.0", "6.0", "6.1", "6.2", "8.2", "9.1")
    assert versions == list(expected)


def test_who_became_overdue_is_noted_once(steps: Steps) -> None:
    """And again when another order gave it another time to wait."""
    steps.score("1.1")
    assert steps.reading_list.note_overdue() == 0
    steps.clock.move(timedelta(hours=25))
    assert [steps.reading_list.note_overdue() for _ in range(2)] == [1, 0]
    steps.reading_list.set_ordered("1.1", Level.MEDIUM, actor="RIS", policy=steps.policy)
    assert steps.reading_list.note_overdue() == 0
    steps.clock.move(timedelta(hours=48))
    assert steps.reading_list.note_overdue() == 1
    changes = [change.change for change in steps.reading_list.changes_of("1.1")]
    assert changes == [Change.LISTED, Change.OVERDUE, Change.MOVED, Change.OVERDUE]


def test_the_list_of_a_past_instant_can_be_shown(steps: Steps) -> None:
    """Every study as it stood then: listed, moved, claimed, gone, and back."""
    shown: list[tuple[datetime, list[str]]] = []
    acts: list[Callable[[], object]] = [
        lambda: steps.score("1.1"),
        lambda: steps.score("1.2", finding("Effusion", 0.9)),
        lambda: steps.score("1.3", finding("Pneumothorax", 0.9)),
        lambda: steps.reading_list.claim("1.1", by="WS1", actor="WS1"),
        lambda: steps.reading_list.finish("1.3", actor="WS1"),
        lambda: steps.clock.move(timedelta(hours=25)),
        lambda: steps.reading_list.give_back("1.1", actor="WS1"),
        lambda: steps.score("1.3"),
    ]
    for act in acts:
        act()
        steps.clock.move(timedelta(seconds=1))
        shown.append((steps.clock(), order(steps)))
        steps.clock.move(timedelta(minutes=1))
    for when, expected in shown:
        stood = steps.reading_list.stood_at(when).ranked(steps.policy)
        assert [place.study.study_instance_uid for place in stood] == expected
    assert len({tuple(expected) for _, expected in shown}) > 5


def test_changes_are_numbered_without_gaps(steps: Steps) -> None:
    """Whoever is told of changes sees each once, in order."""
    for study in ("1.1", "1.2", "1.3"):
        steps.score(study, finding())
    changes = steps.reading_list.changes_after(0, 99)
    assert [change.number for change in changes] == list(range(1, 7))
    assert steps.reading_list.changes_after(4, 1) == changes[4:5]


def test_a_pause_holds_for_what_comes_later(steps: Steps) -> None:
    """Findings of images that are scored meanwhile move nothing until triage is resumed."""
    steps.score("1.1", finding())
    assert steps.reading_list.pause("drift", actor="tester", policy=steps.policy)
    assert not steps.reading_list.pause("again", actor="tester", policy=steps.policy)
    steps.score("1.2", finding())
    assert [steps.listed(study).priority.effective for study in ("1.1", "1.2")] == [Level.ROUTINE] * 2
    assert "advice only" in steps.listed("1.2").priority.reason
    paused = steps.reading_list.paused()
    assert paused is not None
    assert (paused.by, paused.reason) == ("tester", "drift")
    assert steps.reading_list.resume(actor="tester", policy=steps.policy)
    assert not steps.reading_list.resume(actor="tester", policy=steps.policy)
    assert [steps.listed(study).priority.effective for study in ("1.1", "1.2")] == [Level.HIGH] * 2


def test_a_pause_that_was_cut_off_is_finished_by_the_next(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its order has a version of its own from the first moment; said again, it is done to the end."""
    steps.score("1.1", finding())
    before = steps.reading_list.version()

    def fail(_list: ReadingList, _policy: Policy) -> int:
        raise StorageError("cut off")

    with monkeypatch.context() as cut_off:
        cut_off.setattr(ReadingList, "reprioritise", fail)
        with pytest.raises(StorageError):
            steps.reading_list.pause("drift", actor="tester", policy=steps.policy)
    assert steps.reading_list.version() != before
    assert not steps.reading_list.pause("again", actor="tester", policy=steps.policy)
    assert steps.listed("1.1").priority.effective is Level.ROUTINE


def test_a_pause_misses_no_study_that_comes_at_the_same_time(database: Database, steps: Steps) -> None:
    """Scored while triage is being paused or just before: afterwards, none stands raised."""
    studies = [f"1.{number}" for number in range(6)]
    for study in studies:
        steps.index(study)

    def score(_: str) -> None:
        scoring = Scoring(database, lease=LEASE, clock=steps.clock)
        claim = scoring.claim_to_score("infer-1-host-1")
        assert claim is not None
        scoring.record_scored(claim, prediction(findings=(finding(),)), steps.policy)

    with ThreadPoolExecutor(7) as pool:
        scored = [pool.submit(score, study) for study in studies]
        assert pool.submit(lambda: ReadingList(database).pause("now", actor="t", policy=steps.policy)).result()
        for job in scored:
            job.result()
    assert {steps.listed(study).priority.effective for study in studies} == {Level.ROUTINE}


def order(steps: Steps) -> list[str]:
    """Give the list as an order of studies."""
    ranked = steps.reading_list.snapshot().ranked(steps.policy)
    return [place.study.study_instance_uid for place in ranked]
