"""Results that wait for a PACS, senders for them, and a PACS whose answers a test decides."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom import build_context, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import split_dataset
from pynetdicom.events import Event
from sqlalchemy import select

from builders import instance_header, prediction, radiograph_dataset, received_instance, store_file
from cxr_triage.daemon.deliver import Courier
from cxr_triage.daemon.dicom_client import DicomTransport, Peer
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.patience import Patience
from cxr_triage.daemon.results.finishing import encode
from cxr_triage.model.priority import Policy
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit, DeliveryState
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Circuits, Dispatch, Housekeeping, Intake, Reporting, Scoring
from cxr_triage.storage.result_records import ObjectKind, ResultObject
from cxr_triage.storage.schema import AuditRow, DeliveryRow
from cxr_triage.storage.upkeep_records import Counts
from peers import LOOPBACK, running, serving

LEASE = timedelta(minutes=5)
#: So quick that tests need not wait, and patient enough that they cannot outrun it.
HASTY = Patience(
    first=timedelta(milliseconds=10),
    longest=timedelta(milliseconds=20),
    maximum_refusals=3,
    poll=timedelta(milliseconds=10),
)
SOP_CLASSES = {ObjectKind.SEG: SegmentationStorage, ObjectKind.SR: Comprehensive3DSRStorage}
NEVER = threading.Event()


@dataclass
class Results:
    """An outbox with a ledger."""

    database: Database
    outbox: Outbox
    #: Of the ledger, and of the senders that are made from now on.
    clock: Clock = utc_now

    def report(self, *destinations: str) -> list[ResultObject]:
        """Make a study whose SEG and SR are due at each destination."""
        return report_study(self.database, self.outbox, destinations, clock=self.clock)

    def counts(self) -> Counts:
        """Count everything."""
        return Housekeeping(self.database).counts()

    def states(self, destination: str = "pacs") -> dict[DeliveryState, int]:
        """How many deliveries to a destination are in each state."""
        counted = self.counts().deliveries.get(destination, {})
        return {state: number for state, number in counted.items() if number}

    def errors(self) -> set[str | None]:
        """What the ledger says went wrong last."""
        with self.database.read() as session:
            return set(session.scalars(select(DeliveryRow.last_error)))

    def circuit(self, destination: str = "pacs") -> Circuit:
        """Whether a destination is left alone."""
        return Circuits(self.database).of(destination)

    def told(self, event: str) -> int:
        """How often the audit trail tells of something."""
        with self.database.read() as session:
            return len(session.scalars(select(AuditRow).where(AuditRow.event == event)).all())

    def rows(self) -> list[DeliveryRow]:
        """Every delivery, as the ledger has it."""
        with self.database.read() as session:
            found = list(session.scalars(select(DeliveryRow).order_by(DeliveryRow.id)))
            session.expunge_all()
        return found

    def courier(
        self,
        port: int,
        *,
        name: str = "pacs",
        patience: Patience = HASTY,
        peer: Peer | None = None,
        lease: timedelta = LEASE,
    ) -> Courier:
        """Make the sender for a destination."""
        return Courier(
            destination=name,
            transport=DicomTransport(peer or pacs_at(port)),
            dispatch=Dispatch(self.database, lease=lease, clock=self.clock),
            circuits=Circuits(self.database, clock=self.clock),
            outbox=self.outbox,
            owner_id="deliver-test",
            patience=patience,
            clock=self.clock,
        )


def report_study(
    database: Database, outbox: Outbox, destinations: Iterable[str], *, clock: Clock = utc_now
) -> list[ResultObject]:
    """Make a study whose SEG and SR are due at each destination."""
    header = instance_header()
    Intake(database).record_received(received_instance())
    scoring = Scoring(database, lease=LEASE)
    (claim,) = scoring.claim_to_index("test", 1)
    scoring.record_indexed(claim, header, Policy())
    to_score = scoring.claim_to_score("test")
    assert to_score is not None
    scoring.record_scored(to_score, prediction(), Policy())
    reporting = Reporting(database, clock=clock)
    revision = reporting.open_revision(header.study_instance_uid, Policy().digest())
    objects = [_finished(outbox, kind, header.study_instance_uid) for kind in SOP_CLASSES]
    reporting.complete_revision(revision, objects, [(name, "air") for name in destinations])
    return objects


def _finished(outbox: Outbox, kind: ObjectKind, study_instance_uid: str) -> ResultObject:
    dataset = radiograph_dataset(SOPClassUID=SOP_CLASSES[kind], StudyInstanceUID=study_instance_uid, Modality=kind)
    encoded = encode(dataset)
    uid = dataset.SOPInstanceUID
    file = store_file(outbox, encoded.dataset, sop_instance_uid=uid, meta=encoded.meta)
    return ResultObject(
        kind=kind,
        sop_instance_uid=dataset.SOPInstanceUID,
        sop_class_uid=dataset.SOPClassUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        study_instance_uid=study_instance_uid,
        source_sop_instance_uid="1.2.3" if kind is ObjectKind.SEG else "",
        profile="air",
        path=file.path,
        sha256=file.sha256,
    )


@dataclass
class Pacs:
    """A destination whose answers a test decides."""

    #: What it answers, in turn; the last for ever after.
    statuses: list[int] = field(default_factory=lambda: [0x0000])
    #: SOP classes of what it was sent, in the order in which it came.
    asked: list[str] = field(default_factory=list)
    #: Their SOP Instance UIDs.
    came: list[str] = field(default_factory=list)
    #: End the association instead of answering.
    aborts: bool = False
    #: Or do so when it is sent this object.
    unbearable: str = ""
    limits: Limits = field(default_factory=Limits)

    def answer(self, event: Event) -> int:
        """Answer a C-STORE."""
        self.asked.append(str(event.context.abstract_syntax))
        request = event.request
        assert isinstance(request, C_STORE)
        self.came.append(str(request.AffectedSOPInstanceUID))
        if self.aborts or request.AffectedSOPInstanceUID == self.unbearable:
            event.assoc.abort()
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    @contextmanager
    def serving(self, *sop_classes: str) -> Iterator[int]:
        """Serve; gives the port."""

        def build(listener: socket.socket) -> DicomServer:
            return DicomServer(
                ae_title="PACS",
                listener=listener,
                contexts=[build_context(uid) for uid in (VERIFICATION, *(sop_classes or SOP_CLASSES.values()))],
                handlers=[(evt.EVT_C_STORE, self.answer)],
                limits=self.limits,
                require_called_ae_title=True,
            )

        with serving(build) as port:
            yield port


def pacs_at(port: int, ae_title: str = "PACS") -> Peer:
    """Address a destination, with patience enough for a machine that has much else to do."""
    return Peer(
        calling_ae_title="CXRTRIAGE",
        ae_title=ae_title,
        host=LOOPBACK,
        port=port,
        acse_timeout_seconds=60,
        dimse_timeout_seconds=60,
    )


def impatiently(port: int) -> Peer:
    """Address a destination that is to keep its sender waiting in vain."""
    return replace(pacs_at(port), acse_timeout_seconds=2, dimse_timeout_seconds=2)


@contextmanager
def couriers(*each: Courier) -> Iterator[None]:
    """Run couriers in threads."""

    def run(courier: Courier) -> Callable[[threading.Event, Callable[[], None]], None]:
        def serve(stop: threading.Event, ready: Callable[[], None]) -> None:
            ready()
            courier.run(stop)

        return serve

    if not each:
        yield
        return
    with running(run(each[0])), couriers(*each[1:]):
        yield


def data_set_bytes(path: Path) -> bytes:
    """What follows a file's meta information."""
    return path.read_bytes()[split_dataset(path)[1] :]
