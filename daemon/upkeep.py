"""What happens by the clock: leases of the dead come back, old studies leave the list, files that are done with go."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Literal

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from cxr_triage.daemon.adoption import Adoption
from cxr_triage.daemon.leftovers import Leftovers
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import DELIVER, INFER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.inbox import DurableFolder, Inbox, Outbox
from cxr_triage.storage.ledger import (
    Commitments,
    Dispatch,
    Housekeeping,
    Intake,
    ModalityCommitments,
    ReadingList,
    Scoring,
)
from cxr_triage.storage.locks import FILES, lock
from cxr_triage.storage.owners import owner_is_alive, remove_dead_locks
from cxr_triage.storage.records import OwnedFile

#: How often files are looked through.
RETENTION_SECONDS: Final = 3600
#: A young lock file may belong to a process that is about to lock it.
LOCK_AGE: Final = timedelta(days=1)

log = get_logger(__name__)


class Upkeep:
    """The jobs; each may run at any time, any number of times."""

    def __init__(self, settings: Settings, database: Database, *, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._scoring = Scoring(database, lease=timedelta(seconds=settings.infer.lease_seconds), clock=clock)
        self._dispatch = Dispatch(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
        lease = timedelta(seconds=settings.deliver.lease_seconds)
        self._commitments = Commitments(database, lease=lease, clock=clock)
        self._modality_commitments = ModalityCommitments(database, lease=lease, clock=clock)
        self._reading_list = ReadingList(database, clock=clock)
        self._housekeeping = Housekeeping(database, committing=settings.committing, clock=clock)
        inbox, outbox = Inbox(settings.inbox_folder, clock=clock), Outbox(settings.outbox_folder, clock=clock)
        self._folders: Mapping[Literal["inbox", "outbox"], DurableFolder] = {"inbox": inbox, "outbox": outbox}
        adoption = Adoption(
            inbox=inbox,
            intake=Intake(database),
            housekeeping=self._housekeeping,
            on_adopted=partial(ring, settings.run_folder, INFER),
            clock=clock,
        )
        settle = settings.upkeep.leftover_seconds
        self._leftovers = (
            Leftovers("inbox", inbox, self._housekeeping, put_away=adoption.adopt, settle_seconds=settle),
            Leftovers("outbox", outbox, self._housekeeping, put_away=outbox.discard, settle_seconds=settle),
        )

    def release_leases(self) -> None:
        """Give back what dead or overdue workers hold, and wake those who can go on with it."""
        is_alive = partial(owner_is_alive, self._settings.run_folder)
        commitments = (DELIVER, self._commitments), (DELIVER, self._modality_commitments)
        for role, ledger in ((INFER, self._scoring), (DELIVER, self._dispatch), *commitments):
            released = ledger.release_leases(is_alive, self._clock())
            if released:
                log.warning("work of dead owners given back", job=role, count=released)
                ring(self._settings.run_folder, role)

    def end_waiting(self) -> None:
        """Let what waits too long for storage commitment be asked for again, or fail for the modality that asks."""
        lapsed = self._commitments.lapse()
        if lapsed:
            log.warning("no storage commitment report came in time", count=lapsed)
        age = timedelta(hours=self._settings.dicom.commitment_give_up_hours)
        given_up = self._modality_commitments.give_up(self._clock() - age)
        if given_up:
            log.warning("storage commitment not reached for modalities", count=given_up)
        if lapsed or given_up:
            ring(self._settings.run_folder, DELIVER)

    def finish_aged(self) -> None:
        """Take studies off the reading list that nobody reported done."""
        age = timedelta(hours=self._settings.upkeep.finish_after_hours)
        finished = self._reading_list.finish_aged(self._clock() - age)
        if finished:
            log.info("studies left the list by age", count=finished)

    def apply_policy(self) -> None:
        """Recompute the open studies: the policy may be another one than when they were listed."""
        changed = self._reading_list.reprioritise(self._settings.policy())
        if changed:
            log.info("priorities recomputed under a changed policy", count=changed)

    def forget_files(self) -> None:
        """Remove the files that nothing needs any more and that are old enough, then record that they are gone.

        A backup that is being made still needs them: then the next run removes them.
        """
        before = self._clock() - timedelta(hours=self._settings.upkeep.keep_files_hours)
        while self._forget_some(before):
            pass

    def _forget_some(self, before: datetime) -> bool:
        with lock(self._database, FILES) as alone:
            files = self._housekeeping.forgettable_files(before)
            if not files:
                return False
            if alone is None:
                log.info("files kept while a backup is made", count=len(files))
                return False
            removed = [file for file in files if self._discard(file)]
            self._housekeeping.record_forgotten(removed)
            log.info("files removed after their time", count=len(removed))
            return len(removed) == len(files)  # what could not be removed comes first again: next time

    def put_leftovers_away(self) -> None:
        """Deal with what crashes left: an image without a row gets one; a result is made again, so its file goes."""
        for leftovers in self._leftovers:
            leftovers.look()

    def remove_dead_locks(self) -> None:
        """Remove the lock files of killed processes."""
        remove_dead_locks(self._settings.run_folder, before=self._clock() - LOCK_AGE)

    def _discard(self, file: OwnedFile) -> bool:
        try:
            self._folders[file.place].discard(file.path)
        except StorageError as error:
            log.exception("file not removed", folder=file.place, path=file.path, exc_info=error)
            return False
        return True


class UpkeepRole:
    """Runs the jobs by APScheduler. Several daemons on one Postgres take turns: each job is one's at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Keep house until `stop`; a job in progress is finished."""
        ready()
        database = open_database(self._settings.database_url)
        try:
            self._keep_house(Upkeep(self._settings, database), database, stop)
        finally:
            database.close()

    def _keep_house(self, upkeep: Upkeep, database: Database, stop: threading.Event) -> None:
        every, leftover = self._settings.upkeep.interval_seconds, self._settings.upkeep.leftover_seconds
        _until_done(upkeep.apply_policy, stop, every)
        # One thread: the jobs write, and writers would only wait for each other. A failed job is logged and tried
        # again at its next time.
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None, "next_run_time": utc_now()}
        times: dict[Callable[[], None], float] = {
            upkeep.release_leases: every,
            upkeep.end_waiting: every,
            upkeep.put_leftovers_away: leftover,
            upkeep.finish_aged: RETENTION_SECONDS,
            upkeep.forget_files: RETENTION_SECONDS,
        }
        for job, seconds in times.items():
            scheduler.add_job(partial(_alone, database, job), "interval", seconds=seconds, name=job.__name__, **options)
        # The run folder is this daemon's own.
        scheduler.add_job(upkeep.remove_dead_locks, "interval", seconds=RETENTION_SECONDS, **options)
        scheduler.start()
        stop.wait()
        # Its thread looks once more after the shutdown, and would find jobs that it can no longer start.
        scheduler.remove_all_jobs()
        scheduler.shutdown(wait=True)


def _until_done(job: Callable[[], None], stop: threading.Event, retry_seconds: float) -> None:
    done = False
    while not (done or stop.is_set()):
        try:
            job()
            done = True
        except StorageError as error:
            log.exception("the ledger does not answer; trying again", exc_info=error)
            stop.wait(retry_seconds)


def _alone(database: Database, job: Callable[[], None]) -> None:
    """Run a job unless another daemon is at it: it is done then, or is due again soon."""
    with lock(database, f"upkeep-{job.__name__}") as alone:
        if alone is not None:
            job()
