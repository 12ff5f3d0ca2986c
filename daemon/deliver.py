"""The Storage SCU: finished objects go to each destination until it has them (PS3.4 Annex B).

Each destination has a thread of its own, so that one that is down delays no other. Whether to try again, and when, is
decided by pure rules (`patience`, `breaker`); what is due lies in the ledger and outlives this process, and so does
what is known of a destination that is down.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from cxr_triage.daemon import breaker
from cxr_triage.daemon.breaker import Stage
from cxr_triage.daemon.commitment.workers import commitment_workers
from cxr_triage.daemon.dicom_client import SUCCESS, Part10File
from cxr_triage.daemon.logs import describe_with_frames, get_logger
from cxr_triage.daemon.patience import Patience, is_spent, next_offer, pause, put_behind
from cxr_triage.daemon.roles import DELIVER
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.transport import Session, Transport, transport_of
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.model.errors import (
    DeclinedError,
    NotTakenError,
    OutOfResourcesError,
    RefusedError,
    ResultError,
    StaleAttemptError,
    StorageError,
    TriageError,
    UnreachableError,
)
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import Circuit, Delivery, DeliveryState
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Circuits, Dispatch, Housekeeping
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.result_records import ResultObject
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: Objects per association.
BATCH = 8
_MEND = "restore it from a backup, then replay"
_RANDOM = random.SystemRandom()


class Courier:
    """Brings one destination what is due for it."""

    def __init__(  # noqa: PLR0913 - all named, each another thing
        self,
        *,
        destination: str,
        transport: Transport,
        dispatch: Dispatch,
        circuits: Circuits,
        outbox: Outbox,
        owner_id: str,
        patience: Patience,
        clock: Clock = utc_now,
    ) -> None:
        self._destination = destination
        self._transport = transport
        self._dispatch = dispatch
        self._circuits = circuits
        self._outbox = outbox
        self._owner_id = owner_id
        self._patience = patience
        self._clock = clock
        self._wake = threading.Event()

    def wake(self) -> None:
        """Look for work now, unless the destination is being left alone."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`; whoever sets it calls `wake` too."""
        unsure = False
        while not stop.is_set():
            self._wake.clear()
            try:
                if unsure:  # what was claimed then would wait for the end of its lease
                    self._dispatch.give_back_forgotten(self._owner_id, self._destination)
                    unsure = False
                worked = self.deliver_batch(stop)
            except StorageError as error:
                log.exception("ledger not reached", destination=self._destination, exc_info=error)
                worked, unsure = False, True
            except Exception as error:  # noqa: BLE001 - the last line of defence: the other couriers go on
                log.error(  # noqa: TRY400 - never its own words
                    "delivery failed", destination=self._destination, exception=describe_with_frames(error)
                )
                worked, unsure = False, True
            if not worked:
                self._wake.wait(self._patience.poll.total_seconds())

    def deliver_batch(self, stop: threading.Event) -> bool:
        """Deliver what is due, in one exchange; returns whether there was anything to do.

        A destination that is left alone is not tried; one whose pause is over gets one object, or a C-ECHO.

        Raises:
            StorageError: the ledger could not be reached.
        """
        circuit = self._circuits.of(self._destination)
        stage = breaker.stage(circuit, now=self._clock(), longest=self._patience.longest)
        if stage is Stage.OPEN:
            return False
        claimed = self._dispatch.claim(self._owner_id, self._destination, BATCH if stage is Stage.CLOSED else 1)
        if stage is Stage.HALF_OPEN and not claimed:
            self._echo(circuit)
            return True
        batch = self._readable(claimed)
        if batch:
            self._send(batch, circuit, stop)
        return bool(claimed)

    def _echo(self, circuit: Circuit) -> None:
        """Ask a destination that failed, and for which nothing is due, whether it is there again."""
        try:
            self._transport.verify()
        except UnreachableError as error:
            self._failed(circuit, error, self._pause(circuit))
        except RefusedError:
            self._answered(circuit)
        else:
            self._answered(circuit)

    def _readable(self, claimed: Sequence[Delivery]) -> list[tuple[Delivery, Part10File]]:
        """Look at the files. What is wrong with one is no refusal by the destination, and the others go."""
        batch = []
        for delivery in claimed:
            try:
                batch.append((delivery, _file_of(delivery.object, self._outbox)))
            except OSError as error:
                self._unreadable(delivery, ResultError(f"its file in the outbox cannot be read ({error.strerror})"))
            except ResultError as error:
                self._unusable(delivery, error)
        return batch

    def _send(self, batch: Sequence[tuple[Delivery, Part10File]], circuit: Circuit, stop: threading.Event) -> None:
        """Begin an exchange and offer the objects in turn, until one gets no answer."""
        left = list(batch)
        # Drawn now, so that an object that is due with its destination is due when that is probed.
        pausing = self._pause(circuit)
        # Half of the lease: what was begun then has the other half to get its answer.
        until = time.monotonic() + self._dispatch.lease.total_seconds() / 2
        try:
            with self._transport.session([file for _, file in batch]) as session:
                while left and not stop.is_set():
                    begun = len(left) < len(batch)
                    # To end an association between two objects is its right.
                    if begun and not (session.is_open and time.monotonic() < until):
                        break
                    self._offer(session, *left.pop(0), circuit=circuit, pausing=pausing)
        except UnreachableError as error:
            self._dispatch.give_back([delivery for delivery, _ in left])
            self._failed(circuit, error, pausing)
        else:
            self._dispatch.give_back([delivery for delivery, _ in left])
            if len(left) < len(batch):
                self._answered(circuit)

    def _offer(
        self, session: Session, delivery: Delivery, file: Part10File, *, circuit: Circuit, pausing: timedelta
    ) -> None:
        """Send an object and record what became of it.

        Raises:
            UnreachableError: the destination gave no answer, or one that may be another one later; this is recorded.
        """
        try:
            status = _store(session, file)
        except NotTakenError as error:
            self._not_taken(delivery, error)
        except RefusedError as error:
            self._refused(delivery, error)
        except ResultError as error:
            self._unreadable(delivery, error)
        except OutOfResourcesError as error:
            # Due when its destination is probed: a C-ECHO would not show whether there is room again.
            self._put_off(delivery, error, pausing)
            raise
        except UnreachableError as error:
            # The others go first next time: it may be this very object that the destination cannot bear.
            failures = max(_interruptions(delivery) + 1, circuit.failures + 1)
            self._put_off(delivery, error, put_behind(failures, patience=self._patience))
            raise
        else:
            self._stored(delivery, status)

    def _stored(self, delivery: Delivery, status: int) -> None:
        if status != SUCCESS:
            log.warning("stored with a warning", status=f"0x{status:04X}", **delivery.log_context())
        with _unless_taken_over(delivery):
            self._dispatch.record_stored(delivery)
        log.info("object delivered", **delivery.log_context())

    def _refused(self, delivery: Delivery, error: RefusedError) -> None:
        """Offer it again a few times, soon: whoever answers so will answer so tomorrow."""
        retry_at = next_offer(delivery.refusals + 1, now=self._clock(), patience=self._patience)
        if retry_at is None and isinstance(error, DeclinedError):
            self._not_taken(delivery, error)
            return
        with _unless_taken_over(delivery):
            self._dispatch.record_refused(delivery, error=str(error), retry_at=retry_at)
        if retry_at is None:
            _log_given_up(delivery, error)
        else:
            log.warning("object refused", reason=str(error), **delivery.log_context())

    def _not_taken(self, delivery: Delivery, error: RefusedError) -> None:
        """Leave it at that: it is no fault of the object's, and the report role sees to what is sent instead."""
        log.warning("object not taken", reason=str(error), **delivery.log_context())
        with _unless_taken_over(delivery):
            self._dispatch.record_not_taken(delivery, error=str(error))

    def _unreadable(self, delivery: Delivery, error: ResultError) -> None:
        """Wait for a file that a disk or a mount may give back."""
        self._put_off(delivery, error, pause(_interruptions(delivery) + 1, patience=self._patience, jitter=0))

    def _unusable(self, delivery: Delivery, error: ResultError) -> None:
        """Give up at once what no waiting brings back; a person may, from a backup, and then replay it."""
        with _unless_taken_over(delivery):
            self._dispatch.record_dead(delivery, str(error))
        _log_given_up(delivery, error)

    def _put_off(self, delivery: Delivery, error: TriageError, delay: timedelta) -> None:
        """Try it again later, or give it up when that has been said for too long."""
        now, tries = self._clock(), _interruptions(delivery) + 1
        if is_spent(delivery.pending_since, tries, now=now, patience=self._patience):
            reason = self._given_up_because(error)
            with _unless_taken_over(delivery):
                self._dispatch.record_dead(delivery, reason)
            _log_given_up(delivery, ResultError(reason))
            return
        log.warning("object not delivered", reason=str(error), **delivery.log_context())
        with _unless_taken_over(delivery):
            self._dispatch.record_attempt_failed(delivery, error=str(error), retry_at=now + delay)

    def _pause(self, circuit: Circuit) -> timedelta:
        return pause(circuit.failures + 1, patience=self._patience, jitter=_RANDOM.random())

    def _failed(self, circuit: Circuit, error: UnreachableError, pausing: timedelta) -> None:
        """Leave the destination alone for a while, and give up what has waited for it for too long."""
        now = self._clock()
        opened = breaker.after_failure(circuit, str(error), now=now, pause=pausing)
        self._circuits.record(self._destination, before=circuit, after=opened, actor=self._owner_id)
        log.warning(
            "destination left alone",
            destination=self._destination,
            reason=str(error),
            failures=opened.failures,
            seconds=round(pausing.total_seconds(), 1),
        )
        if opened.changed_at and is_spent(opened.changed_at, opened.failures, now=now, patience=self._patience):
            self._give_up_aged(error)

    def _give_up_aged(self, error: UnreachableError) -> None:
        before = self._clock() - self._patience.give_up_after
        reason = self._given_up_because(error)
        count = self._dispatch.give_up(self._destination, pending_since=before, error=reason)
        if count:
            log.error("objects given up", destination=self._destination, count=count, reason=reason)

    def _answered(self, circuit: Circuit) -> None:
        """Close the circuit, if it was not."""
        if circuit.is_open:
            closed = breaker.after_success(self._clock())
            self._circuits.record(self._destination, before=circuit, after=closed, actor=self._owner_id)
            log.info("destination reached again", destination=self._destination)

    def _given_up_because(self, error: TriageError) -> str:
        hours = self._patience.give_up_after / timedelta(hours=1)
        return f"given up after {hours:g} h: {error}"


def _store(session: Session, file: Part10File) -> int:
    """Send an object; what nobody foresaw counts as no answer, and costs time and not the courier.

    Raises:
        TriageError: as `Session.store`.
    """
    try:
        return session.store(file)
    except TriageError:
        raise
    except Exception as error:  # noqa: BLE001 - one odd answer must not end the courier
        log.error("sending failed", exception=describe_with_frames(error))  # noqa: TRY400 - never its own words
        raise UnreachableError(f"sending ended in {type(error).__name__}") from None


def _interruptions(delivery: Delivery) -> int:
    """How often it got no answer, or one that may be another one later."""
    return delivery.failures - delivery.refusals


def _file_of(made: ResultObject, outbox: Outbox) -> Part10File:
    """Find the file of an object, and look whether it holds what was made: a PACS must get nothing else under its UID.

    Raises:
        OSError: the file cannot be read now.
        ResultError: it is gone or damaged.
    """
    if outbox.is_gone(made.path):
        raise ResultError(f"its file in the outbox is gone: {_MEND}")
    try:
        file = Part10File.read(outbox.absolute(made.path))
    except ResultError as error:
        raise ResultError(f"its file in the outbox is damaged: {_MEND}") from error
    if not file.holds(sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid, sha256=made.sha256):
        raise ResultError(f"its file in the outbox is damaged: {_MEND}")
    return file


def _log_given_up(delivery: Delivery, error: TriageError) -> None:
    log.error("object given up", reason=str(error), **delivery.log_context())


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
        circuits = Circuits(database, clock=clock)
        couriers = [
            Courier(
                destination=destination.name,
                transport=transport_of(destination, settings),
                dispatch=dispatch,
                circuits=circuits,
                outbox=Outbox(settings.outbox_folder, clock=clock),
                owner_id=owner.id,
                patience=_patience(settings),
                clock=clock,
            )
            for destination in settings.destinations
        ]
        try:
            _warn_of_the_unconfigured(settings, Housekeeping(database, clock=clock))
            with Doorbell.listen(settings.run_folder, DELIVER) as bell:
                _run_all([*couriers, *commitment_workers(settings, database, owner.id)], bell, stop, ready)
        finally:
            database.close()
            owner.release()


def _warn_of_the_unconfigured(settings: Settings, housekeeping: Housekeeping) -> None:
    """Say what nobody will send: it stays until its destination is configured again."""
    configured = {destination.name for destination in settings.destinations}
    for name, counts in housekeeping.counts().deliveries.items():
        if name not in configured and counts[DeliveryState.PENDING]:
            log.warning(
                "objects wait for a destination that is not configured",
                destination=name,
                count=counts[DeliveryState.PENDING],
            )


def _patience(settings: Settings) -> Patience:
    deliver = settings.deliver
    return Patience(
        first=timedelta(seconds=deliver.retry_first_seconds),
        longest=timedelta(seconds=deliver.retry_longest_seconds),
        maximum_refusals=deliver.maximum_refusals,
        give_up_after=timedelta(hours=deliver.give_up_after_hours),
        poll=timedelta(seconds=deliver.poll_seconds),
    )


class _Worker(Protocol):
    """What runs in a thread of the role."""

    def wake(self) -> None: ...
    def run(self, stop: threading.Event) -> None: ...


def _run_all(couriers: Sequence[_Worker], bell: Doorbell, stop: threading.Event, ready: Callable[[], None]) -> None:
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
