"""The report role: scored studies become files in the outbox and rows in the ledger."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from structlog.testing import capture_logs

import builders
from cxr_triage.daemon.adoption import Adoption
from cxr_triage.daemon.leftovers import Leftovers
from cxr_triage.daemon.report import ReportRole
from cxr_triage.daemon.results.picture import Picture
from cxr_triage.daemon.results.profiles import FLOOR, WEASIS
from cxr_triage.daemon.setbacks import Backoff
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import StaleAttemptError, StorageError, UnavailableError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import InstanceState, Receipt
from cxr_triage.storage.ledger.dispatch import Dispatch
from cxr_triage.storage.ledger.housekeeping import Housekeeping
from cxr_triage.storage.ledger.intake import Intake
from cxr_triage.storage.ledger.reading_list import ReadingList
from cxr_triage.storage.ledger.reporting import Reporting
from cxr_triage.storage.result_records import ObjectKind, ResultObject, Revision
from sites import POLICY, Site, data_set_at, stored_file

YEAR = timedelta(days=365)
PATIENT = ("Muster", "PAT-0001", "19640812", "ACC-0001", "Thorax")


@pytest.fixture
def site(tmp_path: Path, database: Database) -> Site:
    """Give an empty site, once per kind of database."""
    return Site(tmp_path, database)


def _kinds(made: Sequence[ResultObject]) -> list[ObjectKind]:
    return sorted(each.kind for each in made)


def test_a_scored_study_becomes_a_seg_and_an_sr(site: Site) -> None:
    """Files and rows agree, and nothing is left to do."""
    study = site.score(PatientName="Müller^Jürgen")
    assert site.reporter("air").report_pending() == 1
    assert site.reporting.studies_to_report(10) == []
    made = site.reporting.objects()
    assert _kinds(made) == [ObjectKind.SEG, ObjectKind.SR]
    for each in made:
        dataset = dcmread(site.outbox.absolute(each.path))
        assert (study, each.sop_instance_uid) == (dataset.StudyInstanceUID, dataset.SOPInstanceUID)
        assert str(dataset.PatientName) == "Müller^Jürgen"
    assert site.reporter("air").report_pending() == 0
    assert len(site.files()) == 2


def test_the_digest_is_that_of_the_data_set(site: Site) -> None:
    """The ledger's SHA-256 is over what follows the file meta information, as for received images."""
    site.score()
    site.reporter("air").report_pending()
    for each in site.reporting.objects():
        content = site.outbox.absolute(each.path).read_bytes()
        assert hashlib.sha256(content[data_set_at(content) :]).hexdigest() == each.sha256


def test_a_later_image_makes_a_revision_that_supersedes(site: Site) -> None:
    """It cites the first image's SEG instead of making it again, and names its predecessor."""
    study = site.score()
    reporter = site.reporter("air")
    reporter.report_pending()
    first = {each.kind: each for each in site.reporting.objects()}
    site.score(StudyInstanceUID=study)
    assert reporter.report_pending() == 1
    made = site.reporting.objects()
    assert _kinds(made) == [ObjectKind.SEG, ObjectKind.SEG, ObjectKind.SR, ObjectKind.SR]
    later = dcmread(site.outbox.absolute(made[-1].path))
    predecessor = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert predecessor.ReferencedSOPInstanceUID == first[ObjectKind.SR].sop_instance_uid
    assert first[ObjectKind.SEG].sop_instance_uid in str(later.CurrentRequestedProcedureEvidenceSequence)


def test_a_report_names_the_predecessor_of_its_own_profile(site: Site) -> None:
    """A destination was never sent those of another profile."""
    study = site.score()
    reporter = site.reporter("air", "stone")
    reporter.report_pending()
    site.score(StudyInstanceUID=study)
    reporter.report_pending()
    reports = [each for each in site.reporting.objects() if each.kind is ObjectKind.SR]
    for profile in ("air", "stone"):
        first, second = (each for each in reports if each.profile == profile)
        (study_item,) = dcmread(site.outbox.absolute(second.path)).PredecessorDocumentsSequence
        (series,) = study_item.ReferencedSeriesSequence
        assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.sop_instance_uid


def test_each_profile_in_use_gets_its_objects(site: Site) -> None:
    """Two kinds of viewer, two SEGs and two SRs; without any destination, one of each all the same."""
    site.score()
    site.reporter("air", "ohif").report_pending()
    assert sorted(each.profile for each in site.reporting.objects()) == ["air", "air", "ohif", "ohif"]
    site.score()
    site.reporter().report_pending()
    assert len(site.files()) == 6


def test_what_is_about_an_image_serves_later_revisions(site: Site) -> None:
    """Of each image one SEG, one presentation state, one picture; documents are new each time."""
    study = site.score()
    reporter = site.reporter("weasis", "floor")
    reporter.report_pending()
    assert _kinds(site.reporting.objects()) == sorted([*WEASIS.objects, *FLOOR.objects])
    site.score(StudyInstanceUID=study)
    reporter.report_pending()
    made = Counter(each.kind for each in site.reporting.objects())
    assert made == {ObjectKind.SEG: 2, ObjectKind.PR: 2, ObjectKind.SC: 2, ObjectKind.SR: 4, ObjectKind.KO: 2}
    *_, latest = (each for each in site.reporting.objects() if (each.kind, each.profile) == (ObjectKind.SR, "floor"))
    cited = str(dcmread(site.outbox.absolute(latest.path)).CurrentRequestedProcedureEvidenceSequence)
    assert all(each.sop_instance_uid in cited for each in site.reporting.objects() if each.kind is ObjectKind.SC)


def test_a_study_waits_while_its_pixels_cannot_be_read(site: Site) -> None:
    """Nothing is recorded by halves; once they can be read, all is made."""
    site.score()
    reporter = site.reporter("floor", read_picture=_unreadable)
    assert (reporter.report_pending(), site.reporting.objects()) == (0, [])
    assert list(reporter.failing.values()) == [1]
    assert site.reporter("floor").report_pending() == 1
    assert _kinds(site.reporting.objects()) == sorted(FLOOR.objects)


def _unreadable(_: Path) -> Picture:
    raise UnavailableError("Nothing can be drawn on the image: the disk is away")


def test_a_study_that_cannot_be_reported_does_not_stop_the_others(site: Site) -> None:
    """It is logged with its error's class, waits longer each time, and is reported once that is possible."""
    bad = site.score(mask_rows=97)
    reporter = site.reporter("air")
    good = site.score()
    with capture_logs() as lines:
        assert reporter.report_pending() == 1
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (bad, "ResultError", 1, 5.0) == (
        line["study_instance_uid"],
        line["error_class"],
        line["failures"],
        line["retry_in_seconds"],
    )
    assert not any(word in repr(lines) for word in PATIENT)
    assert good != bad
    assert reporter.failing == {bad: 1}
    reporter.report_pending()
    assert reporter.failing == {bad: 1}
    for failures, wait in ((2, 5), (3, 10), (4, 15), (5, 15)):
        site.clock.now += timedelta(seconds=wait)
        reporter.report_pending()
        assert reporter.failing == {bad: failures}
    assert site.reporting.studies_to_report(10) == [bad]


def test_a_source_that_an_operator_puts_back_is_reported_without_anyones_doing(site: Site) -> None:
    """The image had failed, and upkeep adopts its file."""
    site.score()
    (image,) = site.inbox.absolute(Path()).rglob("*.dcm")
    image.rename(image.with_suffix(".away"))
    reporter = site.reporter("air")
    assert reporter.report_pending() == 0
    image.with_suffix(".away").rename(image)
    housekeeping = Housekeeping(site.database)
    adoption = Adoption(
        inbox=site.inbox, intake=Intake(site.database), housekeeping=housekeeping, on_adopted=lambda: None
    )
    Leftovers("inbox", site.inbox, housekeeping, put_away=adoption.adopt, settle_seconds=0).look()
    assert reporter.report_pending() == 1


class _RefusesOnce(Reporting):
    """A ledger whose database is away when the first revision is to be recorded."""

    refused = False

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Refuse, but only once."""
        if not self.refused:
            self.refused = True
            self.offered = objects
            raise StorageError("the database is away: start it")
        super().complete_revision(revision, objects, destinations)


def test_what_is_not_recorded_is_made_again_alike(site: Site) -> None:
    """Same rows, same UIDs, same bytes."""
    site.score()
    reporting = _RefusesOnce(site.database)
    reporter = site.reporter("air", reporting=reporting)
    reporter.report_pending()
    site.clock.now += timedelta(seconds=5)
    reporter.report_pending()
    made = [(each.sop_instance_uid, each.sha256) for each in site.reporting.objects()]
    assert made == [(each.sop_instance_uid, each.sha256) for each in reporting.offered]


class _LosesTheAnswer(Reporting):
    """A ledger whose database goes away between the commit and its answer."""

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Record, and say that it failed."""
        super().complete_revision(revision, objects, destinations)
        raise StorageError("the connection was lost: start the database")


def test_files_stay_when_the_answer_to_the_commit_got_lost(site: Site) -> None:
    """The ledger owns them: to remove them would lose results that are due at a destination."""
    site.score()
    site.reporter("air", reporting=_LosesTheAnswer(site.database)).report_pending()
    made = site.reporting.objects()
    assert _kinds(made) == [ObjectKind.SEG, ObjectKind.SR]
    assert sorted(site.outbox.absolute(each.path) for each in made) == site.files()


class _Overtaken(Reporting):
    """A ledger in which a later revision always took over."""

    def complete_revision(
        self, revision: Revision, objects: Sequence[ResultObject], destinations: Sequence[tuple[str, str]]
    ) -> None:
        """Record nothing."""
        del revision, objects, destinations
        raise StaleAttemptError("a later revision took over")


def test_what_the_ledger_does_not_take_leaves_no_file(site: Site) -> None:
    """It said that nothing is recorded."""
    site.score()
    site.reporter("air", reporting=_Overtaken(site.database)).report_pending()
    assert site.files() == []


def test_an_image_whose_file_was_removed_after_its_time_hinders_no_later_revision(site: Site) -> None:
    """A study that comes back after the retention is reported by what is still there."""
    study = site.score()
    site.reporter("air").report_pending()
    dispatch = Dispatch(site.database, lease=timedelta(minutes=5))
    while due := dispatch.claim("deliver-test", "pacs-air", 9):
        for delivery in due:
            dispatch.record_stored(delivery)
    ReadingList(site.database).finish(study, actor="reader")
    housekeeping = Housekeeping(site.database)
    images = [file for file in housekeeping.forgettable_files(builders.MORNING + YEAR) if file.place == "inbox"]
    for file in images:
        site.inbox.discard(file.path)
    housekeeping.record_forgotten(images)
    site.score(StudyInstanceUID=study)
    reporter = site.reporter("air")
    assert (len(images), reporter.report_pending(), reporter.failing) == (1, 1, {})
    assert site.reporting.studies_to_report(10) == []


def test_an_image_whose_file_is_lost_does_not_keep_its_study_from_its_report(site: Site) -> None:
    """It ends as failed, keeps the study's place on the list, and is reported when it was sent again."""
    study = site.score(SOPInstanceUID="1.2.1")
    site.score(SOPInstanceUID="1.2.2", StudyInstanceUID=study)
    [lost] = (site.inbox.absolute(Path())).rglob("1.2.1-*")
    content = lost.read_bytes()
    lost.unlink()
    utility = _utility(site)
    reporter = site.reporter("air")
    assert [reporter.report_pending(), reporter.report_pending(), reporter.report_pending()] == [0, 1, 0]
    [aside] = Housekeeping(site.database).set_aside()
    assert (aside.sop_instance_uid, aside.state, aside.reason) == ("1.2.1", InstanceState.FAILED, "missing")
    assert [each.source_sop_instance_uid for each in site.reporting.objects()] == ["1.2.2", ""]
    assert utility == _utility(site) > 0
    file = stored_file(site.inbox, content, "1.2.1")
    again = builders.received_instance(sop_instance_uid="1.2.1", path=file.path, sha256=file.sha256)
    assert Intake(site.database).record_received(again) is Receipt.NEW
    assert reporter.report_pending() == 1
    assert {each.source_sop_instance_uid for each in site.reporting.objects()} == {"1.2.1", "1.2.2", ""}


def test_no_image_fails_because_the_inbox_is_not_mounted(site: Site) -> None:
    """The files come back with the disk."""
    site.score()
    inbox = site.inbox.absolute(Path())
    away = inbox.rename(inbox.with_name("away"))
    inbox.mkdir()
    reporter = site.reporter("air")
    assert reporter.report_pending() == 0
    assert Housekeeping(site.database).set_aside() == []
    inbox.rmdir()
    away.rename(inbox)
    site.clock.now += timedelta(minutes=1)
    assert reporter.report_pending() == 1


def _utility(site: Site) -> float:
    """Where the one study is on the list, computed anew."""
    reading_list = ReadingList(site.database)
    reading_list.reprioritise(POLICY)
    [listed] = reading_list.studies()
    return listed.priority.utility


def test_stopping_leaves_the_rest_for_later(site: Site) -> None:
    """The study in work is finished, the next is not begun."""
    site.score()
    site.score()
    answers = iter([False, True])
    assert site.reporter("air").report_pending(lambda: next(answers)) == 1
    assert len(site.reporting.studies_to_report(10)) == 1


def test_the_role_reports_until_it_is_stopped(tmp_path: Path, sqlite_url: str) -> None:
    """With real settings, in a thread, woken by its bell; what is drawn on is read by a child."""
    settings = Settings.model_validate(
        {
            "storage": {"root": tmp_path, "database": sqlite_url},
            "report": {"poll_seconds": 0.2},
            "destination": [
                {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242, "profile": "weasis"}
            ],
        }
    )
    database = open_database(sqlite_url)
    site = Site(tmp_path, database)
    stop, ready = threading.Event(), threading.Event()
    role = threading.Thread(target=ReportRole(settings).run, args=(stop, ready.set))
    role.start()
    try:
        assert ready.wait(60)
        site.score()
        ring(settings.run_folder, "report")
        deadline = time.monotonic() + 60
        while not site.reporting.objects() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert _kinds(site.reporting.objects()) == sorted(WEASIS.objects)
    finally:
        stop.set()
        role.join(60)
        database.close()
    assert not role.is_alive()


def test_the_wait_doubles_up_to_its_longest() -> None:
    """Also after very many failures."""
    backoff = Backoff()
    assert [backoff.wait(n).total_seconds() for n in (1, 2, 3, 8, 10_000)] == [5, 10, 20, 600, 600]
    assert np.isfinite(backoff.wait(10_000).total_seconds())
