"""Storage commitment in one line each: objects and images that destinations are asked for, and modalities that ask."""

from datetime import datetime, timedelta

from sqlalchemy import select

from cxr_triage.storage.commitment_records import (
    CommitmentReport,
    CommitmentRequest,
    CommitmentState,
    Failure,
    ModalityReport,
    ModalityRequest,
    ModalityRequestState,
    Reception,
    Reference,
    Subject,
)
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Delivery, DeliveryState
from cxr_triage.storage.image_records import ReceivedInstance
from cxr_triage.storage.ledger import Commitments, ModalityCommitments
from cxr_triage.storage.ledger.commitments import count_commitments
from cxr_triage.storage.schema import DeliveryRow
from steps import LEASE, Steps

OWNER = "deliver-1-host-1"


RECEIVER = "receive-2-host-1"


HOUR = timedelta(hours=1)


SETTLE = timedelta(seconds=30)


#: As often as a destination may answer that it does not commit.
MAXIMUM_FAILURES = 3


MODALITY = "XRAY1"


class Commitment:
    """Storage commitment on a ledger where one study's SEG and SR are stored at two destinations."""

    def __init__(self, database: Database, steps: Steps) -> None:
        self.database = database
        self.steps = steps
        self.clock = steps.clock
        self.commitments = Commitments(database, lease=LEASE, clock=steps.clock)
        self.modalities = ModalityCommitments(database, lease=LEASE, clock=steps.clock)

    def store_results(self, study: str = "1.1") -> None:
        """Report a study, and have its objects stored everywhere for long enough."""
        self.steps.score(study)
        self.steps.report(study, ("pacs", "air"), ("archive", "air"))
        self.deliver("pacs")
        self.deliver("archive")
        self.clock.move(SETTLE)

    def deliver(self, destination: str) -> list[Delivery]:
        """Send what is due."""
        sent: list[Delivery] = []
        while due := self.steps.dispatch.claim(OWNER, destination, 10):
            for delivery in due:
                self.steps.dispatch.record_stored(delivery)
            sent += due
        return sent

    def plan(self, destination: str = "pacs", limit: int = 100, owner: str = OWNER) -> CommitmentRequest | None:
        """Write the next request down."""
        return self.commitments.plan(owner, destination, limit=limit, settle=SETTLE, subjects=set(Subject))

    def request(self, destination: str = "pacs") -> CommitmentRequest:
        """Write the next request down, which the destination takes."""
        request = self.plan(destination)
        assert request is not None
        assert self.commitments.record_requested(request, report_until=self.clock() + 6 * HOUR)
        return request

    def take(
        self,
        request: CommitmentRequest,
        *,
        failed: dict[Reference, int] | None = None,
        of: tuple[Reference, ...] | None = None,
        destinations: frozenset[str] = frozenset({"pacs"}),
    ) -> Reception:
        """Let the report for a request come in: all committed, but for those that failed."""
        failed = failed or {}
        report = CommitmentReport(
            transaction_uid=request.transaction_uid,
            committed=tuple(each for each in (of or request.references) if each not in failed),
            failed=tuple(Failure(each, reason) for each, reason in failed.items()),
        )
        return self.record(report, destinations)

    def record(self, report: CommitmentReport, destinations: frozenset[str] = frozenset({"pacs"})) -> Reception:
        """Let a report come in."""
        return self.commitments.record_report(
            report, destinations=destinations, resend_at=self.resend_at, ask_again_at=self.ask_again_at
        )

    def resend_at(self, failures: int) -> datetime | None:
        """Give up at the third failure."""
        return None if failures >= MAXIMUM_FAILURES else self.clock() + timedelta(minutes=1)

    def ask_again_at(self, failures: int) -> datetime:
        """Later each time."""
        return self.clock() + failures * timedelta(minutes=1)

    def states(self, destination: str = "pacs") -> dict[DeliveryState, int]:
        """How many deliveries are in each state."""
        counted = self.steps.housekeeping.counts().deliveries[destination]
        return {state: number for state, number in counted.items() if number}

    def requests(self, destination: str = "pacs") -> dict[CommitmentState, int]:
        """How many requests are in each state."""
        counted = count_commitments(self.database).requests.get(destination, {})
        return {state: number for state, number in counted.items() if number}

    def errors(self) -> set[str | None]:
        """What the ledger says went wrong last with the deliveries to the one destination."""
        with self.database.read() as session:
            return set(session.scalars(select(DeliveryRow.last_error).where(DeliveryRow.destination == "pacs")))

    def ask(self, *references: Reference, uid: str = "1.2.3.4", modality: str = MODALITY) -> ModalityReport | None:
        """Ask as a modality does."""
        request = ModalityRequest(
            transaction_uid=uid,
            calling_ae_title=modality,
            references=references,
            received_at=self.clock(),
        )
        return self.modalities.record_request(request, RECEIVER)

    def due(self, modality: str = MODALITY) -> ModalityReport | None:
        """Claim what a modality is to be told."""
        return self.modalities.claim_report(OWNER, modality)

    def modality_states(self) -> dict[ModalityRequestState, int]:
        """How many requests of modalities are in each state."""
        return {state: number for state, number in count_commitments(self.database).modality_requests.items() if number}


def reference(image: ReceivedInstance) -> Reference:
    """Refer to an image."""
    return Reference(image.sop_class_uid, image.sop_instance_uid)


def report_of(uid: str, *committed: Reference, failed: tuple[Failure, ...] = ()) -> CommitmentReport:
    """Make a report."""
    return CommitmentReport(transaction_uid=uid, committed=committed, failed=failed)
