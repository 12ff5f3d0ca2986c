"""A PACS that fails costs time only: each way to fail on a real socket, with a second destination beside it."""

import dataclasses
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import dcmwrite
from pydicom.uid import SegmentationStorage
from structlog.testing import capture_logs

from builders import radiograph_dataset
from cxr_triage.daemon.deliver import BATCH
from cxr_triage.daemon.dicom_client import Part10File, associated, store
from cxr_triage.daemon.dicom_server import Limits
from cxr_triage.daemon.patience import Patience
from cxr_triage.model.errors import UnreachableError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.delivery_records import DeliveryState
from deliveries import NEVER, Pacs, Results, couriers, data_set_bytes, impatiently, pacs_at
from peers import LOOPBACK, REFUSED_CONNECTION, eventually, free_port, orthanc, stalling, storescp
from relay import Fault, full_backlog, relay
from steps import SetClock

Mend = Callable[[], object]
#: Runs a PACS that fails; gives its port, and what ends the failing.
Failing = Callable[[Path], AbstractContextManager[tuple[int, Mend]]]
DONE = {DeliveryState.STORED: 2}
WAITING = {DeliveryState.PENDING: 2}

#: A connection that was refused is collected in whatever test comes next.
pytestmark = pytest.mark.filterwarnings(REFUSED_CONNECTION)


@contextmanager
def port_closed(folder: Path) -> Iterator[tuple[int, Mend]]:
    """Nobody listens, then DCMTK does."""
    port = free_port()
    with ExitStack() as stack:
        yield port, lambda: stack.enter_context(storescp(folder, port=port))


@contextmanager
def connection_times_out(folder: Path) -> Iterator[tuple[int, Mend]]:
    """Nobody accepts or refuses a connection, as behind a firewall that drops packets."""
    with ExitStack() as stack:
        full = ExitStack()
        stack.callback(full.close)
        port = full.enter_context(full_backlog())

        def mend() -> None:
            full.close()
            stack.enter_context(storescp(folder, port=port))

        yield port, mend


def dcmtk(*options: str) -> Failing:
    """DCMTK with options that make it fail, then without."""

    @contextmanager
    def serve(folder: Path) -> Iterator[tuple[int, Mend]]:
        port = free_port()
        with ExitStack() as stack:
            failing = ExitStack()
            stack.callback(failing.close)
            failing.enter_context(storescp(folder, *options, port=port))

            def mend() -> None:
                failing.close()
                stack.enter_context(storescp(folder, port=port))

            yield port, mend

    return serve


@contextmanager
def rejected_for_now(folder: Path) -> Iterator[tuple[int, Mend]]:
    """Somebody else has the only association (PS3.8 9.3.4: rejected-transient, local limit exceeded)."""
    del folder
    pacs = Pacs(limits=Limits(maximum_associations=1))
    with pacs.serving() as port, associated(pacs_at(port)) as other:
        yield port, other.release


def answering(*statuses: int, aborts: bool = False) -> Failing:
    """A PACS that answers with these until it is mended."""

    @contextmanager
    def serve(folder: Path) -> Iterator[tuple[int, Mend]]:
        del folder
        pacs = Pacs(statuses=list(statuses), aborts=aborts)

        def mend() -> None:
            pacs.statuses, pacs.aborts = [0x0000], False

        with pacs.serving() as port:
            yield port, mend

    return serve


def spoiled(fault: Fault) -> Failing:
    """DCMTK behind a line with a fault."""

    @contextmanager
    def serve(folder: Path) -> Iterator[tuple[int, Mend]]:
        with storescp(folder) as port, relay(port) as line:
            line.fault = fault

            def mend() -> None:
                line.fault = Fault.NONE

            yield line.port, mend

    return serve


FAULTS: dict[str, tuple[Failing, str]] = {
    "port closed": (port_closed, "gave no DICOM answer"),
    "connection times out": (connection_times_out, "gave no DICOM answer"),
    "closed at once": (spoiled(Fault.CLOSED), "gave no DICOM answer"),
    "silent": (spoiled(Fault.SILENT), "gave no DICOM answer"),
    "rejected for good": (dcmtk("--refuse"), "rejected the association"),
    "rejected for now": (rejected_for_now, "rejected the association (Local limit exceeded)"),
    "out of resources": (answering(0xA700), "cannot store now (status 0xA700)"),
    "processing failure": (answering(0x0110), "cannot store now (status 0x0110)"),
    "aborted instead of an answer": (answering(0x0000, aborts=True), "gave no answer to C-STORE"),
    "aborted after the object": (dcmtk("--abort-after"), "gave no answer to C-STORE"),
    "aborted during the object": (dcmtk("--abort-during"), "gave no answer to C-STORE"),
    "hanging": (spoiled(Fault.HANGING), "gave no answer to C-STORE"),
    "answer lost": (spoiled(Fault.ANSWER_LOST), "gave no answer to C-STORE"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_pacs_that_fails_costs_time_only(results: Results, tmp_path: Path, name: str) -> None:
    """It is left alone and tried again, also by a sender that starts afresh; the other destination is served."""
    fail, reason = FAULTS[name]
    results.report("pacs", "beside")
    with fail(tmp_path / "pacs") as (port, mend), storescp(tmp_path / "beside") as beside:
        with couriers(results.courier(port, peer=impatiently(port)), results.courier(beside, name="beside")):
            eventually(lambda: failures_in_a_row(results) >= 2)
            eventually(lambda: results.states("beside") == DONE)
        before = failures_in_a_row(results)
        assert (results.states(), results.told("circuit_opened") >= 1) == (WAITING, True)
        with couriers(results.courier(port, peer=impatiently(port))):
            eventually(lambda: failures_in_a_row(results) > before)
            eventually(lambda: reason in str(results.errors() | {results.circuit().reason}))
            mend()
            eventually(lambda: results.states() == DONE)
            eventually(lambda: not results.circuit().is_open)
    assert results.circuit("beside").changed_at is None
    assert results.told("delivered") == 4
    assert results.errors() == {None}


def failures_in_a_row(results: Results) -> int:
    """Of the destination, or of the object that it does not answer for although it answers C-ECHO."""
    return max(results.circuit().failures, *(row.failures for row in results.rows()))


def test_an_answer_that_is_lost_is_asked_for_again(results: Results, tmp_path: Path) -> None:
    """A PACS that stored an object gets it once more, with the same UID and the same bytes, and has it once."""
    made = results.report("pacs")
    with orthanc(tmp_path / "orthanc") as archive, relay(archive.dicom_port) as line:
        line.fault = Fault.ANSWER_LOST
        with couriers(results.courier(line.port, peer=impatiently(line.port))):
            eventually(lambda: line.lost >= 2)
            assert results.states() == WAITING
            (there,) = archive.instances()
            (first,) = (archive.get_bytes(f"/instances/{key}/file") for key in archive.get("/instances"))
            line.fault = Fault.NONE
            eventually(lambda: results.states() == DONE)
        assert archive.instances() == sorted(each.sop_instance_uid for each in made)
        files = {key: archive.get_bytes(f"/instances/{key}/file") for key in archive.get("/instances")}
    (seg,) = [each for each in made if each.sop_instance_uid == there]
    (tmp_path / "first.dcm").write_bytes(first)
    assert data_set_bytes(tmp_path / "first.dcm") == data_set_bytes(results.outbox.absolute(seg.path))
    arrived = set()
    for number, content in enumerate(files.values()):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(content)
        arrived.add(data_set_bytes(path))
    assert arrived == {data_set_bytes(results.outbox.absolute(each.path)) for each in made}
    assert results.told("delivered") == 2


def test_a_slow_pacs_is_not_a_failing_one(results: Results, tmp_path: Path) -> None:
    """Seconds to store and seconds to answer are waited for."""
    results.report("pacs", "beside")
    with (
        storescp(tmp_path / "pacs", "--sleep-during", "1", "--sleep-after", "1") as slow,
        storescp(tmp_path / "beside") as beside,
        couriers(
            results.courier(slow),
            results.courier(beside, name="beside"),
        ),
    ):
        eventually(lambda: results.states("beside") == DONE)
        eventually(lambda: results.states() == DONE)
    assert (results.circuit().changed_at, results.told("delivery_retried")) == (None, 0)


def test_an_open_circuit_writes_nothing_per_object(results: Results) -> None:
    """Many failed tries: no row of the audit trail for any of the objects, and one for the destination."""
    for _ in range(10):
        results.report("pacs")
    with couriers(results.courier(free_port())):
        eventually(lambda: results.circuit().failures > 10)
    assert results.told("delivery_retried") == 0
    assert results.told("circuit_opened") == 1
    assert {row.failures for row in results.rows()} == {0}
    # A batch at first, then one object a try.
    assert sum(row.attempt for row in results.rows()) <= BATCH + results.circuit().failures


def test_an_object_that_a_pacs_cannot_bear_does_not_hold_up_others(results: Results) -> None:
    """A destination that hangs up at one object gets the others first when it is tried again."""
    unbearable, _ = results.report("pacs")
    results.report("pacs")
    results.clock = clock = SetClock(utc_now())
    with Pacs(unbearable=unbearable.sop_instance_uid).serving() as port:
        courier = results.courier(port, patience=Patience(first=timedelta(hours=1), longest=timedelta(hours=1)))
        assert courier.deliver_batch(NEVER)
        assert (results.states(), courier.deliver_batch(NEVER)) == ({DeliveryState.PENDING: 4}, False)
        clock.move(timedelta(hours=1))
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 2, DeliveryState.PENDING: 2}
    assert not results.circuit().is_open


def test_a_destination_that_stops_reading_is_left(tmp_path: Path) -> None:
    """A PACS that hangs in mid-object does not hold its sender for ever."""
    dataset = radiograph_dataset(SOPClassUID=SegmentationStorage, PixelData=bytes(20_000_000))
    dcmwrite(tmp_path / "large.dcm", dataset, enforce_file_format=True)
    file = Part10File.read(tmp_path / "large.dcm")
    with Pacs().serving() as port, stalling(port, after_bytes=20) as stalled:
        impatient = dataclasses.replace(pacs_at(stalled), network_timeout_seconds=1, dimse_timeout_seconds=1)
        with pytest.raises(UnreachableError), associated(impatient, [file]) as association:
            store(association, file, impatient)


def test_what_nobody_foresaw_ends_no_courier(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is logged without its own words, and what was claimed then goes at once, not at the end of its lease."""
    results.report("pacs")
    failures: list[str] = []

    def fail_once(path: Path) -> bool:
        if not failures:
            failures.append("DOE^JANE")
            raise ValueError(failures[0])
        return type(results.outbox).is_gone(results.outbox, path)

    monkeypatch.setattr(results.outbox, "is_gone", fail_once)
    with capture_logs() as lines, Pacs().serving() as port, couriers(results.courier(port)):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert (line["event"], line["destination"]) == ("delivery failed", "pacs")
    assert "ValueError" in line["exception"]
    assert failures[0] not in repr(lines)


def test_a_destination_that_is_down_delays_no_other(results: Results, tmp_path: Path) -> None:
    """Each has its own thread: one is silent, one is down, the third has everything."""
    results.report("silent", "down", "pacs")
    with (
        socket.create_server((LOOPBACK, 0)) as silent,
        storescp(tmp_path / "pacs") as port,
        couriers(
            results.courier(0, name="silent", peer=impatiently(silent.getsockname()[1])),
            results.courier(free_port(), name="down"),
            results.courier(port),
        ),
    ):
        eventually(lambda: results.states() == {DeliveryState.STORED: 2})
        assert results.states("silent") == results.states("down") == {DeliveryState.PENDING: 2}
