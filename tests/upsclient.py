"""A system that works with procedure steps by DIMSE: claims, completes and cancels them, and takes their events."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.events import Event

from cxr_triage.daemon.ups.port import EVENT, OFFERED, PUSH
from peers import LOOPBACK, PATIENCE_SECONDS
from placing import performed


@dataclass
class Client:
    """One association with our port."""

    association: Association

    def create(self, step: Dataset, uid: str | None = None) -> tuple[int, str]:
        """Place a step; gives the status and its UID, which the answer names where we did not."""
        uid = uid or generate_uid()
        answer, _ = self.association.send_n_create(step, PUSH, uid)
        return int(answer.Status), uid

    def get(self, uid: str, *tags: BaseTag) -> tuple[int, Dataset | None]:
        """Read a step."""
        answer, found = self.association.send_n_get(list(tags), PUSH, uid)
        return int(answer.Status), found

    def state(self, uid: str) -> str:
        """Read a step's state."""
        _, found = self.get(uid, BaseTag(0x00741000))
        assert found is not None
        return str(found.ProcedureStepState)

    def set(self, uid: str, modifications: Dataset, transaction: str | None = None) -> int:
        """Set attributes."""
        if transaction:
            modifications.TransactionUID = transaction
        answer, _ = self.association.send_n_set(modifications, PUSH, uid)
        return int(answer.Status)

    def act(self, uid: str, action: int, **information: object) -> int:
        """Send an N-ACTION."""
        data = Dataset()
        for keyword, value in information.items():
            setattr(data, keyword, value)
        answer, _ = self.association.send_n_action(data if information else None, action, PUSH, uid)
        return int(answer.Status)

    def change(self, uid: str, state: str, transaction: str | None) -> int:
        """Change the state."""
        uids = {"TransactionUID": transaction} if transaction else {}
        return self.act(uid, 1, ProcedureStepState=state, **uids)

    def complete(self, uid: str, transaction: str) -> int:
        """Complete a step, with what it needs."""
        assert self.set(uid, performed(), transaction) == 0
        return self.change(uid, "COMPLETED", transaction)

    def find(self, model: str = OFFERED[2], **keys: object) -> list[Dataset]:
        """Query."""
        identifier = Dataset()
        for keyword, value in keys.items():
            setattr(identifier, keyword, value)
        return [found for _, found in self.association.send_c_find(identifier, model) if found is not None]


@contextmanager
def client(port: int, ae_title: str = "READER1") -> Iterator[Client]:
    """Hold an association with all that we are offered."""
    entity = AE(ae_title)
    for context in OFFERED:
        entity.add_requested_context(context)
    association = entity.associate(LOOPBACK, port, ae_title="CXRLIST")
    assert association.is_established
    try:
        yield Client(association)
    finally:
        association.release()


def answers(port: int) -> bool:
    """Whether somebody accepts connections on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass
class Watcher:
    """Takes events, each answered with what `answer` gives."""

    answer: Callable[[], int] = lambda: 0
    #: (message ID, type, SOP Instance UID, state told)
    events: list[tuple[int, int, str, str]] = field(default_factory=list)
    #: Their Event Information.
    information: list[Dataset] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def take(self, event: Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT."""
        request = event.request
        assert isinstance(request, N_EVENT_REPORT)
        assert request.MessageID is not None
        information = event.event_information
        told = str(information.get("ProcedureStepState", ""))
        with self.came:
            self.information.append(information)
            self.events.append(
                (request.MessageID, int(event.event_type or 0), str(request.AffectedSOPInstanceUID), told)
            )
            self.came.notify_all()
        return self.answer(), None

    def wait(self, count: int) -> list[tuple[int, str]]:
        """Wait for so many events; gives the type and the state that each tells of."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.events) >= count, PATIENCE_SECONDS), self.events
            return [(kind, state) for _, kind, _, state in self.events]


@contextmanager
def watching(watcher: Watcher, port: int, ae_title: str = "WATCHER", *, scp_role: bool = True) -> Iterator[None]:
    """Let a watcher take events on a port, from whom it lets be SCP where it does."""
    entity = AE(ae_title)
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.add_supported_context(EVENT, scu_role=not scp_role, scp_role=scp_role)
    server = entity.start_server((LOOPBACK, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, watcher.take)])
    assert server is not None
    try:
        yield
    finally:
        server.shutdown()
