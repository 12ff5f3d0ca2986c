"""What happens by the clock: leases of the dead come back, old studies leave the list, files that are done with go."""

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from typing import Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from cxr_triage.daemon import breaker
from cxr_triage.daemon.adoption import Adoption
from cxr_triage.daemon.alerts import AlertLog, current_alerts
from cxr_triage.daemon.leftovers import Leftovers
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.rhythm import add_job, keep_rhythm
from cxr_triage.daemon.roles import DELIVER, INFER, ORDERS, WORKLIST
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.inbox import DurableFolder, Inbox, Outbox
from cxr_triage.storage.ledger import (
    Announcements,
    Circuits,
    Commitments,
    Dispatch,
    Housekeeping,
    Inquiries,
    Intake,
    ModalityCommitments,
    Orders,
    ReadingList,
    Scoring,
)
from cxr_triage.storage.locks import FILES, lock
from cxr_triage.storage.owners import owner_is_alive, remove_dead_locks
from cxr_triage.storage.service_clock import KEPT_EVERY, ReadableClock, ServiceClock, boottime_seconds
from cxr_triage.storage.upkeep_records import OwnedFile, Place

#: How often files are looked through.
RETENTION_SECONDS: Final = 3600
#: A young lock file may belong to a process that is about to lock it.
LOCK_AGE: Final = timedelta(days=1)
#: Alerts are looked after at every so manieth interval: counting takes longer than giving leases back.
INTERVALS_PER_ALERT: Final = 4
#: A machine's clock is often corrected in the first minutes after its start: nothing ages before that.
SETTLING_SECONDS: Final = 600

#: A job, how often, and when first.
_Job = tuple[Callable[[], None], timedelta, datetime]

log = get_logger(__name__)


def _unless_the_clock_jumped(job: Callable[["Upkeep"], None]) -> Callable[["Upkeep"], None]:
    """Let a job be, while the machine's clock and the service's time are at odds: a person decides who is right."""

    @wraps(job)
    def run(upkeep: "Upkeep") -> None:
        if not upkeep.clock.reading().jumped:
            job(upkeep)

    return run


class Upkeep:
    """The jobs; each may run at any time, any number of times."""

    def __init__(self, settings: Settings, database: Database, *, clock: ReadableClock) -> None:
        self._settings = settings
        self._database = database
        self.clock = clock
        self._alert_log = AlertLog()
        self._scoring = Scoring(database, lease=timedelta(seconds=settings.infer.lease_seconds), clock=clock)
        lease = timedelta(seconds=settings.deliver.lease_seconds)
        self._dispatch = Dispatch(database, lease=lease, clock=clock)
        self._commitments = Commitments(database, lease=lease, clock=clock)
        self._modality_commitments = ModalityCommitments(database, lease=lease, clock=clock)
        self._announcements = Announcements(database, lease=lease, clock=clock)
        self._reading_list = ReadingList(database, clock=clock)
        self._orders = Orders(database, clock=clock)
        self._circuits = Circuits(database, clock=clock)
        self._inquiries = Inquiries(database, lease=lease, clock=clock)
        self._housekeeping = Housekeeping(
            database,
            committing=settings.committing,
            destinations=[destination.name for destination in settings.destinations],
            clock=clock,
        )
        inbox, outbox = Inbox(settings.inbox_folder, clock=clock), Outbox(settings.outbox_folder, clock=clock)
        self._folders: Mapping[Place, DurableFolder] = {"inbox": inbox, "outbox": outbox}
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
        others = (ORDERS, self._inquiries), (WORKLIST, self._announcements)
        for role, ledger in ((INFER, self._scoring), (DELIVER, self._dispatch), *commitments, *others):
            released = ledger.release_leases(is_alive, self.clock())
            if released:
                log.warning("work of dead owners given back", job=role, count=released)
                ring(self._settings.run_folder, role)

    def end_waiting(self) -> None:
        """Let what waits too long for storage commitment be asked for again, or fail for the modality that asks."""
        lapsed = self._commitments.lapse()
        if lapsed:
            log.warning("no storage commitment report came in time", count=lapsed)
        age = timedelta(hours=self._settings.dicom.commitment_give_up_hours)
        given_up = self._modality_commitments.give_up(self.clock() - age)
        if given_up:
            log.warning("storage commitment not reached for modalities", count=given_up)
        if lapsed or given_up:
            ring(self._settings.run_folder, DELIVER)
        self._give_up_events()
        if self._settings.ris.host is None and self._circuits.forget(breaker.RIS, actor="upkeep"):
            log.info("circuit of the RIS forgotten: it is not asked any more")

    def _give_up_events(self) -> None:
        """End the wait of events that no subscriber has come for."""
        before = self.clock() - timedelta(hours=self._settings.worklist.ups_event_hours)
        while late := self._announcements.give_up(before):
            log.warning("events given up that nobody came for", count=late)

    @_unless_the_clock_jumped
    def finish_aged(self) -> None:
        """Take studies off the reading list that nobody reported done."""
        age = timedelta(hours=self._settings.upkeep.finish_after_hours)
        finished = self._reading_list.finish_aged(self.clock() - age)
        if finished:
            log.info("studies left the list by age", count=finished)

    @_unless_the_clock_jumped
    def note_overdue(self) -> None:
        """Write down which studies have waited longer than they may."""
        overdue = self._reading_list.note_overdue()
        if overdue:
            log.info("studies became overdue", count=overdue)

    def apply_policy(self) -> None:
        """Recompute the open studies: the policy may be another one than when they were listed."""
        changed = self._reading_list.reprioritise(self._settings.policy())
        if changed:
            log.info("priorities recomputed under a changed policy", count=changed)

    @_unless_the_clock_jumped
    def forget_files(self) -> None:
        """Remove the files that nothing needs any more and that are old enough, then record that they are gone.

        A backup that is being made still needs them: then the next run removes them.
        """
        before = self.clock() - timedelta(hours=self._settings.upkeep.keep_files_hours)
        while self._forget_some(before):
            pass
        while self._announcements.forget(before):
            pass

    @_unless_the_clock_jumped
    def forget_orders(self) -> None:
        """Forget the orders of studies whose images never came."""
        before = self.clock() - timedelta(hours=self._settings.worklist.keep_orders_hours)
        while forgotten := self._orders.forget_unmatched(before):
            log.info("orders forgotten whose images never came", count=forgotten)

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

    @_unless_the_clock_jumped
    def remove_dead_locks(self) -> None:
        """Remove the lock files of killed processes."""
        remove_dead_locks(self._settings.run_folder, before=self.clock() - LOCK_AGE)

    def tell_alerts(self) -> None:
        """Log what a person must look at, once when it appears and once when it has gone."""
        self._alert_log.tell(current_alerts(self._housekeeping.counts(), self.clock, self._settings))

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
        database, clock = open_database(self._settings.database_url), ServiceClock.of(self._settings.run_folder)
        try:
            self._keep_house(Upkeep(self._settings, database, clock=clock), clock, database, stop)
        finally:
            database.close()

    def _keep_house(self, upkeep: Upkeep, clock: ServiceClock, database: Database, stop: threading.Event) -> None:
        _until_done(upkeep.apply_policy, stop, self._settings.upkeep.interval_seconds)
        # One thread: the jobs write, and writers would only wait for each other. A failed job is logged and tried
        # again at its next time.
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        now = utc_now()  # the scheduler's clock is the machine's: `keep_rhythm`
        settled = now + timedelta(seconds=max(0.0, SETTLING_SECONDS - boottime_seconds()))
        for job, every, first in self._shared_jobs(upkeep, now=now, settled=settled):
            add_job(scheduler, wraps(job)(partial(_alone, database, job)), every, first=first)
        # The run folder is this daemon's own.
        for job, every, first in self._own_jobs(upkeep, clock, now=now, settled=settled):
            add_job(scheduler, job, every, first=first)
        scheduler.start()
        keep_rhythm(scheduler, stop)
        # Its thread looks once more after the shutdown, and would find jobs that it can no longer start.
        scheduler.remove_all_jobs()
        scheduler.shutdown(wait=True)

    def _shared_jobs(self, upkeep: Upkeep, *, now: datetime, settled: datetime) -> tuple[_Job, ...]:
        """What one daemon does for all that share a database."""
        interval = timedelta(seconds=self._settings.upkeep.interval_seconds)
        retention = timedelta(seconds=RETENTION_SECONDS)
        return (
            (upkeep.release_leases, interval, now),
            (upkeep.end_waiting, interval, now),
            (upkeep.note_overdue, interval, settled),
            (upkeep.put_leftovers_away, timedelta(seconds=self._settings.upkeep.leftover_seconds), now),
            (upkeep.finish_aged, retention, settled),
            (upkeep.forget_files, retention, settled),
            (upkeep.forget_orders, retention, settled),
        )

    def _own_jobs(self, upkeep: Upkeep, clock: ServiceClock, *, now: datetime, settled: datetime) -> tuple[_Job, ...]:
        """What each daemon does for itself."""
        interval = timedelta(seconds=self._settings.upkeep.interval_seconds)
        return (
            (clock.keep, KEPT_EVERY, now),
            (upkeep.tell_alerts, INTERVALS_PER_ALERT * interval, now),
            (upkeep.remove_dead_locks, timedelta(seconds=RETENTION_SECONDS), settled),
        )


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
