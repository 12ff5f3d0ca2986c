"""Tells subscribers of events: N-EVENT-REPORT as SCP, on associations that we open (PS3.4 CC.2.4)."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from cxr_triage.daemon.commitment.event_reports import Insistence, may_report, send_event_report
from cxr_triage.daemon.dicom_client import Peer, connected
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.lookout import Lookout
from cxr_triage.daemon.ups.port import EVENT, PUSH
from cxr_triage.daemon.ups.statuses import SUCCESS
from cxr_triage.model.errors import DeliveryError, RefusedError, StaleAttemptError, UnreachableError
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.step_records import UPS_FACE, Announcement, value_of

log = get_logger(__name__)

#: PS3.4 CC.2.4: who reports is SCP, also where it opens the association (PS3.7 D.3.3.4).
REPORTING_ROLE: Final = build_role(EVENT, scp_role=True)
#: PS3.7 Annex C: a report that is no success, and none of these, would be refused again.
_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116, *range(0xB000, 0xC000)})


class Announcer(Lookout):
    """Tells one subscriber, one event after the other: none overtakes another that is not taken yet."""

    def __init__(
        self,
        *,
        peer: Peer,
        announcements: Announcements,
        owner_id: str,
        insistence: Insistence,
        before: Callable[[], None],
        clock: Clock = utc_now,
    ) -> None:
        """Make it.

        Args:
            peer: the subscriber.
            announcements: of the ledger.
            owner_id: of this process.
            insistence: how long, and how often.
            before: what is done before each look for work.
            clock: gives the present.
        """
        super().__init__(poll=insistence.poll, receiver=peer.ae_title)
        self._peer = peer
        self._announcements = announcements
        self._owner_id = owner_id
        self._insistence = insistence
        self._before = before
        self._clock = clock

    def look(self, stop: threading.Event) -> bool:
        """See `Lookout`."""
        self._before()
        return self.tell_next(stop)

    def tell_next(self, stop: threading.Event) -> bool:
        """Tell all events that are due, on one association; returns whether there were any that were taken.

        Raises:
            StorageError: the ledger could not be reached.
        """
        told = self._claim()
        if told is None:
            return False
        try:
            with connected(self._peer, event_contexts(), roles=[REPORTING_ROLE]) as association:
                if not may_report(association, EVENT):
                    raise UnreachableError(f"{self._peer} does not let us be SCP of UPS events (role selection)")
                while told is not None:
                    self._tell(association, told)
                    told = None if stop.is_set() else self._claim()
        except DeliveryError as error:
            assert told is not None
            self._put_off(told, error)
            return isinstance(error, RefusedError)
        except StaleAttemptError:
            log.warning("event report taken over", receiver=self._peer.ae_title)
        return True

    def _claim(self) -> Announcement | None:
        return self._announcements.claim(self._owner_id, UPS_FACE, self._peer.ae_title)

    def _tell(self, association: Association, told: Announcement) -> None:
        report(association, told.payload, str(self._peer))
        self._announcements.record_acknowledged(told)
        log.info("subscriber told of an event", **told.log_context())

    def _put_off(self, told: Announcement, error: DeliveryError) -> None:
        """Try again later; what the subscriber refuses, or did not take for so long, is given up."""
        now = self._clock()
        gives_up = isinstance(error, RefusedError) or now >= told.created_at + self._insistence.give_up
        retry_at = None if gives_up else now + self._insistence.persistence.pause(told.failures + 1)
        log.warning("subscriber not told of an event", reason=str(error), gives_up=gives_up, **told.log_context())
        try:
            self._announcements.record_failure(told, error=str(error), retry_at=retry_at)
        except StaleAttemptError:
            log.warning("event report taken over", receiver=self._peer.ae_title)


def event_contexts() -> list[PresentationContext]:
    """Verification beside it, which every application has: so an association says what is not offered."""
    return [build_context(VERIFICATION), build_context(EVENT)]


def report(association: Association, payload: bytes, who: str) -> None:
    """Send an N-EVENT-REPORT, and wait for the answer.

    Raises:
        RefusedError: the answer is a failure.
        UnreachableError: there was no answer.
    """
    message = json.loads(payload)
    given = {tag: each for tag, each in message.items() if not tag.startswith("0000")}
    information = Dataset.from_json(given)
    if not json.dumps(given, ensure_ascii=False).isascii():
        # PS3.3 C.12.1.1.2: required where text is not in the default repertoire, in a message as in an object.
        information.SpecificCharacterSet = "ISO_IR 192"
    status = send_event_report(
        association,
        information,
        value_of(message, "00001002"),
        PUSH,
        value_of(message, "00001000"),
        msg_id=value_of(message, "00000110"),
        who=who,
        what="event report",
    )
    if status != SUCCESS and status not in _WARNINGS:
        raise RefusedError(f"{who} answered the event report with status 0x{status:04X}")


@contextmanager
def announcing(announcers: Sequence[Announcer]) -> Iterator[Callable[[], None]]:
    """Let them work until the block ends; gives what wakes them."""
    stop = threading.Event()
    threads = [threading.Thread(target=each.run, args=[stop], name="ups-events") for each in announcers]

    def wake() -> None:
        for each in announcers:
            each.wake()

    for thread in threads:
        thread.start()
    try:
        yield wake
    finally:
        stop.set()
        wake()
        for thread in threads:
            thread.join()
