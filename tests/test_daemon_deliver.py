"""The Storage SCU against DCMTK, Orthanc, and destinations that misbehave."""

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage
from pynetdicom import build_context, evt
from pynetdicom.dsutils import split_dataset
from pynetdicom.events import Event
from sqlalchemy import select

from builders import instance_header, prediction, radiograph_dataset, received_instance, store_file
from cxr_triage.daemon.deliver import Courier, DeliverRole, Patience, next_step, pause
from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, is_stored, store, verify
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.settings import Destination, Settings
from cxr_triage.model.errors import RefusedError, UnreachableError
from cxr_triage.model.priority import Policy
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.ledger import Dispatch, Housekeeping, Intake, Reporting, Scoring
from cxr_triage.storage.records import DeliveryState, ObjectKind, ResultObject
from cxr_triage.storage.schema import DeliveryRow
from peers import (
    LOOPBACK,
    REFUSED_CONNECTION,
    eventually,
    free_port,
    orthanc,
    running,
    serving,
    stalling,
    storescp,
)

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

    def report(self, *destinations: str) -> list[ResultObject]:
        """Make a study whose SEG and SR are due at each destination."""
        header = instance_header()
        Intake(self.database).record_received(received_instance())
        scoring = Scoring(self.database, lease=LEASE)
        (claim,) = scoring.claim_to_index("test", 1)
        scoring.record_indexed(claim, header, Policy())
        to_score = scoring.claim_to_score("test")
        assert to_score is not None
        scoring.record_scored(to_score, prediction(), Policy())
        reporting = Reporting(self.database)
        revision = reporting.open_revision(header.study_instance_uid, Policy().digest())
        objects = [self._finished(kind, header.study_instance_uid) for kind in ObjectKind]
        reporting.complete_revision(revision, objects, [(name, "air") for name in destinations])
        return objects

    def states(self, destination: str = "pacs") -> dict[DeliveryState, int]:
        """How many deliveries to a destination are in each state."""
        counted = Housekeeping(self.database).counts().deliveries.get(destination, {})
        return {state: number for state, number in counted.items() if number}

    def errors(self) -> set[str | None]:
        """What the ledger says went wrong last."""
        with self.database.read() as session:
            return set(session.scalars(select(DeliveryRow.last_error)))

    def courier(
        self,
        port: int,
        *,
        clock: Callable[[], datetime] | None = None,
        name: str = "pacs",
        patience: Patience = HASTY,
    ) -> Courier:
        """Make the sender for a destination."""
        return Courier(
            destination=name,
            peer=pacs_at(port),
            dispatch=Dispatch(self.database, lease=LEASE),
            outbox=self.outbox,
            owner_id="deliver-test",
            patience=patience,
            **({"clock": clock} if clock else {}),
        )

    def _finished(self, kind: ObjectKind, study_instance_uid: str) -> ResultObject:
        dataset = radiograph_dataset(SOPClassUID=SOP_CLASSES[kind], StudyInstanceUID=study_instance_uid, Modality=kind)
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        file = store_file(self.outbox, buffer.getvalue(), sop_instance_uid=dataset.SOPInstanceUID)
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
    #: End the association instead of answering.
    aborts: bool = False

    def answer(self, event: Event) -> int:
        """Answer a C-STORE."""
        self.asked.append(str(event.context.abstract_syntax))
        if self.aborts:
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
                limits=Limits(),
                require_called_ae_title=True,
            )

        with serving(build) as port:
            yield port


def pacs_at(port: int, ae_title: str = "PACS") -> Peer:
    """Address a destination, with little patience."""
    return Peer(
        calling_ae_title="CXRTRIAGE",
        ae_title=ae_title,
        host=LOOPBACK,
        port=port,
        acse_timeout_seconds=2,
        dimse_timeout_seconds=2,
    )


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


@pytest.fixture
def results(tmp_path: Path, sqlite_url: str) -> Iterator[Results]:
    """Give an empty outbox with its ledger."""
    database = open_database(sqlite_url)
    yield Results(database=database, outbox=Outbox(tmp_path / "outbox"))
    database.close()


def data_set_bytes(path: Path) -> bytes:
    """What follows a file's meta information."""
    return path.read_bytes()[split_dataset(path)[1] :]


def test_dcmtk_receives_the_very_bytes(results: Results, tmp_path: Path) -> None:
    """What arrives is, byte for byte, what lies in the outbox."""
    made = results.report("pacs")
    with storescp(tmp_path / "pacs") as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
    sent = {data_set_bytes(results.outbox.absolute(each.path)) for each in made}
    assert {data_set_bytes(path) for path in (tmp_path / "pacs").iterdir()} == sent


def test_orthanc_receives(results: Results, tmp_path: Path) -> None:
    """SEG and SR arrive at an archive."""
    made = results.report("pacs")
    with orthanc(tmp_path / "orthanc") as archive:
        with couriers(results.courier(archive.dicom_port)):
            eventually(lambda: results.states() == {DeliveryState.STORED: 2})
        assert archive.instances() == sorted(each.sop_instance_uid for each in made)


def test_a_seg_goes_before_the_sr_that_cites_it(results: Results) -> None:
    """Also when several studies are due at once."""
    pacs = Pacs()
    results.report("pacs")
    results.report("pacs")
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {DeliveryState.STORED: 4})
    assert pacs.asked == [SegmentationStorage] * 2 + [Comprehensive3DSRStorage] * 2


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_pacs_that_is_down_costs_time_only(results: Results, tmp_path: Path) -> None:
    """Far more attempts than refusals are allowed, then it comes up and gets everything."""
    results.report("pacs")
    port = free_port()
    with couriers(results.courier(port)):
        eventually(lambda: most_failures(results) > 2 * HASTY.maximum_refusals)
        assert results.states() == {DeliveryState.PENDING: 2}
        (error,) = results.errors() - {None}
        assert error is not None
        assert f"PACS at {LOOPBACK} port {port} gave no DICOM answer" in error
        with storescp(tmp_path / "pacs", port=port):
            eventually(lambda: results.states() == {DeliveryState.STORED: 2})
    assert results.errors() == {None}


def most_failures(results: Results) -> int:
    """How often the unluckiest delivery has failed."""
    with results.database.read() as session:
        return max(session.scalars(select(DeliveryRow.failures)))


def test_a_pacs_out_of_resources_costs_time_only(results: Results) -> None:
    """A full disk there is not a refusal."""
    pacs = Pacs(statuses=[0xA700] * (2 * HASTY.maximum_refusals) + [0x0000])
    results.report("pacs")
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})


def test_a_pacs_that_hangs_up_costs_time_only(results: Results) -> None:
    """An association that is aborted in place of an answer is tried again."""
    pacs = Pacs(aborts=True)
    results.report("pacs")
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: len(pacs.asked) > 2 * HASTY.maximum_refusals)
        assert results.states() == {DeliveryState.PENDING: 2}
        pacs.aborts = False
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})


def test_a_refused_object_is_given_up_with_a_reason(results: Results) -> None:
    """After the configured number of attempts a person must look; the SR waits for its SEG."""
    pacs = Pacs(statuses=[0xC123])
    results.report("pacs")
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: DeliveryState.DEAD in results.states())
    assert results.states() == {DeliveryState.DEAD: 1, DeliveryState.PENDING: 1}
    assert len(pacs.asked) == HASTY.maximum_refusals
    assert results.errors() == {None, f"PACS at {LOOPBACK} port {port} answered C-STORE with status 0xC123"}


def test_a_refused_object_does_not_hold_up_others(results: Results) -> None:
    """The same association carries on with the next one."""
    pacs = Pacs(statuses=[0xA900, 0x0000])
    results.report("pacs")
    results.report("pacs")
    with pacs.serving() as port:
        courier = results.courier(port, clock=lambda: datetime.now(UTC) + timedelta(hours=1))
        assert courier.deliver_batch(NEVER)
    assert len(pacs.asked) == 2
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.PENDING: 3}


def test_a_class_that_a_pacs_does_not_take_is_named(results: Results) -> None:
    """No presentation context: the reason says for what, in words."""
    pacs = Pacs()
    results.report("pacs")
    with pacs.serving(Comprehensive3DSRStorage) as port, couriers(results.courier(port)):
        eventually(lambda: DeliveryState.DEAD in results.states())
    assert pacs.asked == []
    words = f"PACS at {LOOPBACK} port {port} does not take Segmentation Storage in Explicit VR Little Endian"
    assert results.errors() == {None, words}


def test_a_file_that_is_gone_is_said(results: Results) -> None:
    """What cannot be read in the outbox is not left pending in silence."""
    for made in results.report("pacs"):
        results.outbox.discard(made.path)
    with Pacs().serving() as port, couriers(results.courier(port)):
        eventually(lambda: DeliveryState.DEAD in results.states())
    assert "its file in the outbox cannot be read (No such file or directory)" in results.errors()


@pytest.mark.parametrize("content", [b"", bytes(4096), bytes(128) + b"DICM"])
def test_a_file_that_is_damaged_is_said(results: Results, content: bytes) -> None:
    """What a disk spoiled counts as refused, and the other objects go."""
    damaged, _ = results.report("pacs")
    results.report("pacs")
    results.outbox.absolute(damaged.path).write_bytes(content)
    with Pacs().serving() as port:
        courier = results.courier(port, clock=lambda: datetime.now(UTC) + timedelta(hours=1))
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 2, DeliveryState.PENDING: 2}
    (reason,) = results.errors() - {None}
    assert reason is not None
    assert reason.startswith("its file in the outbox is damaged")


def test_an_object_that_a_pacs_cannot_bear_does_not_hold_up_others(results: Results) -> None:
    """A destination that hangs up at one object gets the others first when it is tried again."""
    unbearable, _ = results.report("pacs")
    results.report("pacs")

    class Fragile(Pacs):
        """Hangs up when it is sent that object."""

        def answer(self, event: Event) -> int:
            self.aborts = event.request.AffectedSOPInstanceUID == unbearable.sop_instance_uid  # type: ignore[union-attr]
            return super().answer(event)

    with Fragile().serving() as port:
        courier = results.courier(port, patience=Patience(first=timedelta(hours=1)))
        assert courier.deliver_batch(NEVER)
        assert results.states() == {DeliveryState.PENDING: 4}
        for _ in range(2):
            assert courier.deliver_batch(NEVER)
    assert results.states() == {DeliveryState.STORED: 2, DeliveryState.PENDING: 2}


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF])
def test_success_warnings_and_duplicates_are_stored(results: Results, status: int) -> None:
    """The destination has the object, whatever it remarks."""
    results.report("pacs")
    with Pacs(statuses=[status]).serving() as port:
        courier = results.courier(port)
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 2}


@given(st.integers(min_value=0, max_value=0xFFFF))
def test_no_failure_counts_as_stored(status: int) -> None:
    """PS3.7 Annex C: A and C are failures, FE is a cancel, FF is pending."""
    if status >> 12 in (0xA, 0xC, 0xF):
        assert not is_stored(status)


def test_a_destination_that_stops_reading_is_left(tmp_path: Path) -> None:
    """A PACS that hangs in mid-object does not hold its sender for ever."""
    dataset = radiograph_dataset(SOPClassUID=SegmentationStorage, PixelData=bytes(20_000_000))
    dcmwrite(tmp_path / "large.dcm", dataset, enforce_file_format=True)
    file = Part10File.read(tmp_path / "large.dcm")
    with Pacs().serving() as port, stalling(port, after_bytes=20) as stalled:
        impatient = dataclasses.replace(pacs_at(stalled), network_timeout_seconds=1, dimse_timeout_seconds=1)
        with pytest.raises(UnreachableError), associated(impatient, [file]) as association:
            store(association, file, impatient)


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_a_destination_that_is_down_delays_no_other(results: Results, tmp_path: Path) -> None:
    """Each has its own thread: one is silent, one is down, the third has everything."""
    results.report("silent", "down", "pacs")
    with (
        socket.create_server((LOOPBACK, 0)) as silent,
        storescp(tmp_path / "pacs") as port,
        couriers(
            results.courier(silent.getsockname()[1], name="silent"),
            results.courier(free_port(), name="down"),
            results.courier(port),
        ),
    ):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
        assert results.states("silent") == results.states("down") == {DeliveryState.PENDING: 2}


def test_a_delivery_that_was_taken_over_is_left_to_the_other(results: Results) -> None:
    """Who lost the lease while sending records nothing, and goes on."""
    results.report("pacs")
    dispatch = Dispatch(results.database, lease=LEASE)
    taken_over: list[int] = []

    class Thief(Pacs):
        """Takes the lease away while the object is being stored."""

        def answer(self, event: Event) -> int:
            if not taken_over:
                taken_over.append(dispatch.release_leases(lambda _owner: False, datetime.now(UTC)))
            return super().answer(event)

    pacs = Thief()
    with pacs.serving() as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
    assert taken_over == [1]
    assert pacs.asked == [SegmentationStorage, SegmentationStorage, Comprehensive3DSRStorage]


def test_stopping_puts_back_what_was_not_sent(results: Results) -> None:
    """The next sender need not wait for a lease."""
    results.report("pacs")
    stopped = threading.Event()
    stopped.set()
    with Pacs().serving() as port:
        assert results.courier(port).deliver_batch(stopped)
        assert results.courier(port).deliver_batch(NEVER)
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.PENDING: 1}


def test_the_role_delivers_to_every_destination(results: Results, tmp_path: Path, sqlite_url: str) -> None:
    """From settings to stored objects."""
    results.report("first", "second")
    with storescp(tmp_path / "first") as first, storescp(tmp_path / "second") as second:
        settings = settings_for(tmp_path, sqlite_url, first=first, second=second)
        with running(DeliverRole(settings).run):
            for name in ("first", "second"):
                eventually(lambda name=name: results.states(name) == {DeliveryState.STORED: 2})  # type: ignore[misc]


def settings_for(folder: Path, database_url: str, **ports: int) -> Settings:
    """Configure destinations by name."""
    destinations: Sequence[Destination] = [
        Destination(name=name, ae_title="PACS", host=LOOPBACK, port=port) for name, port in ports.items()
    ]
    storage = {"root": folder, "database": database_url}
    return Settings.model_validate({"storage": storage, "destination": destinations})


def test_verification_says_what_is_wrong() -> None:
    """`check` shows these sentences."""
    with Pacs().serving() as port:
        verify(pacs_at(port))
        with pytest.raises(UnreachableError, match=r"rejected the association \(Called AE title not recognised\)"):
            verify(pacs_at(port, ae_title="WRONG"))


def test_verification_of_an_unknown_host() -> None:
    """A name without an address."""
    peer = Peer(calling_ae_title="CXRTRIAGE", ae_title="PACS", host="no-such-host.invalid", port=104)
    with pytest.raises(UnreachableError, match=r"PACS at no-such-host\.invalid port 104 has no address"):
        verify(peer)


def test_verification_that_is_not_offered() -> None:
    """An association alone does not say that C-ECHO works."""

    def build(listener: socket.socket) -> DicomServer:
        contexts = [build_context(SegmentationStorage)]
        return DicomServer(ae_title="PACS", listener=listener, contexts=contexts, handlers=[], limits=Limits())

    with serving(build) as port, pytest.raises((RefusedError, UnreachableError)):
        verify(pacs_at(port))


@given(st.integers(min_value=1, max_value=10_000), st.floats(min_value=0, max_value=1))
def test_pauses_grow_up_to_a_limit(failures: int, jitter: float) -> None:
    """Doubling from the first to the longest, less up to half."""
    patience = Patience(first=timedelta(seconds=5), longest=timedelta(seconds=600))
    whole = min(5 * 2 ** (failures - 1), 600)
    chosen = pause(failures, patience=patience, jitter=jitter).total_seconds()
    assert whole / 2 - 1e-6 <= chosen <= whole + 1e-6


def test_an_object_is_given_up_after_the_configured_refusals() -> None:
    """One offer fewer than the limit is followed by another, after the longest wait."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    patience = Patience(longest=timedelta(minutes=10), maximum_refusals=2)
    assert next_step(1, now=now, patience=patience) == now + timedelta(minutes=10)
    assert next_step(2, now=now, patience=patience) is None
