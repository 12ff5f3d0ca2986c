"""The report role: turns scored studies into finished DICOM objects in the outbox."""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Final

from cxr_triage.daemon.emission import require_fonts
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.pictures import Pictures
from cxr_triage.daemon.rejections import RejectionMaker
from cxr_triage.daemon.results.objects import (
    PICTURED,
    BuiltObject,
    Source,
    build_objects,
    build_withdrawal,
    kinds_to_make,
    reusable,
)
from cxr_triage.daemon.results.profiles import AIR, PROFILES, Profile
from cxr_triage.daemon.roles import DELIVER, REPORT
from cxr_triage.daemon.setbacks import Backoff, Setbacks
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.stand_ins import StandInMaker
from cxr_triage.daemon.wakeup import Doorbell, ring
from cxr_triage.daemon.workbench import Workbench
from cxr_triage.model.errors import ResultError, StaleAttemptError, StorageError, TriageError
from cxr_triage.model.header import quiet_pydicom
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import StoredPrediction
from cxr_triage.storage.inbox import Inbox, Outbox
from cxr_triage.storage.ledger import Completeness, Rejections, Reporting, StandIns, Withdrawals
from cxr_triage.storage.result_records import ResultObject, Revision
from cxr_triage.storage.service_clock import ServiceClock

#: Studies looked at in one go, besides those that wait for another attempt.
BATCH: Final = 20

log = get_logger(__name__)


class Reporter:
    """Makes revisions, one study at a time. A study that cannot be reported waits; the others do not."""

    def __init__(
        self,
        reporting: Reporting,
        *,
        bench: Workbench,
        destinations: Sequence[tuple[str, str]],
        policy_digest: str,
        profiles: Mapping[str, Profile] = PROFILES,
        backoff: Backoff | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Describe the work; nothing starts yet.

        Args:
            reporting: the ledger.
            bench: where images are, and finished objects go.
            destinations: (name, profile) pairs. Without any, objects of profile `air` are made all the same.
            policy_digest: of the policy that the revision is made under.
            profiles: by name.
            backoff: between attempts at a study.
            clock: gives the present.
        """
        self._reporting = reporting
        self._bench = bench
        self._destinations = tuple(destinations)
        self._profiles = [profiles[name] for name in sorted({name for _, name in destinations} or {AIR.name})]
        self._policy_digest = policy_digest
        self._setbacks = Setbacks(backoff or Backoff(), clock)

    @property
    def failing(self) -> dict[str, int]:
        """Studies that could not be reported so far, with the number of failures."""
        return self._setbacks.counts

    def report_pending(self, stop: Callable[[], bool] = lambda: False) -> int:
        """Report every study that is due, until `stop` says so.

        Returns:
            How many studies were reported.

        Raises:
            StorageError: the ledger cannot be read.
        """
        # Those that wait stay in the ledger's list: they must not crowd out the others.
        studies = self._reporting.studies_to_report(BATCH + len(self._setbacks))
        self._setbacks.keep(studies)
        reported = 0
        for study in studies:
            if stop():
                break
            if self._setbacks.is_due(study):
                reported += self._attempt(study)
        return reported

    def report(self, study_instance_uid: str) -> None:
        """Make a study's next revision: build, store durably, record.

        Raises:
            StaleAttemptError: a later revision took over, or files of images were lost: the study is due again.
            TriageError: something that we can name went wrong; nothing is recorded, unless a commit's answer got lost.
            OSError: a source cannot be read.
        """
        withdrawal = self._reporting.open_withdrawal(study_instance_uid)
        if withdrawal is not None:
            self._report_withdrawal(withdrawal)
            return
        revision = self._reporting.open_revision(study_instance_uid, self._policy_digest)
        predictions = self._reporting.predictions(revision)
        self._require_files(predictions)
        made = self._reporting.reported_of_images(study_instance_uid)
        sources = {stored.sop_instance_uid: self._source(stored, made) for stored in predictions}
        kept: list[ResultObject] = []
        built: list[tuple[BuiltObject, Profile]] = []
        for profile in self._profiles:
            kept += reusable(predictions, made, profile)
            with quiet_pydicom():
                objects = build_objects(revision, predictions, sources, profile, made=made)
            built += [(thing, profile) for thing in objects]
        self._record(revision, kept, built)
        log.info("study reported", study_instance_uid=study_instance_uid, revision=revision.number, objects=len(built))

    def _report_withdrawal(self, revision: Revision) -> None:
        """Say that a result is withdrawn, also where its images have left the inbox since."""
        predictions = self._reporting.predictions(revision)
        known = self._reporting.header(revision.study_instance_uid)
        headers = [self._bench.header_or(stored, known) for stored in predictions]
        built: list[tuple[BuiltObject, Profile]] = []
        for profile in self._profiles:
            with quiet_pydicom():
                objects = build_withdrawal(revision, predictions, headers, profile)
            built += [(thing, profile) for thing in objects]
        self._record(revision, [], built)
        log.info("withdrawal reported", study_instance_uid=revision.study_instance_uid, revision=revision.number)

    def _require_files(self, predictions: Sequence[StoredPrediction]) -> None:
        """Go on only with all files there: an image whose file is lost ends as failed, and is left out from then on."""
        lost = [stored for stored in predictions if self._bench.is_gone(stored)]
        for stored in lost:
            self._reporting.record_lost(stored)
            log.error("image lost its file before it was reported", sop_instance_uid=stored.sop_instance_uid)
        if lost:
            raise StaleAttemptError(f"the files of {len(lost)} images are gone")

    def _attempt(self, study: str) -> bool:
        try:
            self.report(study)
        except StaleAttemptError:
            log.info("revision will be made anew", study_instance_uid=study)
        except Exception as error:  # noqa: BLE001 - the last line of defence: one odd source must not stop all reports
            self._setbacks.put_off(study, error, "study not reported, its revision stays open")
        else:
            self._setbacks.forget(study)
            return True
        return False

    def _source(self, stored: StoredPrediction, made: Sequence[ResultObject]) -> Source:
        """Its header, and its pixels where anything is still to be drawn on them."""
        header = self._bench.header(stored)
        kinds = {kind for profile in self._profiles for kind in kinds_to_make(stored, header, profile, made)}
        return self._bench.source(stored, header, pictured=bool(kinds & PICTURED))

    def _record(
        self, revision: Revision, kept: Sequence[ResultObject], built: Iterable[tuple[BuiltObject, Profile]]
    ) -> None:
        """Store first, record second: what the ledger knows is on disk.

        What it says that it does not take is removed again. Should it fail in another way, the files stay: a commit
        whose answer got lost may have happened, and then its rows need them. Upkeep removes files that no row knows.
        """
        stored: list[ResultObject] = []
        with ExitStack() as until_recorded:
            try:
                for thing, profile in built:
                    stored.append(until_recorded.enter_context(self._bench.storing(thing, profile)))
            except TriageError:
                self._bench.discard(stored)
                raise
            try:
                self._reporting.complete_revision(revision, [*kept, *stored], self._destinations)
            except (ResultError, StaleAttemptError):
                self._bench.discard(stored)
                raise


class ReportRole:
    """The reporter with what the settings say around it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Report studies until `stop` is set; the study in work is finished first.

        Raises:
            ConfigurationError: a profile's font cannot be used.
            StorageError: the database or a folder cannot be used.
        """
        settings = self._settings
        require_fonts(settings.profiles.values())
        database = open_database(settings.database_url)
        try:
            with Doorbell.listen(settings.run_folder, REPORT) as bell, _pictures(settings) as pictures:
                reporter, maker = self._reporter(database, pictures), self._maker(database, pictures)
                rejections, withdrawals = self._rejections(database, pictures), self._withdrawals(database)
                ready()
                while not stop.is_set():
                    kinds = (reporter.report_pending, maker.decide_pending, rejections.make_pending)
                    if _work(kinds, withdrawals, stop):
                        ring(settings.run_folder, DELIVER)
                    else:
                        bell.wait(settings.report.poll_seconds)
        finally:
            database.close()

    def _reporter(self, database: Database, pictures: Pictures) -> Reporter:
        settings, clock = self._settings, ServiceClock.of(self._settings.run_folder)
        completeness = Completeness(
            quiet=timedelta(seconds=settings.report.quiet_seconds),
            force=timedelta(seconds=settings.report.force_seconds),
        )
        return Reporter(
            Reporting(database, completeness=completeness, clock=clock),
            bench=self._bench(pictures, clock),
            destinations=self._destinations,
            policy_digest=settings.policy().digest(),
            profiles=settings.profiles,
            clock=clock,
        )

    def _maker(self, database: Database, pictures: Pictures) -> StandInMaker:
        settings, clock = self._settings, ServiceClock.of(self._settings.run_folder)
        return StandInMaker(
            StandIns(database, clock=clock),
            bench=self._bench(pictures, clock),
            destinations=self._destinations,
            profiles=settings.profiles,
            clock=clock,
        )

    def _rejections(self, database: Database, pictures: Pictures) -> RejectionMaker:
        settings, clock = self._settings, ServiceClock.of(self._settings.run_folder)
        return RejectionMaker(
            Rejections(database, clock=clock),
            bench=self._bench(pictures, clock),
            destinations={
                destination.name: settings.profiles[destination.profile]
                for destination in settings.destinations
                if destination.name in settings.rejecting
            },
            clock=clock,
        )

    def _withdrawals(self, database: Database) -> Withdrawals:
        clock = ServiceClock.of(self._settings.run_folder)
        return Withdrawals(database, rejecting=self._settings.rejecting, clock=clock)

    def _bench(self, pictures: Pictures, clock: Clock) -> Workbench:
        return Workbench(
            inbox=Inbox(self._settings.inbox_folder, clock=clock),
            outbox=Outbox(self._settings.outbox_folder, clock=clock),
            read_picture=pictures.read,
        )

    @property
    def _destinations(self) -> list[tuple[str, str]]:
        return [(destination.name, destination.profile) for destination in self._settings.destinations]


@contextmanager
def _pictures(settings: Settings) -> Iterator[Pictures]:
    """A reader of pictures, with a folder for results on their way: this role has one process per data folder."""
    spool = settings.run_folder / f"{REPORT}.spool"
    shutil.rmtree(spool, ignore_errors=True)  # of one that was killed
    spool.mkdir(mode=0o700)
    pictures = Pictures(folder=spool, deadline_seconds=settings.report.deadline_seconds, logs=settings.logs)
    try:
        yield pictures
    finally:
        pictures.close()
        shutil.rmtree(spool, ignore_errors=True)


def _work(kinds: Iterable[Callable[[Callable[[], bool]], int]], withdrawals: Withdrawals, stop: threading.Event) -> int:
    """Do what is due of each kind of work; how much was done for destinations."""
    try:
        withdrawals.drop_pending()
        return sum(pending(stop.is_set) for pending in kinds)
    except StorageError as error:
        log.exception("the ledger does not answer; trying again", exc_info=error)
        return 0
