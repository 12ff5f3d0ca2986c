"""Commitment towards modalities: they are promised what the PACS has committed to, and nothing else."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from builders import received_instance
from commitments import HOUR, MODALITY, OWNER, SETTLE, Commitment, reference, report_of
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.storage.commitment_records import (
    CLASS_INSTANCE_CONFLICT,
    DUPLICATE_TRANSACTION_UID,
    NO_SUCH_OBJECT_INSTANCE,
    PROCESSING_FAILURE,
    CommitmentRequest,
    Failure,
    ModalityRequestState,
    Reception,
    Reference,
    Subject,
)
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger import Commitments
from steps import LEASE, Steps


@pytest.fixture
def commitment(database: Database, steps: Steps) -> Commitment:
    """Give a fresh ledger: the test runs once per kind of database."""
    return Commitment(database, steps)


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
