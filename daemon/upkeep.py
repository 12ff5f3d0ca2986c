"""What happens by the clock: leases of the dead come back, old studies leave the list, files that are done with go."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from cxr_triage.daemon.adoption import Adoption
from cxr_triage.daemon.leftovers import Leftovers
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import DELIVER, INFER, UPKEEP
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import ring
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
        """Remove the files that nothing needs any more and that are old enough, then record that they are gone."""
        before = self._clock() - timedelta(hours=self._settings.upkeep.keep_files_hours)
        while files := self._housekeeping.forgettable_files(before):
            for file in files:
                self._discard(file)
            self._housekeeping.record_forgotten(files)
            log.info("files removed after their time", count=len(files))

    def put_leftovers_away(self) -> None:
        """Deal with what crashes left: an image without a row gets one; a result is made again, so its file goes."""
        for leftovers in self._leftovers:
            leftovers.look()

    def remove_dead_locks(self) -> None:
        """Remove the lock files of killed processes."""
        remove_dead_locks(self._settings.run_folder, before=self._clock() - LOCK_AGE)

    def _discard(self, file: OwnedFile) -> None:
        self._folders[file.place].discard(file.path)


class UpkeepRole:
    """Runs the jobs by APScheduler, in one process per data folder; a second one stands by."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Keep house until `stop`; a job in progress is finished."""
        ready()
        interval = self._settings.upkeep.interval_seconds
        with _only_holder(self._settings.run_folder, stop, interval) as held:
            if not held:
                return
            database = open_database(self._settings.database_url)
            try:
                self._keep_house(Upkeep(self._settings, database), stop)
            finally:
                database.close()

    def _keep_house(self, upkeep: Upkeep, stop: threading.Event) -> None:
        # One thread: the jobs write, and writers would only wait for each other. A failed job is logged and tried
        # again at its next time.
        scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)})
        options = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        upkeep.apply_policy()
        now, every = utc_now(), self._settings.upkeep.interval_seconds
        for job in (upkeep.release_leases, upkeep.end_waiting):
            scheduler.add_job(job, "interval", seconds=every, next_run_time=now, **options)
        leftover = self._settings.upkeep.leftover_seconds
        scheduler.add_job(upkeep.put_leftovers_away, "interval", seconds=leftover, next_run_time=now, **options)
        for job in (upkeep.finish_aged, upkeep.forget_files, upkeep.remove_dead_locks):
            scheduler.add_job(job, "interval", seconds=RETENTION_SECONDS, next_run_time=now, **options)
        scheduler.start()
        stop.wait()
        # Its thread looks once more after the shutdown, and would find jobs that it can no longer start.
        scheduler.remove_all_jobs()
        scheduler.shutdown(wait=True)


@contextmanager
def _only_holder(run_folder: Path, stop: threading.Event, retry_seconds: float) -> Iterator[bool]:
    """Hold the lock of this data folder; wait for it while another process has it. False: stopped before."""
    descriptor = os.open(run_folder / f"{UPKEEP}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o640)
    try:
        while not (held := _try_lock(descriptor)) and not stop.wait(retry_seconds):
            pass
        yield held
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
