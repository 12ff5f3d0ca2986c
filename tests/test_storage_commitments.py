"""Storage commitment in the ledger: asked for once at a time, never lost, and believed only where it was asked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from commitments import HOUR, MAXIMUM_FAILURES, OWNER, SETTLE, Commitment, reference, report_of
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.commitment_records import (
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    CommitmentReport,
    CommitmentState,
    Failure,
    Reception,
    Reference,
    Subject,
)
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Commitments, Housekeeping
from cxr_triage.storage.ledger.commitments import LOST_SENDER, NO_REPORT, count_commitments
from steps import LEASE, Steps


@pytest.fixture
def commitment(database: Database, steps: Steps) -> Commitment:
    """Give a fresh ledger: the test runs once per kind of database."""
    return Commitment(database, steps)


@pytest.fixture
def stored(commitment: Commitment) -> Commitment:
    """Give a ledger with one study whose results are stored everywhere."""
    commitment.store_results()
    return commitment


# As SCU: our results.


def test_what_a_destination_commits_to_is_committed_there_only(stored: Commitment) -> None:
    """SEG and SR go into one request; the other destination is asked by itself."""
    request = stored.request()
    assert len(request.references) == 2
    assert stored.take(request) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 2}
    assert stored.states("archive") == {DeliveryState.STORED: 2}
    assert stored.requests() == {CommitmentState.ANSWERED: 1}
    told = [(entry.event, entry.detail) for entry in stored.steps.reading_list.history("1.1")][-2:]
    assert told == [("committed", "SEG to pacs"), ("committed", "SR to pacs")]


def test_a_young_delivery_is_not_asked_for(commitment: Commitment) -> None:
    """A PACS may answer success before its archive knows the object."""
    commitment.store_results()
    commitment.steps.score("1.2")
    commitment.steps.report("1.2")
    commitment.deliver("pacs")
    request = commitment.plan()
    assert request is not None
    assert len(request.references) == 2
    assert commitment.plan() is None
    commitment.clock.move(SETTLE)
    assert commitment.plan() is not None


def test_an_object_is_in_one_open_request_at_a_time(stored: Commitment) -> None:
    """However often, and by whomever, the next request is planned."""
    first, second = stored.plan(limit=1), stored.plan(limit=1, owner="deliver-2-host-2")
    assert first is not None
    assert second is not None
    assert set(first.references).isdisjoint(second.references)
    assert first.transaction_uid != second.transaction_uid
    assert stored.plan() is None


def test_a_report_before_the_answer_counts(stored: Commitment) -> None:
    """A PACS may report, on another association, before its N-ACTION response was recorded."""
    request = stored.plan()
    assert request is not None
    assert stored.take(request) is Reception.RECORDED
    assert not stored.commitments.record_requested(request, report_until=stored.clock())
    assert not stored.commitments.record_unanswered(request, error="x", retry_at=stored.clock())
    assert stored.states() == {DeliveryState.COMMITTED: 2}


def test_what_is_not_committed_to_is_sent_again(stored: Commitment) -> None:
    """The other object is committed; the failed one goes again after a pause, and is then asked for again."""
    request = stored.request()
    lost, _ = request.references
    assert stored.take(request, failed={lost: NO_SUCH_OBJECT_INSTANCE}) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 1, DeliveryState.PENDING: 1}
    assert stored.errors() == {None, "pacs does not commit to it: no such object instance (0112H)"}
    assert stored.deliver("pacs") == []
    stored.clock.move(timedelta(minutes=1))
    assert [each.object.sop_instance_uid for each in stored.deliver("pacs")] == [lost.sop_instance_uid]
    stored.clock.move(SETTLE)
    again = stored.request()
    assert again.references == (lost,)
    assert again.transaction_uid != request.transaction_uid
    assert stored.take(again) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 2}
    assert stored.errors() == {None}


def test_what_is_never_committed_to_is_given_up_with_the_reason(stored: Commitment) -> None:
    """After the configured number of failures a person must look; replayed, it has all its chances again."""
    for failures in range(1, MAXIMUM_FAILURES + 1):
        request = stored.request()
        lost = request.references[0]
        stored.take(request, failed={lost: 0x0213})
        assert (stored.states().get(DeliveryState.DEAD, 0) == 1) is (failures == MAXIMUM_FAILURES)
        stored.clock.move(timedelta(minutes=1))
        stored.deliver("pacs")
        stored.clock.move(SETTLE)
    assert stored.plan() is None
    assert stored.errors() == {None, "pacs does not commit to it: resource limitation (0213H)"}
    assert stored.steps.dispatch.replay_dead("pacs") == 1
    stored.deliver("pacs")
    stored.clock.move(SETTLE)
    request = stored.request()
    stored.take(request, failed={request.references[0]: 0x0213})
    assert stored.states() == {DeliveryState.COMMITTED: 1, DeliveryState.PENDING: 1}


def test_a_duplicate_transaction_uid_says_nothing_of_the_object(stored: Commitment) -> None:
    """It is asked for again, under another one, but not sent again; and not for ever."""
    for _ in range(MAXIMUM_FAILURES):
        request = stored.request()
        stored.take(request, failed=dict.fromkeys(request.references, DUPLICATE_TRANSACTION_UID))
        assert stored.steps.dispatch.claim(OWNER, "pacs", 10) == []
        stored.clock.move(timedelta(minutes=1))
    assert stored.states() == {DeliveryState.DEAD: 2}


def test_a_request_whose_sender_died_is_made_again(stored: Commitment) -> None:
    """Whether it was sent is not known: another transaction asks, and an answer to the first one still counts."""
    first = stored.plan(owner="dead")
    assert first is not None
    assert stored.plan() is None
    assert stored.commitments.release_leases(lambda owner: owner != "dead", stored.clock()) == 1
    assert stored.commitments.release_leases(lambda owner: owner != "dead", stored.clock()) == 0
    assert count_commitments(stored.database).troubles == {"pacs": LOST_SENDER}
    second = stored.request()
    assert second.references == first.references
    assert second.transaction_uid != first.transaction_uid
    assert stored.take(first) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 2}
    assert stored.take(second) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 2}


def test_a_request_without_a_report_is_made_again(stored: Commitment) -> None:
    """After the time that was set for it, and not before."""
    first = stored.request()
    stored.clock.move(5 * HOUR)
    assert stored.commitments.lapse() == 0
    assert stored.plan() is None
    stored.clock.move(HOUR)
    assert stored.commitments.lapse() == 1
    assert count_commitments(stored.database).troubles == {"pacs": NO_REPORT}
    second = stored.request()
    assert second.references == first.references
    assert count_commitments(stored.database).troubles == {}


def test_a_late_failure_does_not_overrule_a_later_request(stored: Commitment) -> None:
    """The PACS spoke of what it had then: what it says to the request since decides."""
    first = stored.request()
    stored.clock.move(6 * HOUR)
    stored.commitments.lapse()
    second = stored.request()
    failed = dict.fromkeys(first.references, NO_SUCH_OBJECT_INSTANCE)
    assert stored.take(first, failed=failed) is Reception.RECORDED
    assert stored.states() == {DeliveryState.STORED: 2}
    stored.take(second)
    assert stored.states() == {DeliveryState.COMMITTED: 2}


def test_a_late_failure_counts_where_nothing_was_asked_since(stored: Commitment) -> None:
    """Late is better than never."""
    request = stored.request()
    stored.clock.move(6 * HOUR)
    stored.commitments.lapse()
    stored.take(request, failed=dict.fromkeys(request.references, NO_SUCH_OBJECT_INSTANCE))
    assert stored.states() == {DeliveryState.PENDING: 2}


def test_a_commitment_ends_a_resend_that_is_under_way(stored: Commitment) -> None:
    """A late success for an object that is being sent again: the sender finds that it has lost the attempt."""
    first = stored.request()
    stored.clock.move(6 * HOUR)
    stored.commitments.lapse()
    second = stored.request()
    stored.take(second, failed=dict.fromkeys(second.references, NO_SUCH_OBJECT_INSTANCE))
    stored.clock.move(timedelta(minutes=1))
    [seg] = stored.steps.dispatch.claim(OWNER, "pacs", 1)
    stored.take(first)
    assert stored.states() == {DeliveryState.COMMITTED: 2}
    with pytest.raises(StaleAttemptError):
        stored.steps.dispatch.record_stored(seg)


def test_a_repeated_report_changes_nothing(stored: Commitment) -> None:
    """Also when it says the contrary: the first one stands."""
    request = stored.request()
    stored.take(request)
    assert stored.take(request) is Reception.REPEATED
    failed = dict.fromkeys(request.references, NO_SUCH_OBJECT_INSTANCE)
    assert stored.take(request, failed=failed) is Reception.REPEATED
    assert stored.states() == {DeliveryState.COMMITTED: 2}


def test_a_report_in_two_parts_is_taken(stored: Commitment) -> None:
    """PS3.4 J.3.3.1.2 wants all in one; what is missing stays open and is asked for again in its time."""
    request = stored.request()
    assert stored.take(request, of=request.references[:1]) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 1, DeliveryState.STORED: 1}
    assert stored.commitments.is_open(request)
    assert stored.take(request, of=request.references[1:]) is Reception.RECORDED
    assert stored.states() == {DeliveryState.COMMITTED: 2}
    assert not stored.commitments.is_open(request)


@pytest.mark.parametrize("what", ["transaction", "destination", "object", "class", "twice", "both"])
def test_a_report_of_what_was_not_asked_changes_nothing(stored: Commitment, what: str) -> None:
    """An unknown transaction, another's transaction, an object or class that it is not about, or contradictions."""
    request = stored.request()
    seg, sr = request.references
    stranger = Reference(seg.sop_class_uid, "1.2.3")
    reports: dict[str, tuple[CommitmentReport, frozenset[str], Reception]] = {
        "transaction": (report_of("1.2.3", seg, sr), frozenset({"pacs"}), Reception.UNKNOWN),
        "destination": (report_of(request.transaction_uid, seg, sr), frozenset({"archive"}), Reception.UNKNOWN),
        "object": (report_of(request.transaction_uid, seg, sr, stranger), frozenset({"pacs"}), Reception.NOT_ASKED),
        "class": (
            report_of(request.transaction_uid, Reference("1.2.3", seg.sop_instance_uid), sr),
            frozenset({"pacs"}),
            Reception.NOT_ASKED,
        ),
        "twice": (report_of(request.transaction_uid, seg, seg), frozenset({"pacs"}), Reception.NOT_ASKED),
        "both": (
            report_of(request.transaction_uid, seg, sr, failed=(Failure(seg, 0x0110),)),
            frozenset({"pacs"}),
            Reception.NOT_ASKED,
        ),
    }
    report, destinations, expected = reports[what]
    assert stored.record(report, destinations) is expected
    assert stored.states() == stored.states("archive") == {DeliveryState.STORED: 2}
    assert stored.requests() == {CommitmentState.REQUESTED: 1}


def test_a_refused_request_leaves_the_objects_stored(stored: Commitment) -> None:
    """They are asked for again after a long while; the trouble is said."""
    request = stored.plan()
    assert request is not None
    retry_at = stored.clock() + 6 * HOUR
    assert stored.commitments.record_refused(request, error="it does not offer that", retry_at=retry_at)
    assert stored.states() == {DeliveryState.STORED: 2}
    assert count_commitments(stored.database).troubles == {"pacs": "it does not offer that"}
    assert stored.plan() is None
    stored.clock.move(6 * HOUR)
    assert stored.plan() is not None


def test_what_is_not_committed_to_stays_in_the_outbox(database: Database, stored: Commitment) -> None:
    """Where a destination commits, and only there; and it counts as not delivered until then."""
    later = stored.clock() + 1000 * HOUR
    committing = Housekeeping(database, committing={"pacs"}, clock=stored.clock)
    plain = Housekeeping(database, clock=stored.clock)
    assert plain.counts().oldest_undelivered_at is None
    assert committing.counts().oldest_undelivered_at is not None
    assert objects(plain, later) == 2
    assert objects(committing, later) == 0
    stored.take(stored.request())
    assert objects(committing, later) == 2
    assert committing.counts().oldest_undelivered_at is None


def objects(housekeeping: Housekeeping, before: datetime) -> int:
    """How many objects' files may be removed."""
    return sum(file.place == "outbox" for file in housekeeping.forgettable_files(before))


def test_an_object_whose_file_is_gone_is_not_asked_for(database: Database, stored: Commitment) -> None:
    """As when commitment is switched on years later: it could not be sent again, and is done."""
    plain = Housekeeping(database, clock=stored.clock)
    plain.record_forgotten(plain.forgettable_files(stored.clock() + 1000 * HOUR))
    assert stored.plan() is None
    assert Housekeeping(database, committing={"pacs"}).counts().oldest_undelivered_at is None


def test_results_are_asked_for_before_images(stored: Commitment) -> None:
    """One kind per request: an image that is missing does not mix with a result that is."""
    image = reference(stored.steps.receive())
    stored.ask(image)
    assert image not in stored.request().references
    assert stored.request().references == (image,)


def test_senders_at_the_same_time_do_not_ask_twice(database_url: str, stored: Commitment) -> None:
    """As on several machines that share one Postgres: each object is in one request."""
    for number in range(10):
        stored.store_results(f"1.3.{number}")

    def plan_all(number: int) -> list[Reference]:
        database = open_database(database_url)
        commitments = Commitments(database, lease=LEASE, clock=stored.clock)
        planned: list[Reference] = []
        while request := commitments.plan(f"deliver-{number}", "pacs", limit=3, settle=SETTLE, subjects=set(Subject)):
            planned += request.references
        database.close()
        return planned

    with ThreadPoolExecutor(max_workers=4) as pool:
        planned = [each for references in pool.map(plan_all, range(4)) for each in references]
    assert len(planned) == len(set(planned)) == 22
