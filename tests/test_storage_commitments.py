"""Storage commitment in the ledger: asked for once at a time, never lost, and believed only where it was asked."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import select

from builders import received_instance
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.commitment_records import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentReport,
    CommitmentRequest,
    CommitmentState,
    Failure,
    ModalityReport,
    ModalityRequest,
    ModalityRequestState,
    Reception,
    Reference,
    Subject,
)
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import Commitments, Housekeeping, ModalityCommitments
from cxr_triage.storage.ledger.commitments import LOST_SENDER, NO_REPORT, count_commitments
from cxr_triage.storage.records import Delivery, DeliveryState, ReceivedInstance
from cxr_triage.storage.schema import DeliveryRow
from steps import LEASE, Steps

OWNER = "deliver-1-host-1"
RECEIVER = "receive-2-host-1"
HOUR = timedelta(hours=1)
SETTLE = timedelta(seconds=30)
#: As often as a destination may answer that it does not commit.
MAXIMUM_FAILURES = 3
MODALITY = "XRAY1"


class Commitment:
    """Storage commitment on a ledger where one study's SEG and SR are stored at two destinations."""

    def __init__(self, database: Database, steps: Steps) -> None:
        self.database = database
        self.steps = steps
        self.clock = steps.clock
        self.commitments = Commitments(database, lease=LEASE, clock=steps.clock)
        self.modalities = ModalityCommitments(database, lease=LEASE, clock=steps.clock)

    def store_results(self, study: str = "1.1") -> None:
        """Report a study, and have its objects stored everywhere for long enough."""
        self.steps.score(study)
        self.steps.report(study, ("pacs", "air"), ("archive", "air"))
        self.deliver("pacs")
        self.deliver("archive")
        self.clock.move(SETTLE)

    def deliver(self, destination: str) -> list[Delivery]:
        """Send what is due."""
        sent: list[Delivery] = []
        while due := self.steps.dispatch.claim(OWNER, destination, 10):
            for delivery in due:
                self.steps.dispatch.record_stored(delivery)
            sent += due
        return sent

    def plan(self, destination: str = "pacs", limit: int = 100, owner: str = OWNER) -> CommitmentRequest | None:
        """Write the next request down."""
        return self.commitments.plan(owner, destination, limit=limit, settle=SETTLE, subjects=set(Subject))

    def request(self, destination: str = "pacs") -> CommitmentRequest:
        """Write the next request down, which the destination takes."""
        request = self.plan(destination)
        assert request is not None
        assert self.commitments.record_requested(request, report_until=self.clock() + 6 * HOUR)
        return request

    def take(
        self,
        request: CommitmentRequest,
        *,
        failed: dict[Reference, int] | None = None,
        of: tuple[Reference, ...] | None = None,
        destinations: frozenset[str] = frozenset({"pacs"}),
    ) -> Reception:
        """Let the report for a request come in: all committed, but for those that failed."""
        failed = failed or {}
        report = CommitmentReport(
            transaction_uid=request.transaction_uid,
            committed=tuple(each for each in (of or request.references) if each not in failed),
            failed=tuple(Failure(each, reason) for each, reason in failed.items()),
        )
        return self.record(report, destinations)

    def record(self, report: CommitmentReport, destinations: frozenset[str] = frozenset({"pacs"})) -> Reception:
        """Let a report come in."""
        return self.commitments.record_report(
            report, destinations=destinations, resend_at=self.resend_at, ask_again_at=self.ask_again_at
        )

    def resend_at(self, failures: int) -> datetime | None:
        """Give up at the third failure."""
        return None if failures >= MAXIMUM_FAILURES else self.clock() + timedelta(minutes=1)

    def ask_again_at(self, failures: int) -> datetime:
        """Later each time."""
        return self.clock() + failures * timedelta(minutes=1)

    def states(self, destination: str = "pacs") -> dict[DeliveryState, int]:
        """How many deliveries are in each state."""
        counted = self.steps.housekeeping.counts().deliveries[destination]
        return {state: number for state, number in counted.items() if number}

    def requests(self, destination: str = "pacs") -> dict[CommitmentState, int]:
        """How many requests are in each state."""
        counted = count_commitments(self.database).requests.get(destination, {})
        return {state: number for state, number in counted.items() if number}

    def errors(self) -> set[str | None]:
        """What the ledger says went wrong last with the deliveries to the one destination."""
        with self.database.read() as session:
            return set(session.scalars(select(DeliveryRow.last_error).where(DeliveryRow.destination == "pacs")))

    def ask(self, *references: Reference, uid: str = "1.2.3.4", modality: str = MODALITY) -> ModalityReport | None:
        """Ask as a modality does."""
        request = ModalityRequest(
            transaction_uid=uid,
            calling_ae_title=modality,
            references=references,
            received_at=self.clock(),
        )
        return self.modalities.record_request(request, RECEIVER)

    def due(self, modality: str = MODALITY) -> ModalityReport | None:
        """Claim what a modality is to be told."""
        return self.modalities.claim_report(OWNER, modality)

    def modality_states(self) -> dict[ModalityRequestState, int]:
        """How many requests of modalities are in each state."""
        return {state: number for state, number in count_commitments(self.database).modality_requests.items() if number}


@pytest.fixture
def commitment(database: Database, steps: Steps) -> Commitment:
    """Give a fresh ledger: the test runs once per kind of database."""
    return Commitment(database, steps)


@pytest.fixture
def stored(commitment: Commitment) -> Commitment:
    """Give a ledger with one study whose results are stored everywhere."""
    commitment.store_results()
    return commitment


def reference(image: ReceivedInstance) -> Reference:
    """Refer to an image."""
    return Reference(image.sop_class_uid, image.sop_instance_uid)


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


def report_of(uid: str, *committed: Reference, failed: tuple[Failure, ...] = ()) -> CommitmentReport:
    """Make a report."""
    return CommitmentReport(transaction_uid=uid, committed=committed, failed=failed)


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


# As SCP: images of modalities.


def test_an_image_is_promised_once_the_pacs_has_committed(commitment: Commitment) -> None:
    """The modality's request becomes ours, and the answer of the PACS becomes ours."""
    image = reference(commitment.steps.receive())
    assert commitment.ask(image) is None
    assert commitment.due() is None
    request = commitment.request()
    assert request.references == (image,)
    assert commitment.due() is None
    commitment.take(request)
    told = commitment.due()
    assert told is not None
    assert told.report == report_of("1.2.3.4", image)
    commitment.modalities.record_reported(told)
    assert commitment.modality_states() == {ModalityRequestState.REPORTED: 1}
    assert commitment.due() is None


def test_promises_are_in_the_audit_trail(commitment: Commitment) -> None:
    """A modality deletes the image on it."""
    image = reference(commitment.steps.index("1.1"))
    commitment.ask(image)
    commitment.take(commitment.request())
    told = commitment.due()
    assert told is not None
    commitment.modalities.record_reported(told)
    last = commitment.steps.reading_list.history("1.1")[-1]
    assert (last.event, last.actor, last.sop_instance_uid) == (
        "modality_told_committed",
        MODALITY,
        image.sop_instance_uid,
    )


def test_what_we_never_acknowledged_fails_at_once(commitment: Commitment) -> None:
    """Unknown here, or of another class: the result stands, and is claimed by who took the request."""
    known = commitment.steps.receive()
    unknown, other_class = Reference("1.2.1", "1.2.3"), Reference("1.2.1", known.sop_instance_uid)
    told = commitment.ask(unknown, other_class)
    assert told is not None
    expected = (Failure(unknown, NO_SUCH_OBJECT_INSTANCE), Failure(other_class, CLASS_INSTANCE_CONFLICT))
    assert told.report == report_of("1.2.3.4", failed=expected)
    assert commitment.due() is None
    assert commitment.plan() is None
    commitment.modalities.put_back(told)
    assert commitment.due() is not None


def test_a_pacs_that_has_not_the_image_yet_is_asked_again(commitment: Commitment) -> None:
    """The modality sends to both at the same time."""
    known, unknown = reference(commitment.steps.receive()), Reference("1.2.1", "1.2.3")
    assert commitment.ask(known, unknown) is None
    first = commitment.request()
    commitment.take(first, failed={known: NO_SUCH_OBJECT_INSTANCE})
    assert commitment.due() is None
    assert commitment.plan() is None
    commitment.clock.move(timedelta(minutes=1))
    commitment.take(commitment.request())
    told = commitment.due()
    assert told is not None
    assert told.report == report_of("1.2.3.4", known, failed=(Failure(unknown, NO_SUCH_OBJECT_INSTANCE),))


@pytest.mark.parametrize("reason", [NO_SUCH_OBJECT_INSTANCE, None])
def test_an_image_that_the_pacs_never_gets_fails_in_the_end(commitment: Commitment, reason: int | None) -> None:
    """With what the PACS said last, or as a processing failure where it never said anything."""
    image = reference(commitment.steps.receive())
    commitment.ask(image)
    request = commitment.request()
    if reason is not None:
        commitment.take(request, failed={image: reason})
    assert commitment.modalities.give_up(commitment.clock()) == 0
    commitment.clock.move(72 * HOUR)
    assert commitment.modalities.give_up(commitment.clock()) == 1
    assert commitment.modalities.give_up(commitment.clock()) == 0
    told = commitment.due()
    assert told is not None
    assert told.report == report_of("1.2.3.4", failed=(Failure(image, reason or PROCESSING_FAILURE),))
    if reason is None:  # too late: the modality has been told, and is told the same again
        assert commitment.take(request) is Reception.RECORDED
        commitment.modalities.record_reported(told)
        again = commitment.ask(image)
        assert again is not None
        assert again.report == told.report


def test_a_class_conflict_at_the_pacs_is_final(commitment: Commitment) -> None:
    """Time does not change it."""
    image = reference(commitment.steps.receive())
    commitment.ask(image)
    commitment.take(commitment.request(), failed={image: CLASS_INSTANCE_CONFLICT})
    told = commitment.due()
    assert told is not None
    assert told.report.failed == (Failure(image, CLASS_INSTANCE_CONFLICT),)


def test_the_same_request_again_is_one_request(commitment: Commitment) -> None:
    """A modality that was not answered asks again, while it waits and after it was told: the content is the same."""
    image = reference(commitment.steps.receive())
    assert commitment.ask(image) is None
    assert commitment.ask(image) is None
    commitment.take(commitment.request())
    assert commitment.plan() is None
    told = commitment.due()
    assert told is not None
    assert commitment.ask(image) is None  # somebody is telling it at this moment
    commitment.modalities.record_reported(told)
    again = commitment.ask(image)
    assert again is not None
    assert again.report == told.report
    assert commitment.modality_states() == {ModalityRequestState.ANSWERED: 1}


def test_a_transaction_uid_in_use_fails(commitment: Commitment) -> None:
    """For other images, and for another modality; the first request is not disturbed."""
    first, second = reference(commitment.steps.receive()), reference(commitment.steps.receive())
    assert commitment.ask(first) is None
    other_images, other_modality = commitment.ask(second), commitment.ask(first, modality="XRAY2")
    assert other_images is not None
    assert other_modality is not None
    assert other_images.report.failed == (Failure(second, DUPLICATE_TRANSACTION_UID),)
    assert other_modality.report.failed == (Failure(first, DUPLICATE_TRANSACTION_UID),)
    commitment.take(commitment.request())
    told = commitment.due()
    assert told is not None
    assert told.report == report_of("1.2.3.4", first)


def test_two_modalities_that_ask_about_one_image_are_both_told(commitment: Commitment) -> None:
    """A request names an image once; the second one's turn comes with the next."""
    image = reference(commitment.steps.receive())
    commitment.ask(image, uid="1.2.3.4")
    commitment.ask(image, uid="1.2.3.5", modality="XRAY2")
    commitment.take(commitment.request())
    commitment.take(commitment.request())
    assert commitment.due() is not None
    assert commitment.due("XRAY2") is not None


def test_results_are_asked_for_before_images(stored: Commitment) -> None:
    """One kind per request: an image that is missing does not mix with a result that is."""
    image = reference(stored.steps.receive())
    stored.ask(image)
    assert image not in stored.request().references
    assert stored.request().references == (image,)


def test_an_image_is_asked_for_only_where_images_are(commitment: Commitment) -> None:
    """Of the one destination that the site named."""
    commitment.ask(reference(commitment.steps.receive()))
    plan = commitment.commitments.plan
    assert plan(OWNER, "archive", limit=10, settle=SETTLE, subjects={Subject.RESULTS}) is None
    assert plan(OWNER, "pacs", limit=10, settle=SETTLE, subjects={Subject.IMAGES}) is not None


def test_images_in_a_request_whose_sender_died_are_asked_for_again(commitment: Commitment) -> None:
    """And a late answer to the first request counts."""
    image = reference(commitment.steps.receive())
    commitment.ask(image)
    first = commitment.plan(owner="dead")
    assert first is not None
    assert commitment.commitments.release_leases(lambda _: False, commitment.clock()) == 1
    second = commitment.request()
    assert second.references == (image,)
    commitment.take(first)
    assert commitment.due() is not None
    assert commitment.take(second, failed={image: NO_SUCH_OBJECT_INSTANCE}) is Reception.RECORDED
    assert commitment.due() is None


def test_a_report_that_fails_is_told_again_later_and_given_up(commitment: Commitment) -> None:
    """A modality that is off costs time, and in the end its request."""
    told = commitment.ask(Reference("1.2.1", "1.2.3"))
    assert told is not None
    commitment.modalities.record_report_failed(told, error="no association", retry_at=commitment.clock() + HOUR)
    assert commitment.due() is None
    commitment.clock.move(HOUR)
    again = commitment.due()
    assert again is not None
    assert (again.failures, again.report) == (1, told.report)
    commitment.modalities.record_report_failed(again, error="no association", retry_at=None)
    assert commitment.modality_states() == {ModalityRequestState.ABANDONED: 1}


def test_a_late_reporter_records_nothing(commitment: Commitment) -> None:
    """The report was given to another, who has the say."""
    late = commitment.ask(Reference("1.2.1", "1.2.3"))
    assert late is not None
    assert commitment.modalities.release_leases(lambda _: True, commitment.clock()) == 0
    commitment.clock.move(LEASE)
    assert commitment.modalities.release_leases(lambda _: True, commitment.clock()) == 1
    current = commitment.due()
    assert current is not None
    too_late: list[Callable[[], None]] = [
        lambda: commitment.modalities.record_reported(late),
        lambda: commitment.modalities.record_report_failed(late, error="x", retry_at=None),
        lambda: commitment.modalities.put_back(late),
    ]
    for record in too_late:
        with pytest.raises(StaleAttemptError):
            record()
    commitment.modalities.record_reported(current)


def test_a_large_request_is_taken(commitment: Commitment) -> None:
    """More images than one question to the database may name."""
    images = [reference(commitment.steps.receive(received_instance())) for _ in range(3)]
    unknown = [Reference("1.2.1", f"1.2.3.{number}") for number in range(1200)]
    assert commitment.ask(*images, *unknown) is None
    commitment.take(commitment.request())
    told = commitment.due()
    assert told is not None
    assert (len(told.report.committed), len(told.report.failed)) == (3, 1200)


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


def test_reports_at_the_same_time_decide_a_request_once(database_url: str, commitment: Commitment) -> None:
    """Two receivers take the last two answers of the PACS: the modality is told, once, and of both images."""
    images = [reference(commitment.steps.receive()) for _ in range(2)]
    for attempt in range(10):
        uid = f"1.2.3.{attempt}"
        commitment.ask(*images, uid=uid)
        requests = [commitment.plan(limit=1) for _ in images]
        barrier = Barrier(2)

        def take(request: CommitmentRequest | None, barrier: Barrier = barrier) -> None:
            assert request is not None
            database = open_database(database_url)
            commitments = Commitments(database, lease=LEASE, clock=commitment.clock)
            barrier.wait()
            commitments.record_report(
                report_of(request.transaction_uid, *request.references),
                destinations={"pacs"},
                resend_at=commitment.resend_at,
                ask_again_at=commitment.ask_again_at,
            )
            database.close()

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(take, requests))
        told = commitment.due()
        assert told is not None
        assert told.report == report_of(uid, *images)
        commitment.modalities.record_reported(told)
