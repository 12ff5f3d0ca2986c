"""The Storage SCU: finished objects go to each destination until it has them (PS3.4 Annex B).

Each destination has a thread of its own, so that one that is down delays no other. Whether to try again, and when, is
decided by two pure functions, `pause` and `next_step`; what is due lies in the ledger and outlives this process.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from pynetdicom.association import Association

from cxr_triage.daemon.backoff import doubled
from cxr_triage.daemon.dicom_client import SUCCESS, Part10File, Peer, associated, store
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import DELIVER
from cxr_triage.daemon.settings import Destination, Settings
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.model.errors import (
    DeliveryError,
    RefusedError,
    ResultError,
    StaleAttemptError,
    StorageError,
    TriageError,
    UnreachableError,
)
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Dispatch
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.records import Delivery, ObjectKind
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: Objects per association: few enough that a lease outlives the batch.
BATCH = 8
#: An SR cites its SEGs: they go first.
_SENDING_ORDER = (ObjectKind.SEG, ObjectKind.SR)
_RANDOM = random.SystemRandom()


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long, and how often, to try."""

    #: Wait after the first failure; doubles each time.
    first: timedelta = timedelta(seconds=5)
    longest: timedelta = timedelta(minutes=10)
    #: Attempts at an object that a reachable destination refuses; an unreachable one is tried for ever.
    maximum_refusals: int = 5
    #: How often to look for work when nobody rings.
    poll: timedelta = timedelta(seconds=2)


def pause(failures: int, *, patience: Patience, jitter: float) -> timedelta:
    """Say how long to leave a destination alone after so many failures in a row.

    Args:
        failures: 1 or more.
        patience: what the site decided.
        jitter: 0 to 1; takes away up to half, so that senders that failed together do not come back together.
    """
    whole = doubled(patience.first.total_seconds(), patience.longest.total_seconds(), failures=failures)
    return timedelta(seconds=whole * (1 - jitter / 2))


def next_step(refusals: int, *, now: datetime, patience: Patience) -> datetime | None:
    """Say when to offer an object again that was refused so many times; None: give it up."""
    return now + patience.longest if refusals < patience.maximum_refusals else None


class Courier:
    """Brings one destination what is due for it."""

    def __init__(
        self,
        *,
        destination: str,
        peer: Peer,
        dispatch: Dispatch,
        outbox: Outbox,
        owner_id: str,
        patience: Patience,
        clock: Clock = utc_now,
    ) -> None:
        self._destination = destination
        self._peer = peer
        self._dispatch = dispatch
        self._outbox = outbox
        self._owner_id = owner_id
        self._patience = patience
        self._clock = clock
        self._wake = threading.Event()
        #: In a row, of the destination as a whole.
        self._failures = 0
        #: Per delivery, since this process started: a restart gives a refused object another chance.
        self._refusals: Counter[int] = Counter()
        #: Per delivery: how often the destination gave no answer to it.
        self._interruptions: Counter[int] = Counter()

    def wake(self) -> None:
        """Look for work now, unless the destination is being left alone."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`; whoever sets it calls `wake` too."""
        while not stop.is_set():
            self._wake.clear()
            try:
                worked = self.deliver_batch(stop)
            except StorageError as error:
                log.exception("ledger not reached", destination=self._destination, exc_info=error)
                worked = False
            if self._failures:
                stop.wait(pause(self._failures, patience=self._patience, jitter=_RANDOM.random()).total_seconds())
            elif not worked:
                self._wake.wait(self._patience.poll.total_seconds())

    def deliver_batch(self, stop: threading.Event) -> bool:
        """Deliver what is due, over one association; returns whether anything was.

        Raises:
            StorageError: the ledger could not be reached.
        """
        claimed = self._dispatch.claim(self._owner_id, self._destination, BATCH)
        batch = self._readable(sorted(claimed, key=lambda delivery: _SENDING_ORDER.index(delivery.object.kind)))
        if not batch:
            return bool(claimed)
        left = list(batch)
        try:
            with associated(self._peer, [file for _, file in batch]) as association:
                while left and not stop.is_set():
                    self._deliver(association, *left.pop(0))
        except UnreachableError as error:
            self._failures += 1
            self._put_back([delivery for delivery, _ in left], error)
        else:
            self._failures = 0
            self._put_back([delivery for delivery, _ in left], None)
        return True

    def _readable(self, claimed: Sequence[Delivery]) -> list[tuple[Delivery, Part10File]]:
        """Look at the files. One that cannot be read counts as refused, so that a person learns of it."""
        batch = []
        for delivery in claimed:
            try:
                batch.append((delivery, Part10File.read(self._outbox.absolute(delivery.object.path))))
            except OSError as error:
                self._refused(delivery, DeliveryError(f"its file in the outbox cannot be read ({error.strerror})"))
            except ResultError as error:
                self._refused(delivery, error)
        return batch

    def _deliver(self, association: Association, delivery: Delivery, file: Part10File) -> None:
        try:
            status = store(association, file, self._peer)
        except RefusedError as error:
            self._refused(delivery, error)
            return
        except UnreachableError as error:
            self._put_behind(delivery, error)
            raise
        if status != SUCCESS:
            log.warning("stored with a warning", status=f"0x{status:04X}", **delivery.log_context())
        with _unless_taken_over(delivery):
            self._dispatch.record_stored(delivery)
        self._refusals.pop(delivery.id, None)
        self._interruptions.pop(delivery.id, None)
        log.info("object delivered", **delivery.log_context())

    def _refused(self, delivery: Delivery, error: TriageError) -> None:
        self._refusals[delivery.id] += 1
        retry_at = next_step(self._refusals[delivery.id], now=self._clock(), patience=self._patience)
        log.warning("object refused", reason=str(error), gives_up=retry_at is None, **delivery.log_context())
        with _unless_taken_over(delivery):
            if retry_at is not None:
                self._dispatch.record_attempt_failed(delivery, error=str(error), retry_at=retry_at)
                return
            del self._refusals[delivery.id]
            self._dispatch.record_dead(delivery, str(error))

    def _put_behind(self, delivery: Delivery, error: UnreachableError) -> None:
        """Let the others go first next time: it may be this very object that the destination cannot bear.

        The wait is longer than that before the next association, and grows each time.
        """
        self._interruptions[delivery.id] += 1
        failures = max(self._interruptions[delivery.id], self._failures + 1)
        wait = 2 * pause(failures, patience=self._patience, jitter=0)
        with _unless_taken_over(delivery):
            self._dispatch.record_attempt_failed(delivery, error=str(error), retry_at=self._clock() + wait)

    def _put_back(self, deliveries: Sequence[Delivery], error: UnreachableError | None) -> None:
        """Give up the claims on what was not sent: due at once, as the destination as a whole is left alone."""
        if error is not None:
            log.warning("destination not reached", destination=self._destination, reason=str(error))
        reason = str(error or "not sent: this sender was stopped")
        for delivery in deliveries:
            with _unless_taken_over(delivery):
                self._dispatch.record_attempt_failed(delivery, error=reason, retry_at=self._clock())


@contextmanager
def _unless_taken_over(delivery: Delivery) -> Iterator[None]:
    """Write a transition; where a later attempt took over, that one answers for the object."""
    try:
        yield
    except StaleAttemptError:
        log.warning("delivery taken over", **delivery.log_context())


class DeliverRole:
    """The couriers as a process of their own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Deliver until `stop` is set; what is being sent then is finished."""
        settings = self._settings
        owner = Owner.take(settings.run_folder, DELIVER)
        database = open_database(settings.database_url)
        clock = ServiceClock.of(settings.run_folder)
        dispatch = Dispatch(database, lease=timedelta(seconds=settings.deliver.lease_seconds), clock=clock)
        couriers = [
            Courier(
                destination=destination.name,
                peer=peer(destination, settings),
                dispatch=dispatch,
                outbox=Outbox(settings.outbox_folder, clock=clock),
                owner_id=owner.id,
                patience=_patience(settings),
                clock=clock,
            )
            for destination in settings.destinations
        ]
        try:
            with Doorbell.listen(settings.run_folder, DELIVER) as bell:
                _run_all(couriers, bell, stop, ready)
        finally:
            database.close()
            owner.release()


def peer(destination: Destination, settings: Settings) -> Peer:
    """Give the DICOM application behind a destination's name."""
    deliver = settings.deliver
    return Peer(
        calling_ae_title=settings.dicom.ae_title,
        ae_title=destination.ae_title,
        host=destination.host,
        port=destination.port,
        acse_timeout_seconds=deliver.acse_timeout_seconds,
        dimse_timeout_seconds=deliver.dimse_timeout_seconds,
        network_timeout_seconds=deliver.network_timeout_seconds,
    )


def _patience(settings: Settings) -> Patience:
    deliver = settings.deliver
    return Patience(
        first=timedelta(seconds=deliver.retry_first_seconds),
        longest=timedelta(seconds=deliver.retry_longest_seconds),
        maximum_refusals=deliver.maximum_refusals,
        poll=timedelta(seconds=deliver.poll_seconds),
    )


def _run_all(couriers: Sequence[Courier], bell: Doorbell, stop: threading.Event, ready: Callable[[], None]) -> None:
    """Run every courier in a thread; a courier that fails ends all, so that the role starts afresh."""
    ended = threading.Event()
    with ThreadPoolExecutor(max_workers=len(couriers) + 1, thread_name_prefix="courier") as pool:
        running = [pool.submit(courier.run, ended) for courier in couriers]
        ready()
        try:
            while not stop.is_set() and not _first_ended(running):
                if bell.wait(0.5):
                    for courier in couriers:
                        courier.wake()
        finally:
            ended.set()
            for courier in couriers:
                courier.wake()
    for future in running:
        future.result()


def _first_ended(running: Sequence[Future[None]]) -> bool:
    return bool(running and wait(running, timeout=0, return_when=FIRST_COMPLETED).done)
