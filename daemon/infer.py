"""The inference role: claims images, has them read in child processes, records what came of it.

This process loads no network and decodes nothing: it lives on when a child does not.
"""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from cxr_triage.daemon.backoff import LONGEST_FOR_MACHINE_SECONDS, doubled
from cxr_triage.daemon.isolation import Fault, Worker
from cxr_triage.daemon.lanes import Lane
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.pipeline import index_file
from cxr_triage.daemon.readers import Score, Scored, load_scorer, prepare_child, prepare_scorer, score, warm_up
from cxr_triage.daemon.roles import INFER, REPORT
from cxr_triage.daemon.setting_sections import LogSettings
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import Doorbell, ring
from cxr_triage.model.bundle import read_card
from cxr_triage.model.errors import BundleError, ConfigurationError, StaleAttemptError, StorageError, TriageError
from cxr_triage.model.prediction import BundleIdentity, Prediction, Refusal
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import Claim, InstanceHeader
from cxr_triage.storage.ledger import Scoring
from cxr_triage.storage.owners import Owner, owner_is_alive
from cxr_triage.storage.service_clock import ServiceClock

SPOOL_SUFFIX: Final = ".spool"
#: Kept of the time to drain, so that claims are given back before anyone loses patience.
GIVE_BACK_SECONDS: Final = 5.0
#: What a child may report while it loads the network that no new start will mend.
NEED_A_PERSON: Final = {kind.__name__: kind for kind in (BundleError, ConfigurationError)}
#: A lease is extended this many times before it would run out.
EXTENSIONS_PER_LEASE: Final = 3

Indexed = InstanceHeader | Refusal

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """How often, and when, a failed attempt is made again."""

    maximum_attempts: int
    first_seconds: float
    longest_seconds: float

    def at(self, failures: int, now: datetime) -> datetime | None:
        """When to try again after so many failed attempts, at least one; None = no more."""
        if failures >= self.maximum_attempts:
            return None
        return now + timedelta(seconds=doubled(self.first_seconds, self.longest_seconds, failures=failures))

    def machine_wait(self, faults: int) -> float:
        """How long to leave an image alone after so many faults of the machine in a row, at least one; in seconds.

        Longer than the first wait, after which others are read: it may be met with this image only.
        """
        return 2 * doubled(self.first_seconds, LONGEST_FOR_MACHINE_SECONDS / 2, failures=faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long things may take, in seconds."""

    #: How long a claim lasts; it is extended while its job runs.
    lease_seconds: float
    #: Longest time between two looks for work.
    poll_seconds: float
    #: Longest time for running jobs to end when stopped.
    drain_seconds: float
    retry: Retry


@dataclass(frozen=True, kw_only=True, slots=True)
class Readers:
    """The child processes that read images."""

    #: Called in each scoring child, gives what reads one file; picklable.
    load: Callable[[], Score]
    #: Scoring children. Indexing has one of its own.
    workers: int
    #: Longest time for one job.
    deadline_seconds: float
    #: How they log; None = they do not configure it.
    logs: LogSettings | None = None


class Inference:
    """The role with everything named: what `InferRole` makes of the settings, and what tests make directly."""

    def __init__(
        self,
        scoring: Scoring,
        *,
        readers: Readers,
        timing: Timing,
        policy: Policy,
        inbox: Path,
        run_folder: Path,
        clock: Clock = utc_now,
    ) -> None:
        """Describe the role; nothing starts yet.

        Args:
            scoring: the ledger.
            readers: the child processes.
            timing: leases, polls, retries.
            policy: what the site decides.
            inbox: folder that claims' paths start from.
            run_folder: of locks and doorbells.
            clock: gives the present.
        """
        self._scoring = scoring
        self._readers = readers
        self._timing = timing
        self._policy = policy
        self._inbox = inbox
        self._run_folder = run_folder
        self._clock = clock
        self._extension_seconds = timing.lease_seconds / EXTENSIONS_PER_LEASE
        self._poll_seconds = min(timing.poll_seconds, self._extension_seconds)
        self._extend_at = 0.0
        #: By image: attempts in a row that the machine did not let come to an end. They do not count as the image's.
        self._machine_faults: Counter[int] = Counter()

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Work until `stop` is set, then let running jobs end and give the rest back.

        Raises:
            BundleError: the network cannot be loaded, whoever tries.
            TriageError: a child did not live to load it.
            StorageError: the ledger or the run folder cannot be used.
        """
        with ExitStack() as stack:
            bell = stack.enter_context(Doorbell.listen(self._run_folder, INFER))
            owner = Owner.take(self._run_folder, INFER)
            stack.callback(self._give_back, owner)
            spool = stack.enter_context(_spool(self._run_folder, owner))
            indexing, scoring = self._index_lane(owner, spool), self._score_lane(owner, spool)
            stack.callback(indexing.stop)
            stack.callback(scoring.stop)
            self._recover()
            self._warm_up(scoring, bell)
            ready()
            self._serve(stop, bell, indexing, scoring, owner=owner)
            self._drain(bell, indexing, scoring)

    def _index_lane(self, owner: Owner, spool: Path) -> Lane[Indexed]:
        worker = self._worker(spool, prepare=partial(prepare_child, self._readers.logs))
        return Lane(
            [worker],
            claim=partial(self._scoring.claim_to_index, owner.id),
            work=index_file,
            inbox=self._inbox,
            when_done=self._wake,
            pause_seconds=self._timing.retry.first_seconds,
        )

    def _score_lane(self, owner: Owner, spool: Path) -> Lane[Scored]:
        prepare = partial(prepare_scorer, self._readers.logs, self._readers.load, self._readers.workers)
        return Lane(
            [self._worker(spool, prepare=prepare) for _ in range(self._readers.workers)],
            claim=partial(_claim_to_score, self._scoring, owner.id),
            work=score,
            inbox=self._inbox,
            when_done=self._wake,
            pause_seconds=self._timing.retry.first_seconds,
        )

    def _warm_up(self, scoring: Lane[Scored], bell: Doorbell) -> None:
        """Load the network in every child; what is wrong with it is said now, and not once per image.

        Only a bad bundle or device needs a person. A child that was killed while it loaded may do better when started
        again.
        """
        for fault in scoring.try_out(warm_up, wait=partial(bell.wait, self._poll_seconds)):
            kind = NEED_A_PERSON.get(fault.error_class, TriageError)
            raise kind(f"The network cannot be loaded: {fault.explanation} ({fault.error_class})")

    def _worker(self, spool: Path, *, prepare: Callable[[], None]) -> Worker[Any]:
        return Worker(folder=spool, deadline_seconds=self._readers.deadline_seconds, prepare=prepare)

    def _serve(
        self, stop: threading.Event, bell: Doorbell, indexing: Lane[Indexed], scoring: Lane[Scored], *, owner: Owner
    ) -> None:
        unsure = False
        while not stop.is_set():
            try:
                if unsure:  # what was claimed then would wait for the end of its lease
                    self._scoring.give_back_forgotten(owner.id, [*indexing.claims, *scoring.claims])
                    unsure = False
                indexing.fill(self._give_up)
                scoring.fill(self._give_up)
                bell.wait(self._poll_seconds)
                self._collect(indexing, scoring)
            except StorageError:
                # Finished jobs are kept until they can be recorded, unless their lease runs out before.
                log.exception("the ledger does not answer; trying again")
                unsure = True
                stop.wait(self._poll_seconds)

    def _drain(self, bell: Doorbell, indexing: Lane[Indexed], scoring: Lane[Scored]) -> None:
        """Claim nothing more; let what runs come to its end, as long as there is time."""
        give_up_at = time.monotonic() + self._timing.drain_seconds - GIVE_BACK_SECONDS
        while (indexing.claims or scoring.claims) and time.monotonic() < give_up_at:
            bell.wait(min(self._poll_seconds, max(0.0, give_up_at - time.monotonic())))
            try:
                self._collect(indexing, scoring)
            except StorageError:
                log.exception("the ledger does not answer; trying again")
                time.sleep(min(self._poll_seconds, max(0.0, give_up_at - time.monotonic())))

    def _collect(self, indexing: Lane[Indexed], scoring: Lane[Scored]) -> None:
        indexing.collect(self._record_indexed)
        scoring.collect(self._record_scored)
        claims = [*indexing.claims, *scoring.claims]
        if claims and time.monotonic() >= self._extend_at:
            self._extend_at = time.monotonic() + self._extension_seconds
            self._scoring.extend(claims)

    def _record_indexed(self, claim: Claim, outcome: Indexed | Fault) -> None:
        if isinstance(outcome, InstanceHeader):
            self._record(claim, partial(self._scoring.record_indexed, claim, outcome, self._policy), "indexed")
        else:
            self._record_without_result(claim, outcome)

    def _record_scored(self, claim: Claim, outcome: Scored | Fault) -> None:
        if isinstance(outcome, Prediction):
            self._record(claim, partial(self._scoring.record_scored, claim, outcome, self._policy), "scored")
        else:
            self._record_without_result(claim, outcome)

    def _record_without_result(self, claim: Claim, outcome: Refusal | Fault) -> None:
        if isinstance(outcome, Refusal):
            self._record(claim, partial(self._scoring.record_unsuitable, claim, outcome), "unsuitable", outcome.reason)
            return
        if outcome.of_machine:
            self._put_back(claim, outcome)
            return
        record = partial(
            self._scoring.record_failure,
            claim,
            error_class=outcome.error_class,
            explanation=outcome.explanation,
            retry_at=self._timing.retry.at(claim.failures + 1, self._clock()),
        )
        self._record(claim, record, "failed", outcome.error_class)

    def _put_back(self, claim: Claim, fault: Fault) -> None:
        """Give an image back that the machine did not let be read: however often that is, it does not fail by it."""
        faults = self._machine_faults[claim.instance_id] + 1
        put_back = partial(
            self._scoring.put_back,
            claim,
            error_class=fault.error_class,
            explanation=fault.explanation,
            retry_at=self._clock() + timedelta(seconds=self._timing.retry.machine_wait(faults)),
        )
        self._record(claim, put_back, "put back", fault.explanation)
        self._machine_faults[claim.instance_id] = faults

    def _give_up(self, claim: Claim) -> None:
        explanation = "Every attempt at the image ended with the process that made it: it is not read again by itself."
        fail = partial(self._scoring.record_failure, claim, error_class="lost", explanation=explanation, retry_at=None)
        self._record(claim, fail, "failed", "lost")

    def _record(self, claim: Claim, transition: Callable[[], None], state: str, reason: str = "") -> None:
        try:
            transition()
        except StaleAttemptError:
            log.warning("result of an overtaken attempt dropped", state=state, **claim.log_context())
            return
        self._machine_faults.pop(claim.instance_id, None)
        say = log.warning if state in {"failed", "put back"} else log.info
        say("attempt ended", state=state, reason=reason, **claim.log_context())
        if state not in {"indexed", "put back"}:
            ring(self._run_folder, REPORT)

    def _wake(self) -> None:
        ring(self._run_folder, INFER)

    def _recover(self) -> None:
        """Take back what dead processes left, so that it need not wait for its lease."""
        released = self._scoring.release_leases(partial(owner_is_alive, self._run_folder), self._clock())
        if released:
            log.info("claims of dead workers given back", claims=released)

    def _give_back(self, owner: Owner) -> None:
        """The lock goes first: whoever looks then finds the owner gone, this process or another."""
        owner.release()
        try:
            self._recover()
        except StorageError:
            # Whoever starts next, or upkeep, finds the owner gone as well.
            log.exception("the ledger does not answer; claims are given back later")


class InferRole:
    """`Inference` as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set.

        Raises:
            BundleError: the weights bundle cannot be used.
            StorageError: the database or a folder cannot be used.
        """
        settings, infer = self._settings, self._settings.infer
        database, clock = open_database(settings.database_url), ServiceClock.of(settings.run_folder)
        scoring = Scoring(database, lease=timedelta(seconds=infer.lease_seconds), clock=clock)
        try:
            if infer.score_again:
                _score_again(scoring, read_card(settings.bundle_folder).identity)
            Inference(
                scoring,
                readers=_readers(settings),
                timing=_timing(settings),
                policy=settings.policy(),
                inbox=settings.inbox_folder,
                run_folder=settings.run_folder,
                clock=clock,
            ).run(stop, ready)
        finally:
            database.close()


@contextmanager
def _spool(run_folder: Path, owner: Owner) -> Iterator[Path]:
    """A folder for results on their way; those of dead processes are removed."""
    for left in run_folder.glob(f"{INFER}-*{SPOOL_SUFFIX}"):
        if not owner_is_alive(run_folder, left.stem):
            shutil.rmtree(left, ignore_errors=True)
    spool = run_folder / f"{owner.id}{SPOOL_SUFFIX}"
    spool.mkdir(mode=0o700)
    try:
        yield spool
    finally:
        # What a broken disk keeps, the next start removes.
        shutil.rmtree(spool, ignore_errors=True)


def _score_again(scoring: Scoring, bundle: BundleIdentity) -> None:
    images = scoring.score_again(bundle.sha256)
    if images:
        log.info("images of waiting studies are scored again", count=images, bundle=bundle.name, version=bundle.version)


def _readers(settings: Settings) -> Readers:
    return Readers(
        load=partial(load_scorer, settings.bundle_folder, settings.model.device, settings.model.sensitivity),
        workers=settings.infer.workers,
        deadline_seconds=settings.infer.deadline_seconds,
        logs=settings.logs,
    )


def _timing(settings: Settings) -> Timing:
    infer = settings.infer
    return Timing(
        lease_seconds=infer.lease_seconds,
        poll_seconds=infer.poll_seconds,
        drain_seconds=settings.service.drain_seconds,
        retry=Retry(
            maximum_attempts=infer.maximum_attempts,
            first_seconds=infer.retry_first_seconds,
            longest_seconds=infer.retry_longest_seconds,
        ),
    )


def _claim_to_score(scoring: Scoring, owner: str, limit: int) -> list[Claim]:
    claims: list[Claim] = []
    try:
        while len(claims) < limit and (claim := scoring.claim_to_score(owner)) is not None:
            claims.append(claim)
    except StorageError:
        if not claims:
            raise
    return claims
