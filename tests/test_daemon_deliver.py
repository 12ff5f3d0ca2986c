"""The Storage SCU against DCMTK, Orthanc, and a PACS that behaves."""

import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage
from pynetdicom import build_context, evt
from pynetdicom.events import Event
from structlog.testing import capture_logs

from cxr_triage.daemon.deliver import DeliverRole
from cxr_triage.daemon.dicom_client import (
    Outcome,
    Peer,
    connected,
    outcome_of,
    verify,
)
from cxr_triage.daemon.dicom_server import VERIFICATION, DicomServer, Limits
from cxr_triage.daemon.setting_peers import Destination
from cxr_triage.daemon.settings import Settings
from cxr_triage.model.errors import RefusedError, UnreachableError
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.ledger import Dispatch
from deliveries import LEASE, NEVER, Pacs, Results, couriers, data_set_bytes, pacs_at
from peers import LOOPBACK, eventually, orthanc, running, serving, storescp


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


@pytest.mark.parametrize("status", [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF])
def test_success_warnings_and_duplicates_are_stored(results: Results, status: int) -> None:
    """The destination has the object, whatever it remarks."""
    results.report("pacs")
    with Pacs(statuses=[status]).serving() as port:
        courier = results.courier(port)
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 2}


@pytest.mark.parametrize("status", [0xA700, 0xA701, 0xA7FF, 0x0110, 0x0213])
def test_statuses_that_say_nothing_against_the_object_may_pass(status: int) -> None:
    """PS3.4 Table B.2-1: out of resources; PS3.7 C.5: processing failure, resource limitation."""
    assert outcome_of(status) is Outcome.LATER


@pytest.mark.parametrize(
    "status", [0xA900, 0xA9FF, 0xC000, 0xCFFF, 0x0117, 0x0122, 0x0124, 0x0210, 0x0211, 0x0212, 0xA800, 0xFE00, 0xFF00]
)
def test_statuses_against_the_object_are_refusals(status: int) -> None:
    """PS3.4 Table B.2-1 and PS3.7 9.1.1.1.9; also what C-STORE does not know."""
    assert outcome_of(status) not in {Outcome.LATER, Outcome.STORED}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0xA770, Outcome.STORED),
        *((status, Outcome.REFUSED) for status in range(0xA771, 0xA775)),
        (0xA700, Outcome.LATER),
        (0xA775, Outcome.LATER),
    ],
)
def test_what_dcm4chee_answers_to_a_note_is_about_the_note(status: int, outcome: Outcome) -> None:
    """Numbers that are "out of resources" for everything else."""
    assert outcome_of(status, KeyObjectSelectionDocumentStorage) is outcome
    assert outcome_of(status, SegmentationStorage) is outcome_of(status) is Outcome.LATER


@given(st.integers(min_value=0, max_value=0xFFFF))
def test_no_failure_counts_as_stored(status: int) -> None:
    """PS3.7 Annex C: A and C are failures, FE is a cancel, FF is pending."""
    if status >> 12 in (0xA, 0xC, 0xF):
        assert outcome_of(status) is not Outcome.STORED


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


def test_a_batch_ends_before_its_lease(results: Results) -> None:
    """What would be sent under a lease that may run out is put back; each batch brings at least one object."""
    for _ in range(3):
        results.report("pacs")
    with Pacs().serving() as port:
        courier = results.courier(port, lease=timedelta(microseconds=1))
        assert courier.deliver_batch(NEVER)
        assert results.states() == {DeliveryState.STORED: 1, DeliveryState.PENDING: 5}
        while courier.deliver_batch(NEVER):
            pass
    assert results.states() == {DeliveryState.STORED: 6}


def test_what_waits_for_a_removed_destination_is_said(results: Results, tmp_path: Path, sqlite_url: str) -> None:
    """At each start; and it goes when a destination of that name is there again."""
    words = "objects wait for a destination that is not configured"
    results.report("old")
    with storescp(tmp_path / "pacs") as port:
        with capture_logs() as lines, running(DeliverRole(settings_for(tmp_path, sqlite_url, new=port)).run):
            eventually(lambda: any((line["event"], line.get("destination")) == (words, "old") for line in lines))
        assert results.states("old") == {DeliveryState.PENDING: 2}
        with running(DeliverRole(settings_for(tmp_path, sqlite_url, old=port)).run):
            eventually(lambda: results.states("old") == {DeliveryState.STORED: 2})


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


def test_a_rejection_is_told_although_the_connection_ended_first() -> None:
    """A busy machine wakes our thread late: the answer has come, and the peer has gone."""

    def wait_until_rejected(event: Event) -> None:
        dul = event.assoc.dul
        # PS3.8 Table 9-10: in Sta1 the transport connection is closed.
        eventually(lambda: dul.peek_next_pdu() is not None and dul.state_machine.current_state == "Sta1")

    late = [(evt.EVT_REQUESTED, wait_until_rejected)]
    with (
        Pacs().serving() as port,
        pytest.raises(UnreachableError, match=r"rejected the association \(Called AE title not recognised\)"),
        connected(pacs_at(port, ae_title="WRONG"), [build_context(VERIFICATION)], handlers=late),
    ):
        pass


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
