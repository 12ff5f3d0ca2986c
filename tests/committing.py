"""Peers of storage commitment, and a service that talks to them: shared by the tests of both directions."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event, EventHandlerType

from cxr_triage.daemon.commitment.messages import (
    SOP_CLASS,
    SOP_INSTANCE,
    read_report,
    read_request,
    report_data_set,
    request_data_set,
)
from cxr_triage.daemon.deliver import DeliverRole
from cxr_triage.daemon.dicom_server import VERIFICATION
from cxr_triage.daemon.receive import ReceiveRole
from cxr_triage.daemon.settings import Settings
from cxr_triage.storage.commitment_records import CommitmentReport, CommitmentState, Failure, Reference
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Housekeeping
from cxr_triage.storage.ledger.commitments import count_commitments
from cxr_triage.storage.result_records import ResultObject
from deliveries import SOP_CLASSES, report_study
from peers import LOOPBACK, free_port, running

SUCCESS = 0x0000
LEASE = timedelta(minutes=5)


@dataclass
class Site:
    """A service with a ledger, an outbox and a port; its roles run in threads of the test."""

    folder: Path
    url: str
    database: Database
    port: int = field(default_factory=free_port)

    @property
    def outbox(self) -> Outbox:
        """Where finished objects lie."""
        return Outbox(self.folder / "outbox")

    def settings(self, pacs_port: int, *, commitment: bool = True, **tables: dict[str, Any] | list[Any]) -> Settings:
        """Configure it, so quick that tests need not wait; `tables` add to what is said here."""
        dicom, deliver = tables.pop("dicom", {}), tables.pop("deliver", {})
        assert isinstance(dicom, dict)
        assert isinstance(deliver, dict)
        hasty = {
            "poll_seconds": 0.05,
            "retry_first_seconds": 0.05,
            "retry_longest_seconds": 0.2,
            "commitment_delay_seconds": 0.01,
            "commitment_wait_seconds": 0.2,
            "acse_timeout_seconds": 2,
            "dimse_timeout_seconds": 2,
        }
        pacs = {
            "name": "pacs",
            "ae_title": "PACS",
            "host": LOOPBACK,
            "port": pacs_port,
            "commitment": commitment,
        }
        return Settings.model_validate(
            {
                "storage": {"root": self.folder, "database": self.url, "minimum_free_megabytes": 0},
                "dicom": {"port": self.port, **dicom},
                "deliver": {**hasty, **deliver},
                "destination": [pacs],
                **tables,
            }
        )

    def report(self) -> list[ResultObject]:
        """Make a study whose SEG and SR are due at the PACS."""
        return report_study(self.database, self.outbox, ["pacs"])

    def states(self) -> dict[DeliveryState, int]:
        """How many deliveries to the PACS are in each state."""
        counted = Housekeeping(self.database).counts().deliveries.get("pacs", {})
        return {state: number for state, number in counted.items() if number}

    def requests(self) -> dict[CommitmentState, int]:
        """How many requests to the PACS are in each state."""
        counted = count_commitments(self.database).requests.get("pacs", {})
        return {state: number for state, number in counted.items() if number}


@contextmanager
def roles(settings: Settings, *, receive: bool = True, deliver: bool = True) -> Iterator[None]:
    """Run the two roles that storage commitment concerns."""
    wanted = [ReceiveRole(settings).run] * receive + [DeliverRole(settings).run] * deliver
    settings.prepare_folders()
    with ExitStack() as stack:
        for run in wanted:
            stack.enter_context(running(run))
        yield


@dataclass
class Peer:
    """A PACS or a modality of the test's own: it stores, and answers as it is told."""

    ae_title: str = "PACS"
    #: Answer to N-ACTION and N-EVENT-REPORT, in turn; the last for ever after.
    statuses: list[int] = field(default_factory=lambda: [SUCCESS])
    #: Offers storage commitment; as acceptor, lets a requestor be SCP.
    offers: bool = True
    takes_scp: bool = True
    #: Ends the association instead of answering.
    aborts: bool = False
    #: Reports on the association on which it was asked.
    same_association: bool = False
    #: What it was asked and told, in the order in which it came; how often each object was stored.
    asked: list[tuple[str, tuple[Reference, ...]]] = field(default_factory=list)
    told: list[CommitmentReport] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    #: What a report on the same association was answered.
    answers: list[int] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @contextmanager
    def serving(self) -> Iterator["Peer"]:
        """Serve for as long as the block lasts."""
        ae = AE(self.ae_title)
        for uid in (VERIFICATION, *SOP_CLASSES.values()):
            ae.add_supported_context(uid)
        if self.offers:
            role = True if self.takes_scp else None
            ae.add_supported_context(SOP_CLASS, scu_role=role, scp_role=role)
        server = ae.start_server((LOOPBACK, self.port), block=False, evt_handlers=self.handlers)
        assert server is not None
        try:
            yield self
        finally:
            server.shutdown()

    @property
    def handlers(self) -> list[EventHandlerType]:
        """What it does on whichever association."""
        return [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._take_request),
            (evt.EVT_N_EVENT_REPORT, self._take_report),
        ]

    def _take_report(self, event: Event) -> tuple[int, None]:
        """Take an N-EVENT-REPORT."""
        self.told.append(read_report(event.event_information))
        return self._status(event), None

    def _store(self, event: Event) -> int:
        self.stored.append(str(event.request.AffectedSOPInstanceUID))  # type: ignore[union-attr]
        return SUCCESS

    def _take_request(self, event: Event) -> tuple[int, None]:
        uid, references = read_request(event.action_information)
        self.asked.append((uid, tuple(references)))
        status = self._status(event)
        if self.same_association and status == SUCCESS:
            threading.Thread(target=self._report_here, args=(event.assoc, *self.asked[-1])).start()
        return status, None

    def _report_here(self, association: Association, uid: str, references: tuple[Reference, ...]) -> None:
        threading.Event().wait(0.05)  # until the answer has left
        self.answers.append(send_report(association, all_committed(uid, references)))

    def _status(self, event: Event) -> int:
        if self.aborts:
            event.assoc.abort()
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]


def all_committed(uid: str, references: Iterable[Reference]) -> CommitmentReport:
    """Report a transaction as done."""
    return CommitmentReport(transaction_uid=uid, committed=tuple(references), failed=())


def all_failed(uid: str, references: Iterable[Reference], reason: int) -> CommitmentReport:
    """Report a transaction as failed."""
    failed = tuple(Failure(each, reason) for each in references)
    return CommitmentReport(transaction_uid=uid, committed=(), failed=failed)


@contextmanager
def calling(
    port: int,
    ae_title: str,
    *,
    scp_role: bool = False,
    handlers: Sequence[EventHandlerType] = (),
    called: str = "CXRTRIAGE",
) -> Iterator[Association]:
    """Call a service for Verification and storage commitment, by default as SCU."""
    association = AE(ae_title).associate(
        LOOPBACK,
        port,
        contexts=[build_context(VERIFICATION), build_context(SOP_CLASS)],
        ae_title=called,
        ext_neg=[build_role(SOP_CLASS, scp_role=True)] if scp_role else [],
        evt_handlers=list(handlers),
    )
    assert association.is_established
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def may(association: Association, role: str) -> bool:
    """Whether the caller got storage commitment in a role, "scu" or "scp"."""
    contexts = [each for each in association.accepted_contexts if each.abstract_syntax == SOP_CLASS]
    return any(getattr(each, f"as_{role}") for each in contexts)


def send_report(association: Association, report: CommitmentReport, *, instance: str = SOP_INSTANCE) -> int:
    """Send an N-EVENT-REPORT; gives the status."""
    event_type, event = report_data_set(report)
    answer, _ = association.send_n_event_report(event, event_type, SOP_CLASS, instance)
    return int(answer.Status)


def report_to(port: int, report: CommitmentReport, *, ae_title: str = "PACS", scp_role: bool = True) -> int:
    """Report on an association of its own, as most PACS do; gives the status."""
    with calling(port, ae_title, scp_role=scp_role) as association:
        return send_report(association, report)


def ask(association: Association, uid: str, references: Iterable[Reference], *, action_type: int = 1) -> Dataset:
    """Ask for commitment as a modality does; gives the answer."""
    answer, _ = association.send_n_action(request_data_set(uid, references), action_type, SOP_CLASS, SOP_INSTANCE)
    return answer
