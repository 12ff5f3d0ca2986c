"""Asks the RIS for the orders of studies that came without one; their place on the list does not wait for it."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from cxr_triage.daemon import breaker
from cxr_triage.daemon.breaker import RIS, Stage
from cxr_triage.daemon.logs import describe_with_frames, get_logger
from cxr_triage.daemon.orders.asking import ask, ris
from cxr_triage.daemon.patience import Patience, is_spent, pause
from cxr_triage.daemon.roles import ORDERS
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.model.errors import RefusedError, StaleAttemptError, StorageError, TriageError, UnreachableError
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger import Circuits, Inquiries
from cxr_triage.storage.order_records import Identity, Inquiry, Order
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.service_clock import ServiceClock

log = get_logger(__name__)

#: Longer than two questions can take.
LEASE: Final = timedelta(minutes=10)
_RANDOM: Final = random.SystemRandom()

#: Asks what was ordered for a study; empty: the RIS does not say.
Ask = Callable[[Identity], Sequence[Order]]


class Inquirer:
    """Asks about one study after the other, the RIS as a whole being left alone after failures."""

    def __init__(
        self,
        *,
        ask: Ask,
        inquiries: Inquiries,
        circuits: Circuits,
        policy: Policy,
        owner_id: str,
        patience: Patience,
        clock: Clock = utc_now,
    ) -> None:
        self._ask = ask
        self._inquiries = inquiries
        self._circuits = circuits
        self._policy = policy
        self._owner_id = owner_id
        self._patience = patience
        self._clock = clock

    def ask_next(self) -> bool:
        """Ask about the next study that is due; whether to go on at once.

        Not where the RIS is left alone, nor after a study that was answered before: a long list of those is asked for
        at the pace at which the role looks for work, so that the load on the RIS is bounded.

        Raises:
            StorageError: the ledger could not be reached.
        """
        circuit = self._circuits.of(RIS)
        if breaker.stage(circuit, now=self._clock(), longest=self._patience.longest) is Stage.OPEN:
            return False
        inquiry = self._inquiries.claim(self._owner_id)
        if inquiry is None:
            return False
        with _unless_taken_over(inquiry):
            try:
                orders = _asked(self._ask, inquiry)
            except (UnreachableError, RefusedError) as error:
                self._failed(circuit, error)
                self._put_off(inquiry, str(error))
            else:
                self._answered(circuit)
                self._record(inquiry, orders)
        return not inquiry.is_answered

    def _record(self, inquiry: Inquiry, orders: Sequence[Order]) -> None:
        if not orders:
            self._put_off(inquiry, "the RIS has no entry with a priority for it")
        elif self._inquiries.record_answer(
            inquiry, orders, self._policy, retry_at=self._next(inquiry), again_at=self._next_again()
        ):
            log.info("order known", answers=len(orders), **inquiry.log_context())
        else:
            log.warning("RIS names another patient", answers=len(orders), **inquiry.log_context())

    def _put_off(self, inquiry: Inquiry, reason: str) -> None:
        """Ask again later, or no more: what is ordered stays."""
        retry_at = self._next(inquiry)
        self._inquiries.record_unanswered(inquiry, error=reason, retry_at=retry_at)
        told = "order not known" if retry_at or inquiry.is_answered else "order not known, given up"
        log.info(told, reason=reason, asked=inquiry.failures + 1, **inquiry.log_context())

    def _next(self, inquiry: Inquiry) -> datetime | None:
        """Say when to ask again after this attempt; None: it has been asked for long enough."""
        if inquiry.is_answered:
            return self._next_again()
        now, tries = self._clock(), inquiry.failures + 1
        if is_spent(inquiry.since, tries, now=now, patience=self._patience):
            return None
        return now + pause(tries, patience=self._patience, jitter=0)

    def _next_again(self) -> datetime | None:
        again = self._patience.again
        return self._clock() + again if again else None

    def _failed(self, circuit: Circuit, error: TriageError) -> None:
        pausing = pause(circuit.failures + 1, patience=self._patience, jitter=_RANDOM.random())
        opened = breaker.after_failure(circuit, str(error), now=self._clock(), pause=pausing)
        self._circuits.record(RIS, before=circuit, after=opened, actor=self._owner_id)
        log.warning("RIS left alone", reason=str(error), seconds=round(pausing.total_seconds(), 1))

    def _answered(self, circuit: Circuit) -> None:
        if circuit.is_open:
            self._circuits.record(RIS, before=circuit, after=breaker.after_success(self._clock()), actor=self._owner_id)
            log.info("RIS reached again")


def _asked(ask: Ask, inquiry: Inquiry) -> Sequence[Order]:
    """Ask; what nobody foresaw counts as no answer, and costs time and not the role.

    Raises:
        UnreachableError: there was no answer.
        RefusedError: it was refused.
    """
    try:
        return ask(inquiry.about)
    except TriageError:
        raise
    except Exception as error:  # noqa: BLE001 - one odd answer must not end the role
        log.error("asking failed", exception=describe_with_frames(error))  # noqa: TRY400 - never its own words
        raise UnreachableError(f"asking ended in {type(error).__name__}") from None


@contextmanager
def _unless_taken_over(inquiry: Inquiry) -> Iterator[None]:
    """Write a transition; where a later attempt took over, that one answers for the study."""
    try:
        yield
    except StaleAttemptError:
        log.warning("inquiry taken over", **inquiry.log_context())


class OrdersRole:
    """The inquirer as a process of its own. Several daemons on one Postgres take turns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Ask until `stop` is set; what is being asked then is finished."""
        settings = self._settings
        owner = Owner.take(settings.run_folder, ORDERS)
        database, clock = open_database(settings.database_url), ServiceClock.of(settings.run_folder)
        inquirer = Inquirer(
            ask=partial(ask, ris(settings), clock=clock),
            inquiries=Inquiries(database, lease=LEASE, clock=clock),
            circuits=Circuits(database, clock=clock),
            policy=settings.policy(),
            owner_id=owner.id,
            patience=patience(settings),
            clock=clock,
        )
        try:
            with Doorbell.listen(settings.run_folder, ORDERS) as bell:
                ready()
                while not stop.is_set():
                    if not _tried(inquirer):
                        bell.wait(settings.ris.poll_seconds)
        finally:
            database.close()
            owner.release()


def _tried(inquirer: Inquirer) -> bool:
    try:
        return inquirer.ask_next()
    except StorageError as error:
        log.exception("ledger not reached", exc_info=error)
        return False


def patience(settings: Settings) -> Patience:
    """How long a study is asked for, and how often."""
    return Patience(
        first=timedelta(seconds=settings.ris.interval_seconds),
        longest=timedelta(seconds=settings.ris.interval_longest_seconds),
        give_up_after=timedelta(hours=settings.ris.give_up_hours),
        poll=timedelta(seconds=settings.ris.poll_seconds),
        again=timedelta(minutes=settings.ris.ask_again_minutes),
    )
