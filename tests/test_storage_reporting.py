"""Revisions: the same images give the same one, later images another, and each result leaves once."""

from datetime import timedelta
from pathlib import Path

import pytest

from builders import finding, prediction, received_instance, result_object
from cxr_triage.model.errors import ResultError, StaleAttemptError, StorageError
from cxr_triage.model.prediction import BundleIdentity, Refusal
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Completeness, Reporting
from cxr_triage.storage.result_records import ObjectKind, RevisionState
from cxr_triage.storage.upkeep_records import OwnedFile
from steps import Steps


def test_study_is_to_report_when_all_its_images_are_scored(steps: Steps) -> None:
    """Not while an indexed image waits; a failed one does not hold the others up."""
    steps.score("1.1")
    steps.index("1.1")
    assert steps.reporting.studies_to_report(10) == []
    steps.scoring.record_failure(steps.claim_to_score(), error_class="x", explanation="x", retry_at=None)
    assert steps.reporting.studies_to_report(10) == ["1.1"]


@pytest.fixture
def patient(database: Database, steps: Steps) -> Reporting:
    """Give the ledger of a report role that waits for more images."""
    completeness = Completeness(quiet=timedelta(seconds=10), force=timedelta(minutes=5))
    return Reporting(database, completeness=completeness, clock=steps.clock)


def test_a_study_is_complete_when_it_has_been_quiet(steps: Steps, patient: Reporting) -> None:
    """Each further image of it begins the wait anew; its place on the list does not wait."""
    steps.score("1.1", finding())
    assert (patient.studies_to_report(9), steps.listed("1.1").priority.effective) == ([], Level.HIGH)
    steps.clock.move(timedelta(seconds=9))
    steps.score("1.1")
    steps.clock.move(timedelta(seconds=9))
    assert patient.studies_to_report(9) == []
    steps.clock.move(timedelta(seconds=1))
    assert patient.studies_to_report(9) == ["1.1"]


def test_an_unsuitable_image_holds_no_study_back(steps: Steps, patient: Reporting) -> None:
    """A lateral one that comes last is set aside, and is waited for no longer."""
    steps.score("1.1")
    steps.clock.move(timedelta(seconds=10))
    steps.index("1.1")
    assert patient.studies_to_report(9) == []
    steps.scoring.record_unsuitable(steps.claim_to_score(), Refusal(reason="view", explanation="It is a lateral view."))
    assert patient.studies_to_report(9) == ["1.1"]


def test_a_scored_image_does_not_wait_for_the_others_for_ever(steps: Steps, patient: Reporting) -> None:
    """After the longest wait it is reported without them; they make a revision of it."""
    first = steps.score("1.1", finding())
    steps.index("1.1")
    steps.clock.move(timedelta(minutes=5) - timedelta(seconds=1))
    assert patient.studies_to_report(9) == []
    steps.clock.move(timedelta(seconds=1))
    assert patient.studies_to_report(9) == ["1.1"]
    revision, _ = steps.report("1.1")
    assert [image.sop_instance_uid for image in steps.reporting.predictions(revision)] == [first.sop_instance_uid]
    assert patient.studies_to_report(9) == []
    steps.scoring.record_scored(steps.claim_to_score(), prediction(findings=()), steps.policy)
    assert patient.studies_to_report(9) == ["1.1"]
    again, _ = steps.report("1.1")
    assert (again.number, len(steps.reporting.predictions(again))) == (2, 2)
    assert again.predecessors


def test_reported_study_is_not_reported_again_until_something_is_new(steps: Steps) -> None:
    """A further image makes it due again."""
    steps.score("1.1")
    steps.report("1.1")
    assert steps.reporting.studies_to_report(10) == []
    steps.score("1.1")
    assert steps.reporting.studies_to_report(10) == ["1.1"]


def test_same_images_give_the_same_revision(steps: Steps) -> None:
    """Opened again after a crash, and after it was reported: nothing is new but the time that passed."""
    steps.score("1.1")
    opened = steps.reporting.open_revision("1.1", "digest")
    assert opened.priority_reason == steps.listed("1.1").priority.reason
    steps.clock.move(timedelta(hours=1))
    assert steps.reporting.open_revision("1.1", "digest") == opened
    steps.reporting.complete_revision(opened, [], [])
    assert steps.reporting.open_revision("1.1", "digest") == opened
    assert steps.housekeeping.counts().revisions[RevisionState.REPORTED] == 1


def test_revision_depends_on_images_bundle_and_policy(steps: Steps) -> None:
    """Each of them gives another digest."""
    steps.score("1.1")
    first = steps.reporting.open_revision("1.1", "digest")
    other_policy = steps.reporting.open_revision("1.1", "other")
    steps.score("1.1")
    more_images = steps.reporting.open_revision("1.1", "digest")
    steps.index("1.2")
    bundle = BundleIdentity(name="second", version="2.0.0", sha256="cd" * 32)
    steps.scoring.record_scored(steps.claim_to_score(), prediction(bundle=bundle), steps.policy)
    other_study = steps.reporting.open_revision("1.2", "digest")
    revisions = [first, other_policy, more_images, other_study]
    assert len({revision.digest for revision in revisions}) == 4
    assert [revision.number for revision in revisions] == [1, 2, 3, 1]


def test_study_without_a_result_has_no_revision(steps: Steps) -> None:
    """There is nothing to say about it."""
    steps.index("1.1")
    with pytest.raises(StorageError, match="no scored image"):
        steps.reporting.open_revision("1.1", "digest")
    with pytest.raises(StorageError, match="no indexed image"):
        steps.reporting.header("9.9")


def test_revision_is_about_the_images_it_was_opened_with(steps: Steps) -> None:
    """An image that is scored meanwhile belongs to the next one."""
    first = steps.score("1.1", finding("Mass", 0.9))
    revision = steps.reporting.open_revision("1.1", "digest")
    steps.score("1.1")
    [stored] = steps.reporting.predictions(revision)
    assert (first.sop_instance_uid, first.sha256, first.path) == (stored.sop_instance_uid, stored.sha256, stored.path)
    assert stored.study_instance_uid == "1.1"
    steps.reporting.complete_revision(revision, [], [])
    assert steps.reporting.studies_to_report(10) == ["1.1"]


def test_revision_that_was_overtaken_cannot_be_completed(steps: Steps) -> None:
    """A late reporter leaves nothing behind."""
    steps.score("1.1")
    late = steps.reporting.open_revision("1.1", "digest")
    steps.score("1.1")
    current = steps.reporting.open_revision("1.1", "digest")
    with pytest.raises(StaleAttemptError):
        steps.reporting.complete_revision(late, [result_object(study_instance_uid="1.1")], [("pacs", "air")])
    assert steps.reporting.objects() == []
    steps.reporting.complete_revision(current, [], [])
    assert steps.reporting.studies_to_report(10) == []


def test_revision_is_resumed_when_the_policy_is_changed_back(steps: Steps) -> None:
    """Neither was reported: the first is not lost for having been superseded."""
    steps.score("1.1")
    first = steps.reporting.open_revision("1.1", "one")
    second = steps.reporting.open_revision("1.1", "two")
    assert steps.reporting.open_revision("1.1", "one") == first
    with pytest.raises(StaleAttemptError):
        steps.reporting.complete_revision(second, [], [])
    steps.reporting.complete_revision(first, [], [])
    assert steps.reporting.studies_to_report(10) == []


def test_next_revision_supersedes_the_one_before(steps: Steps) -> None:
    """It names the SR that it replaces, and uses its SEGs again."""
    steps.score("1.1")
    first, [seg, sr] = steps.report("1.1")
    steps.score("1.1")
    second, [same_seg, other_seg, _] = steps.report("1.1")
    assert first.predecessors == {}
    assert second.predecessors[sr.profile] == [
        (sr.sop_class_uid, sr.sop_instance_uid, sr.series_instance_uid, sr.study_instance_uid)
    ]
    assert seg == same_seg != other_seg
    revisions = steps.housekeeping.counts().revisions
    assert (revisions[RevisionState.REPORTED], revisions[RevisionState.SUPERSEDED]) == (1, 1)
    assert len(steps.reporting.objects()) == 4


def test_completing_again_changes_nothing(steps: Steps) -> None:
    """After a crash between the commit and its answer."""
    steps.score("1.1")
    revision, objects = steps.report("1.1")
    before = steps.housekeeping.counts()
    steps.reporting.complete_revision(revision, objects, [("pacs", "air"), ("other", "air")])
    assert steps.housekeeping.counts() == before


def test_each_destination_gets_the_objects_of_its_profile(steps: Steps) -> None:
    """And a SEG that it was given before is not sent again."""
    steps.score("1.1")
    steps.report("1.1", ("pacs", "air"), ("viewer", "ohif"), ("archive", "air"))
    deliveries = steps.housekeeping.counts().deliveries
    assert {name: states[DeliveryState.PENDING] for name, states in deliveries.items()} == {"archive": 2, "pacs": 2}
    steps.score("1.1")
    steps.report("1.1")
    assert steps.housekeeping.counts().deliveries["pacs"][DeliveryState.PENDING] == 4


def test_uid_stands_for_one_content(steps: Steps) -> None:
    """An object that came out differently under the same UID is refused, with the whole revision."""
    steps.score("1.1")
    _, [seg, _] = steps.report("1.1")
    steps.score("1.1")
    revision = steps.reporting.open_revision("1.1", "digest")
    other = result_object(ObjectKind.SEG, study_instance_uid="1.1", sop_instance_uid=seg.sop_instance_uid)
    with pytest.raises(ResultError, match="other bytes"):
        steps.reporting.complete_revision(revision, [other], [("pacs", "air")])
    assert steps.reporting.studies_to_report(10) == ["1.1"]


def test_other_bytes_are_reported_as_a_revision_of_their_own(steps: Steps) -> None:
    """The latest content of a SOP Instance UID counts, and a SEG of the earlier one is not used for it."""
    first = steps.score("1.1", finding("Mass", 0.9))
    steps.report("1.1")
    steps.clock.move(timedelta(seconds=1))
    other = received_instance(sop_instance_uid=first.sop_instance_uid, received_at=steps.clock())
    steps.score("1.1", finding("Hernia", 0.9), image=other)
    assert steps.reporting.studies_to_report(10) == ["1.1"]
    assert steps.reporting.reported_of_images("1.1") == []
    revision, [seg, _] = steps.report("1.1")
    [stored] = steps.reporting.predictions(revision)
    assert (other.sha256, "Hernia") == (stored.sha256, stored.prediction.findings[0].label)
    assert steps.reporting.reported_of_images("1.1") == [seg]
    assert steps.reporting.studies_to_report(10) == []


def test_earlier_content_that_is_scored_late_is_covered_too(steps: Steps) -> None:
    """It counts for nothing but must not keep the study on the reporter's desk."""
    early = steps.index("1.1")
    claim = steps.claim_to_score()
    steps.scoring.record_failure(claim, error_class="x", explanation="x", retry_at=None)
    steps.clock.move(timedelta(seconds=1))
    late = received_instance(sop_instance_uid=early.sop_instance_uid, received_at=steps.clock())
    steps.score("1.1", image=late)
    first, _ = steps.report("1.1")
    steps.scoring.replay(early.sop_instance_uid)
    steps.scoring.record_scored(steps.claim_to_score(), prediction(), steps.policy)
    second, _ = steps.report("1.1")
    assert first.digest != second.digest
    assert [each.sha256 for each in steps.reporting.predictions(second)] == [late.sha256]
    assert steps.reporting.studies_to_report(10) == []


def test_forgotten_seg_is_made_again_under_its_uid(steps: Steps) -> None:
    """Its file is gone, so a later revision writes it anew, and the ledger owns the new file."""
    steps.score("1.1")
    _, [seg, _] = steps.report("1.1", ("nobody", "ohif"))
    forgotten = steps.housekeeping.forgettable_files(steps.clock() + timedelta(days=1))
    steps.housekeeping.record_forgotten([file for file in forgotten if file.place == "outbox"])
    assert steps.reporting.reported_of_images("1.1") == []
    steps.score("1.1")
    revision = steps.reporting.open_revision("1.1", "digest")
    again = result_object(
        ObjectKind.SEG,
        study_instance_uid="1.1",
        source_sop_instance_uid=seg.source_sop_instance_uid,
        sop_instance_uid=seg.sop_instance_uid,
        series_instance_uid=seg.series_instance_uid,
        sha256=seg.sha256,
    )
    steps.reporting.complete_revision(revision, [again], [])
    assert steps.reporting.reported_of_images("1.1") == [again]


def test_most_urgent_study_is_reported_first(steps: Steps) -> None:
    """As ordered; the limit holds."""
    for study in ("1.1", "1.2", "1.3"):
        steps.score(study)
        steps.clock.move(timedelta(seconds=1))
    from_ris = {"1.3": 0, "1.1": 4}
    for study, level in from_ris.items():
        steps.reading_list.set_ordered(
            study, type(steps.listed(study).ordered)(level), actor="RIS", policy=steps.policy
        )
    assert steps.reporting.studies_to_report(2) == ["1.3", "1.2"]


def test_files_of_objects_are_owned(steps: Steps) -> None:
    """What no row owns was left by a crash."""
    steps.score("1.1")
    _, [seg, sr] = steps.report("1.1")
    stray = Path("20240304/stray.dcm")
    assert steps.housekeeping.unowned("outbox", map(str, [seg.path, stray, sr.path])) == [stray]
    assert steps.housekeeping.unowned("inbox", [str(stray)]) == [stray]
    owned = steps.housekeeping.forgettable_files(steps.clock() + timedelta(days=1))
    assert [file for file in owned if isinstance(file, OwnedFile) and file.place == "outbox"] == []
