"""The list that a role shows: read anew whenever it would say something else, and only then."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from builders import finding, prediction
from cxr_triage.daemon.worklist.board import Boards
from cxr_triage.storage.list_records import Snapshot
from steps import Steps


@pytest.fixture
def boards(steps: Steps) -> Boards:
    """Give the boards of a ledger."""
    return Boards(steps.reading_list, steps.policy)


def test_a_list_that_stays_is_read_once(steps: Steps, boards: Boards, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks gets what the last one got."""
    steps.score("1.1", finding())
    read: list[Snapshot] = []
    snapshot = steps.reading_list.snapshot

    def counted() -> Snapshot:
        read.append(snapshot())
        return read[-1]

    monkeypatch.setattr(steps.reading_list, "snapshot", counted)
    first = boards.now()
    steps.clock.move(timedelta(minutes=5))
    assert boards.now() is first
    assert len(read) == 1


CHANGES: dict[str, Callable[[Steps], object]] = {
    "another study": lambda steps: steps.index("1.2"),
    "a finding": lambda steps: steps.score("1.1", finding("Pneumothorax", 0.99)),
    # These move no study, but the entry of one says something else.
    "another image": lambda steps: steps.index("1.1"),
    "nothing found": lambda steps: steps.scoring.record_scored(
        steps.claim_to_score(), prediction(findings=()), steps.policy
    ),
    "a claim": lambda steps: steps.reading_list.claim("1.1", by="reader", actor="reader"),
    "done": lambda steps: steps.reading_list.finish("1.1", actor="reader"),
    "overdue": lambda steps: steps.clock.move(timedelta(hours=25)),
    "paused": lambda steps: steps.reading_list.pause("a fault", actor="IT", policy=steps.policy),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_seen_at_once(steps: Steps, boards: Boards, change: str) -> None:
    """What is shown is what the ledger says now."""
    steps.score("1.1", finding())
    if change == "nothing found":
        steps.index("1.1")
    boards.now()
    steps.clock.move(timedelta(seconds=1))
    CHANGES[change](steps)
    shown, now = boards.now(), steps.reading_list.snapshot()
    assert (shown.version, list(shown.places)) == (now.version, now.ranked(steps.policy))


def test_a_version_began_when_its_last_change_was_made(steps: Steps, boards: Boards) -> None:
    """The same time as long as the version is the same; a study that becomes overdue makes another."""
    assert boards.now().places == []
    steps.index("1.1")
    listed_at = steps.clock()
    steps.clock.move(timedelta(hours=1))
    assert boards.now().since == listed_at
    steps.clock.move(timedelta(hours=24))
    overdue = boards.now()
    assert overdue.since == steps.listed("1.1").priority.overdue_at
    steps.index("1.1")  # its remarks change, not the version
    assert (boards.now() is overdue, boards.now().version, boards.now().since) == (
        False,
        overdue.version,
        overdue.since,
    )


def test_images_are_those_of_listed_studies(steps: Steps, boards: Boards) -> None:
    """By study, in the order in which they were received; none of a study that is done."""
    first, second = steps.index("1.1"), steps.index("1.1")
    steps.index("1.2")
    steps.reading_list.finish("1.2", actor="reader")
    images = boards.now().images
    assert {study: [image.sop_instance_uid for image in found] for study, found in images.items()} == {
        "1.1": [first.sop_instance_uid, second.sop_instance_uid]
    }
