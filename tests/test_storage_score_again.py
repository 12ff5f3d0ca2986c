"""Other weights: what waits for a reader is scored again, once, after all else; the former result is superseded."""

from datetime import timedelta

import pytest

from builders import finding, instance_header, prediction
from cxr_triage.model.errors import StaleAttemptError
from cxr_triage.model.prediction import BundleIdentity, Prediction, Refusal
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.result_records import ObjectKind
from cxr_triage.storage.schema import ObjectRow
from steps import OWNER, Steps

SECOND = BundleIdentity(name="second", version="2.0.0", sha256="cd" * 32)


def by_second(*findings: object) -> Prediction:
    """Give what the other weights say."""
    return prediction(bundle=SECOND, findings=findings)


def test_waiting_studies_are_scored_again_by_other_weights(steps: Steps) -> None:
    """Those of a study that was read, is being read or was scored by these weights are left alone."""
    waiting = steps.score("1.1", finding())
    for study in ("1.2", "1.3"):
        steps.score(study, finding())
    steps.index("1.4")
    steps.scoring.record_scored(steps.claim_to_score(), by_second(), steps.policy)
    steps.reading_list.claim("1.2", by="WS1", actor="WS1")
    steps.reading_list.finish("1.3", actor="WS1")
    assert [steps.scoring.score_again(SECOND.sha256) for _ in range(2)] == [1, 0]
    assert steps.claim_to_score().sop_instance_uid == waiting.sop_instance_uid
    assert steps.scoring.claim_to_score(OWNER) is None


def test_the_former_result_counts_until_there_is_another(steps: Steps) -> None:
    """The study keeps its place meanwhile, then it moves, and the change is told."""
    steps.score("1.1", finding("Pneumothorax", 0.9))
    steps.report("1.1")
    steps.scoring.score_again(SECOND.sha256)
    assert steps.listed("1.1").priority.effective is Level.HIGH
    steps.scoring.record_scored(steps.claim_to_score(), by_second(finding("Pneumothorax", 0.1)), steps.policy)
    assert (steps.listed("1.1").priority.effective, steps.listed("1.1").images[InstanceState.SCORED]) == (
        Level.ROUTINE,
        1,
    )
    told = [(entry.event, entry.detail) for entry in steps.reading_list.history("1.1")]
    assert [event for event, _ in told][-3:] == ["to_score_again", "scored", "prioritised"]
    assert told[-2][1] == "second 2.0.0"


def test_new_images_come_first(steps: Steps) -> None:
    """Also those of a study that was ordered less urgently."""
    steps.reading_list.set_ordered("1.1", Level.STAT, actor="RIS", policy=steps.policy)
    steps.score("1.1", finding())
    steps.scoring.score_again(SECOND.sha256)
    steps.index("1.2")
    assert [steps.claim_to_score().study_instance_uid for _ in range(2)] == ["1.2", "1.1"]


def test_another_result_is_another_revision_with_objects_of_its_own(database: Database, steps: Steps) -> None:
    """It names the former SR as its predecessor, and uses none of the former drawings again."""
    steps.score("1.1", finding())
    first, objects = steps.report("1.1")
    steps.scoring.score_again(SECOND.sha256)
    assert steps.reporting.studies_to_report(9) == []
    steps.scoring.record_scored(steps.claim_to_score(), by_second(finding()), steps.policy)
    assert steps.reporting.studies_to_report(9) == ["1.1"]
    assert steps.reporting.reported_of_images("1.1") == []
    second, made = steps.report("1.1")
    [report] = [each for each in objects if each.kind is ObjectKind.SR]
    [[predecessor]] = second.predecessors.values()
    assert (first.number, second.number, predecessor.sop_instance_uid) == (1, 2, report.sop_instance_uid)
    [stored] = steps.reporting.predictions(second)
    assert (stored.version, stored.prediction.bundle) == (2, SECOND)
    assert not {each.sop_instance_uid for each in objects} & {each.sop_instance_uid for each in made}
    with database.read() as session:
        rejected = {row.sop_instance_uid: row.rejected for row in session.query(ObjectRow)}
    assert [bool(rejected[each.sop_instance_uid]) for each in objects if each.kind is ObjectKind.SEG] == [True]
    assert [bool(rejected[each.sop_instance_uid]) for each in made] == [False, False]
    assert steps.reporting.studies_to_report(9) == []


@pytest.mark.parametrize("outcome", ["refused", "scored"])
def test_a_report_between_two_images_speaks_of_both(steps: Steps, outcome: str) -> None:
    """The one that was not scored again yet counts with its former result, in the report as in the list."""
    first, second = (steps.score("1.1", finding("Pneumothorax", 0.9)) for _ in range(2))
    steps.report("1.1")
    steps.scoring.score_again(SECOND.sha256)
    steps.scoring.record_scored(steps.claim_to_score(), by_second(finding("Pneumothorax", 0.1)), steps.policy)
    between, _ = steps.report("1.1")
    assert {each.sop_instance_uid: each.prediction.bundle.name for each in steps.reporting.predictions(between)} == {
        first.sop_instance_uid: "second",
        second.sop_instance_uid: prediction().bundle.name,
    }
    assert steps.listed("1.1").priority.effective is Level.HIGH
    claim = steps.claim_to_score()
    if outcome == "refused":
        steps.scoring.record_unsuitable(claim, Refusal(reason="not_frontal", explanation="It is lateral."))
        assert steps.reporting.studies_to_report(9) == []
        return
    steps.scoring.record_scored(claim, by_second(), steps.policy)
    last, _ = steps.report("1.1")
    assert [each.prediction.bundle for each in steps.reporting.predictions(last)] == [SECOND, SECOND]


def test_a_result_that_was_never_reported_is_reported_first(steps: Steps) -> None:
    """Other weights keep no report waiting, and an image that waits for them does not count as unread."""
    steps.score("1.1", finding())
    steps.scoring.score_again(SECOND.sha256)
    assert steps.reporting.studies_to_report(9) == ["1.1"]
    steps.report("1.1")
    assert Housekeeping(steps.database).counts().oldest_unscored_at is None


def test_more_than_one_batch_is_scored_again(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole list is never locked at once."""
    for study in range(3):
        steps.score(f"1.{study + 1}", finding())
    monkeypatch.setattr("cxr_triage.storage.ledger.scoring.BATCH", 2)
    assert steps.scoring.score_again(SECOND.sha256) == 3
    for _ in range(3):
        steps.scoring.record_scored(steps.claim_to_score(), by_second(), steps.policy)
    assert steps.scoring.claim_to_score(OWNER) is None


def test_an_image_whose_file_is_gone_is_not_scored_again(steps: Steps, database: Database) -> None:
    """It was removed after its time, while the image waited."""
    steps.score("1.1", finding())
    steps.scoring.score_again(SECOND.sha256)
    with database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE instance SET owns_file = false")
    assert steps.scoring.claim_to_score(OWNER) is None


def test_a_revision_that_is_being_made_is_begun_again(steps: Steps) -> None:
    """Its drawings are those of the former result: nothing of it is recorded."""
    steps.score("1.1", finding())
    opened = steps.reporting.open_revision("1.1", "digest")
    steps.scoring.score_again(SECOND.sha256)
    steps.scoring.record_scored(steps.claim_to_score(), by_second(), steps.policy)
    with pytest.raises(StaleAttemptError):
        steps.reporting.complete_revision(opened, [], [])
    assert steps.reporting.studies_to_report(9) == ["1.1"]
    assert steps.reporting.open_revision("1.1", "digest").number == 2


@pytest.mark.parametrize("outcome", ["refused", "failed"])
def test_where_other_weights_come_to_no_result_the_former_stands(steps: Steps, outcome: str) -> None:
    """A study does not lose what was found because of them; the history says so."""
    image = steps.score("1.1", finding("Pneumothorax", 0.9))
    steps.report("1.1")
    steps.scoring.score_again(SECOND.sha256)
    claim = steps.claim_to_score()
    if outcome == "refused":
        steps.scoring.record_unsuitable(claim, Refusal(reason="not_frontal", explanation="It is lateral."))
    else:
        steps.scoring.record_failure(claim, error_class="crash", explanation="It crashed.", retry_at=None)
    assert steps.listed("1.1").priority.effective is Level.HIGH
    assert steps.listed("1.1").images[InstanceState.SCORED] == 1
    assert steps.reporting.studies_to_report(9) == []
    kept = [entry for entry in steps.reading_list.history("1.1") if entry.event == "result_kept"]
    assert [(entry.sop_instance_uid, entry.detail) for entry in kept] == [
        (image.sop_instance_uid, {"refused": "not_frontal", "failed": "crash"}[outcome])
    ]


def test_a_withdrawn_result_stays_withdrawn(steps: Steps, database: Database) -> None:
    """Other weights bring nothing back that a person took back; what was not scored has no result to replace."""
    steps.score("1.1", finding())
    with database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE instance SET withdrawn = true")
    steps.clock.move(timedelta(seconds=1))
    steps.receive()
    steps.scoring.record_indexed(steps.claim_to_index(), instance_header(study_instance_uid="1.2"), steps.policy)
    assert steps.scoring.score_again(SECOND.sha256) == 0
