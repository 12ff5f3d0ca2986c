"""Scoring: most urgent first, one result per image, and nothing from a late worker."""

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import timedelta

import numpy as np
import pytest

from builders import MORNING, finding, instance_header, prediction, received_instance
from cxr_triage.model.errors import StaleAttemptError, StorageError
from cxr_triage.model.findings import Zone
from cxr_triage.model.prediction import Prediction, Refusal, Remark
from cxr_triage.model.priority import Level
from cxr_triage.storage.image_records import InstanceState
from steps import LEASE, OWNER, Steps

REFUSAL = Refusal(reason="not_frontal", explanation="The view position says lateral.")


def test_images_are_indexed_in_the_order_of_arrival(steps: Steps) -> None:
    """Whatever the order in which they were written down."""
    later = steps.receive(received_instance(received_at=MORNING + timedelta(seconds=1)))
    earlier = steps.receive(received_instance(received_at=MORNING))
    claims = steps.scoring.claim_to_index(OWNER, 10)
    assert [claim.path for claim in claims] == [earlier.path, later.path]


def test_most_urgently_ordered_study_is_scored_first(steps: Steps) -> None:
    """STAT before an older ROUTINE; among equals the older."""
    for study in ("1.1", "1.2", "1.3"):
        steps.index(study)
        steps.clock.move(timedelta(seconds=1))
    steps.reading_list.set_ordered("1.3", Level.STAT, actor="RIS", policy=steps.policy)
    assert [steps.claim_to_score().study_instance_uid for _ in range(3)] == ["1.3", "1.1", "1.2"]


def test_order_known_before_the_image_counts(steps: Steps) -> None:
    """An order of a study that nobody has sent yet makes its image urgent when it comes."""
    steps.reading_list.set_ordered("1.2", Level.STAT, actor="RIS", policy=steps.policy)
    steps.index("1.1")
    steps.index("1.2")
    assert steps.claim_to_score().study_instance_uid == "1.2"


def test_prediction_comes_back_exactly(steps: Steps) -> None:
    """Numbers to the last bit, masks and saliency of odd sizes with their types, where it lies, what is remarked."""
    located = (
        replace(finding("Mass"), zone=Zone("lungs", "upper")),
        replace(finding(), zone=Zone("heart")),
        finding("Edema"),
    )
    expected = prediction(
        findings=located,
        regions={"Mass": np.random.default_rng(5).random((37, 29)) > 0.5},
        remarks=(Remark(word="heart_on_right", sentence="Das Herz liegt rechts: 心"),),
    )
    steps.index("1.1")
    steps.scoring.record_scored(steps.claim_to_score(), expected, steps.policy)
    revision = steps.reporting.open_revision("1.1", "digest")
    [stored] = steps.reporting.predictions(revision)
    _assert_equal(expected, stored.prediction)
    assert stored.scored_at == steps.clock()


def test_prediction_without_anything_found_comes_back(steps: Steps) -> None:
    """No finding, no location, no measurement, an empty mask."""
    expected = prediction(findings=(), locations={}, measurements=(), masks_CHW=np.zeros((3, 8, 9), np.bool_))
    steps.index("1.1")
    steps.scoring.record_scored(steps.claim_to_score(), expected, steps.policy)
    [stored] = steps.reporting.predictions(steps.reporting.open_revision("1.1", "digest"))
    _assert_equal(expected, stored.prediction)


def test_numbers_of_the_network_need_not_be_python_floats(steps: Steps) -> None:
    """A probability that is still a numpy float32 is kept to its last bit."""
    probability = np.float32(0.1)
    expected = prediction(findings=(finding("Mass", probability),), locations={"left": probability})  # type: ignore[arg-type]
    steps.index("1.1")
    steps.scoring.record_scored(steps.claim_to_score(), expected, steps.policy)
    [stored] = steps.reporting.predictions(steps.reporting.open_revision("1.1", "digest"))
    _assert_equal(expected, stored.prediction)


def test_number_that_is_no_probability_is_refused(steps: Steps) -> None:
    """The database itself says no, the claim stands, and the study keeps its place."""
    steps.index("1.1")
    claim = steps.claim_to_score()
    for wrong in (float("nan"), 1.5):
        with pytest.raises(StorageError):
            steps.scoring.record_scored(claim, prediction(abnormal_probability=wrong), steps.policy)
    steps.scoring.record_scored(claim, prediction(), steps.policy)
    assert steps.listed("1.1").images[InstanceState.SCORED] == 1


def test_stale_attempt_records_nothing(steps: Steps) -> None:
    """A worker whose lease ran out comes too late with each of its answers; the second attempt's is kept."""
    steps.index("1.1")
    late = steps.claim_to_score()
    steps.clock.move(LEASE)
    assert steps.scoring.release_leases(lambda _: True, steps.clock()) == 1
    current = steps.claim_to_score()
    too_late: list[Callable[[], None]] = [
        lambda: steps.scoring.record_scored(late, prediction(findings=(finding("Hernia"),)), steps.policy),
        lambda: steps.scoring.record_unsuitable(late, REFUSAL),
        lambda: steps.scoring.record_failure(late, error_class="x", explanation="x", retry_at=None),
        lambda: steps.scoring.record_indexed(late, instance_header(), steps.policy),
    ]
    for record in too_late:
        with pytest.raises(StaleAttemptError):
            record()
    assert steps.scoring.extend([late, current]) == [current]
    steps.scoring.record_scored(current, prediction(findings=(finding("Mass"),)), steps.policy)
    assert "Mass" in steps.listed("1.1").priority.reason
    with pytest.raises(StaleAttemptError):
        steps.scoring.record_scored(current, prediction(), steps.policy)


def test_attempt_that_was_given_back_is_stale_before_another_begins(steps: Steps) -> None:
    """The number alone does not make an attempt the owner."""
    steps.index("1.1")
    claim = steps.claim_to_score()
    steps.scoring.release_leases(lambda _: False, steps.clock())
    with pytest.raises(StaleAttemptError):
        steps.scoring.record_scored(claim, prediction(), steps.policy)


def test_jobs_of_a_dead_owner_are_free_at_once(steps: Steps) -> None:
    """Long before their lease runs out; those of the living stay."""
    for _ in range(2):
        steps.receive()
    [of_the_dead] = steps.scoring.claim_to_index("dead", 1)
    [of_the_living] = steps.scoring.claim_to_index("living", 1)
    assert steps.scoring.release_leases(lambda owner: owner == "living", steps.clock()) == 1
    [again] = steps.scoring.claim_to_index("other", 10)
    assert (of_the_dead.instance_id, 2, 0) == (again.instance_id, again.attempt, again.failures)
    assert steps.scoring.extend([of_the_living]) == [of_the_living]


def test_extended_lease_is_kept(steps: Steps) -> None:
    """A worker that is slow and says so keeps its job."""
    steps.receive()
    claim = steps.claim_to_index()
    steps.clock.move(LEASE / 2)
    steps.scoring.extend([claim])
    steps.clock.move(LEASE / 2)
    assert steps.scoring.release_leases(lambda _: True, steps.clock()) == 0


def test_failure_is_tried_again_when_its_time_has_come(steps: Steps) -> None:
    """Not before; and the next attempt knows how many failed."""
    steps.index("1.1")
    retry_at = steps.clock() + timedelta(seconds=30)
    claim = steps.claim_to_score()
    steps.scoring.record_failure(claim, error_class="Crash", explanation="The decoder died.", retry_at=retry_at)
    assert steps.scoring.claim_to_score(OWNER) is None
    steps.clock.move(timedelta(seconds=30))
    again = steps.claim_to_score()
    assert (claim.attempt + 1, 1) == (again.attempt, again.failures)


def test_attempt_that_the_machine_ended_does_not_count(steps: Steps) -> None:
    """The image is there again at the time that was set, as fresh as before, and says why it waits."""
    steps.receive()
    claim = steps.claim_to_index()
    retry_at = steps.clock() + timedelta(seconds=10)
    steps.scoring.put_back(claim, error_class="OSError", explanation="The disk is full.", retry_at=retry_at)
    assert steps.scoring.claim_to_index(OWNER, 1) == []
    with pytest.raises(StaleAttemptError):
        steps.scoring.put_back(claim, error_class="OSError", explanation="The disk is full.", retry_at=retry_at)
    steps.clock.move(timedelta(seconds=10))
    again = steps.claim_to_index()
    assert (again.failures, again.lost, again.attempt) == (0, 0, claim.attempt + 1)


def test_what_an_owner_does_not_know_of_is_given_back(steps: Steps) -> None:
    """The answer to its claim got lost: nobody would work on it until the lease runs out."""
    for _ in range(3):
        steps.receive()
    (known, forgotten) = steps.scoring.claim_to_index(OWNER, 2)
    (other,) = steps.scoring.claim_to_index("infer-2-host-2", 1)
    assert steps.scoring.give_back_forgotten(OWNER, [known]) == 1
    (again,) = steps.scoring.claim_to_index(OWNER, 9)
    assert (again.sop_instance_uid, again.lost) == (forgotten.sop_instance_uid, 0)
    assert steps.scoring.extend([known, other]) == [known, other]


def test_attempts_without_an_outcome_are_counted_per_step(steps: Steps) -> None:
    """Those that were given back; an outcome, or a person who has the image tried again, begins anew."""
    image = steps.receive()
    steps.claim_to_index()
    assert steps.scoring.release_leases(lambda _owner: False, steps.clock()) == 1
    claim = steps.claim_to_index()
    assert (claim.attempt, claim.lost) == (2, 1)
    steps.scoring.record_failure(claim, error_class="lost", explanation="", retry_at=None)
    steps.scoring.replay(image.sop_instance_uid)
    again = steps.claim_to_index()
    assert (again.attempt, again.failures, again.lost) == (3, 0, 0)


def test_failure_for_good_is_set_aside_and_can_be_replayed(steps: Steps) -> None:
    """It is shown with its reason, never dropped; a replay begins where it stopped."""
    steps.index("1.1")
    claim = steps.claim_to_score()
    steps.scoring.record_failure(claim, error_class="Crash", explanation="The decoder died.", retry_at=None)
    assert steps.scoring.claim_to_score(OWNER) is None
    [aside] = steps.housekeeping.set_aside()
    assert (aside.state, aside.reason, aside.explanation) == (InstanceState.FAILED, "Crash", "The decoder died.")
    assert steps.scoring.replay(claim.sop_instance_uid, actor="engineer") == 1
    assert steps.scoring.replay(claim.sop_instance_uid, actor="engineer") == 0
    again = steps.claim_to_score()
    assert (again.study_instance_uid, again.failures) == ("1.1", 0)
    steps.scoring.record_scored(again, prediction(), steps.policy)
    assert steps.housekeeping.set_aside() == []


def test_failure_to_index_is_replayed_from_the_start(steps: Steps) -> None:
    """It has no study yet."""
    image = steps.receive()
    steps.scoring.record_failure(steps.claim_to_index(), error_class="Crash", explanation="Crashed.", retry_at=None)
    steps.scoring.replay(image.sop_instance_uid, actor="engineer")
    assert steps.claim_to_index().failures == 0


def test_unsuitable_image_says_why_and_moves_nothing(steps: Steps) -> None:
    """Before or after indexing, by the header's gate or by a prediction that refuses."""
    steps.receive()
    steps.scoring.record_unsuitable(steps.claim_to_index(), REFUSAL)
    for study in ("1.1", "1.2"):
        steps.index(study)
    steps.scoring.record_unsuitable(steps.claim_to_score(), REFUSAL)
    steps.scoring.record_scored(steps.claim_to_score(), prediction(refusal=REFUSAL), steps.policy)
    aside = [(each.study_instance_uid, each.reason, each.state) for each in steps.housekeeping.set_aside()]
    assert aside == [(uid, "not_frontal", InstanceState.UNSUITABLE) for uid in ("1.2", "1.1", None)]
    for study in ("1.1", "1.2"):
        listed = steps.listed(study)
        assert listed.priority == listed.priority_without_findings
    assert steps.reporting.studies_to_report(10) == []


def test_header_comes_back(steps: Steps) -> None:
    """As it was read, apart from what no database can hold."""
    header = instance_header(patient_name="Müller^Jörg=山田", study_description="a\x00b")
    steps.receive()
    steps.scoring.record_indexed(steps.claim_to_index(), header, steps.policy)
    expected = replace(header, study_description="ab")
    assert expected == steps.reporting.header(header.study_instance_uid)
    assert expected == steps.listed(header.study_instance_uid).header


def _assert_equal(expected: Prediction, actual: Prediction) -> None:
    for field in fields(Prediction):
        first, second = getattr(expected, field.name), getattr(actual, field.name)
        if field.name == "regions":
            assert set(first) == set(second)
            for label, region_HW in first.items():
                np.testing.assert_array_equal(region_HW, second[label], strict=True)
        elif isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second, strict=True)
        else:
            assert first == second
