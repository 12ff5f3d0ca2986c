"""Counts, and the end of files: nothing goes that anything still needs."""

from datetime import timedelta

import pytest

from cxr_triage.model.errors import StorageError
from cxr_triage.model.prediction import Refusal
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.ledger.history import History
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.upkeep_records import Counts
from steps import Steps

EMPTY = Counts(
    instances=dict.fromkeys(InstanceState, 0),
    revisions=dict.fromkeys(RevisionState, 0),
    deliveries={},
    held_back={},
    not_taken={},
    untold={},
    circuits={},
    listed_studies=0,
    other_bytes=0,
    failed_unread=0,
    oldest_unscored_at=None,
    oldest_undelivered_at=None,
)


def test_empty_ledger_counts_nothing(steps: Steps) -> None:
    """Every state is named all the same."""
    assert steps.housekeeping.counts() == EMPTY


def test_everything_is_counted_by_state(steps: Steps) -> None:
    """One study at each stage."""
    start = steps.clock()
    steps.score("1.1")
    steps.report("1.1")
    reported_at = steps.clock()
    steps.clock.move(timedelta(seconds=1))
    steps.index("1.2")
    steps.clock.move(timedelta(seconds=1))
    steps.receive()
    counts = steps.housekeeping.counts()
    nothing = dict.fromkeys(InstanceState, 0)
    one_each = {InstanceState.SCORED: 1, InstanceState.INDEXED: 1, InstanceState.RECEIVED: 1}
    assert counts.instances == nothing | one_each
    assert counts.revisions[RevisionState.REPORTED] == 1
    assert counts.deliveries == {"pacs": dict.fromkeys(DeliveryState, 0) | {DeliveryState.PENDING: 2}}
    assert (2, start + timedelta(seconds=1), reported_at) == (
        counts.listed_studies,
        counts.oldest_unscored_at,
        counts.oldest_undelivered_at,
    )


def test_files_stay_until_nothing_needs_them(steps: Steps) -> None:
    """Reported, delivered, read and old enough; then each goes once."""
    image = steps.score("1.1")
    later = steps.clock() + timedelta(days=30)
    assert steps.housekeeping.forgettable_files(later) == []  # not reported
    _, [seg, sr] = steps.report("1.1")
    assert steps.housekeeping.forgettable_files(later) == []  # not read, not delivered
    steps.reading_list.finish("1.1", actor="reader")
    assert steps.housekeeping.forgettable_files(later) == []  # not delivered: a stand-in may be made of the image
    for _ in range(2):
        [delivery] = steps.dispatch.claim("owner", "pacs", 1)
        steps.dispatch.record_stored(delivery)
    assert steps.housekeeping.forgettable_files(steps.clock()) == []  # not old enough
    files = steps.housekeeping.forgettable_files(later)
    assert {(file.place, file.path) for file in files} == {
        ("inbox", image.path),
        ("outbox", seg.path),
        ("outbox", sr.path),
    }
    steps.housekeeping.record_forgotten(files)
    assert steps.housekeeping.forgettable_files(later) == []
    assert steps.housekeeping.unowned("inbox", [str(image.path)]) == [image.path]


def test_files_that_a_person_may_still_want_stay(steps: Steps) -> None:
    """A failed image can be replayed, and so can a dead delivery."""
    steps.index("1.1")
    steps.scoring.record_failure(steps.claim_to_score(), error_class="x", explanation="x", retry_at=None)
    steps.reading_list.finish("1.1", actor="reader")
    steps.score("1.2")
    steps.report("1.2")
    [seg] = steps.dispatch.claim("owner", "pacs", 1)
    steps.dispatch.record_dead(seg, "refused")
    assert steps.housekeeping.forgettable_files(steps.clock() + timedelta(days=30)) == []


def test_file_of_an_unsuitable_image_goes_with_age(steps: Steps) -> None:
    """Also when it belongs to no study; without its file it cannot be replayed."""
    image = steps.receive()
    refusal = Refusal(reason="not_chest", explanation="A hand.")
    steps.scoring.record_unsuitable(steps.claim_to_index(), refusal)
    files = steps.housekeeping.forgettable_files(steps.clock() + timedelta(days=30))
    assert [file.path for file in files] == [image.path]
    steps.housekeeping.record_forgotten(files)
    assert steps.scoring.replay(image.sop_instance_uid) == 0


def test_many_files_are_asked_after_at_once(steps: Steps) -> None:
    """More than a database takes in one question."""
    image = steps.receive()
    strays = [image.path.with_name(f"stray-{number}.dcm") for number in range(2000)]
    assert steps.housekeeping.unowned("inbox", map(str, [*strays, image.path])) == sorted(strays)


def test_history_tells_when_each_image_was_scored(steps: Steps, database: Database) -> None:
    """In the order of the results."""
    first = steps.score("1.1")
    scored_at = steps.clock()
    steps.clock.move(timedelta(seconds=1))
    second = steps.score("1.2")
    told = [(each.sop_instance_uid, each.scored_at) for each in History(database).scored_images()]
    assert told == [(first.sop_instance_uid, scored_at), (second.sop_instance_uid, steps.clock())]


def test_ping_answers(steps: Steps) -> None:
    """The database is there."""
    steps.housekeeping.ping()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://user:secret@/name?host=/nowhere"]
)
def test_ping_says_that_the_database_is_away(url: str) -> None:
    """As our own error, without the password."""
    database = open_database(url)
    with pytest.raises(StorageError) as raised:
        Housekeeping(database).ping()
    assert "secret" not in str(raised.value)
    database.close()
