"""What a destination takes is found out by asking: SOP Classes, and the transfer syntaxes that they are sent in."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SegmentationStorage,
)
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]

from cxr_triage.storage.delivery_records import DeliveryState
from deliveries import HASTY, NEVER, Pacs, Results, couriers, data_set_bytes
from peers import LOOPBACK, PATIENCE_SECONDS, eventually, storescp

#: PS3.8 Table 9-18.
USER_REJECTION, NO_REASON, ABSTRACT_SYNTAX, TRANSFER_SYNTAXES = 1, 2, 3, 4
#: What DCMTK's storescp is told to take, and nothing else.
ONLY_3D_REPORTS = """
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Reports]
PresentationContext1 = {report}\\Uncompressed
PresentationContext2 = VerificationSOPClass\\Uncompressed
[[Profiles]]
[Restricted]
PresentationContexts = Reports
"""


def deliver(results: Results, port: int) -> None:
    """Send what is due until nothing is."""
    courier = results.courier(port)
    while courier.deliver_batch(NEVER):
        pass


def test_a_class_that_a_pacs_does_not_take_is_named(results: Results) -> None:
    """The reason says which, in words; it is the object's matter at once, and holds no other back."""
    pacs = Pacs()
    results.report("pacs")
    with pacs.serving(Comprehensive3DSRStorage) as port:
        deliver(results, port)
    assert pacs.asked == [Comprehensive3DSRStorage]
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.NOT_TAKEN: 1}
    words = f"PACS at {LOOPBACK} port {port} does not take Segmentation Storage: abstract syntax not supported"
    assert results.errors() == {None, words}
    assert (results.counts().held_back, results.circuit().changed_at) == ({}, None)


def test_a_pacs_that_takes_no_class_at_all_answers(results: Results) -> None:
    """It ends the association, as there is nothing to say on it; it is not down."""
    results.report("pacs")
    with scp({}) as port:
        deliver(results, port)
    assert results.states() == {DeliveryState.NOT_TAKEN: 2}
    assert results.circuit().changed_at is None


@pytest.mark.parametrize("result", [USER_REJECTION, NO_REASON])
def test_a_pacs_that_declines_everything_is_left_alone(results: Results, result: int) -> None:
    """Verification, too, and without saying that it does not support it: it is not ready, and no form is used up."""
    results.report("pacs")
    with scp({}) as port, rewriting(port, {ABSTRACT_SYNTAX: result}) as (line, _):
        results.courier(line).deliver_batch(NEVER)
    assert results.states() == {DeliveryState.PENDING: 2}
    assert (results.circuit().failures, "Verification included" in results.circuit().reason) == (1, True)


def test_a_status_says_so_too(results: Results) -> None:
    """PS3.7 C.5, "Refused: SOP class not supported", where the association had promised otherwise."""
    pacs = Pacs(statuses=[0x0122, 0x0000])
    results.report("pacs")
    with pacs.serving() as port:
        deliver(results, port)
    assert pacs.asked == [SegmentationStorage, Comprehensive3DSRStorage]
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.NOT_TAKEN: 1}


@pytest.mark.parametrize(("result", "word"), [(USER_REJECTION, "user rejection"), (NO_REASON, "no reason given")])
def test_a_context_that_is_refused_without_saying_why_is_offered_again(
    results: Results, result: int, word: str
) -> None:
    """It may be a decision of the moment; whoever keeps to it does not take the class."""
    results.report("pacs")
    with (
        Pacs().serving(Comprehensive3DSRStorage) as port,
        rewriting(port, {ABSTRACT_SYNTAX: result}) as (line, seen),
        couriers(results.courier(line)),
    ):
        eventually(lambda: results.states() == {DeliveryState.STORED: 1, DeliveryState.NOT_TAKEN: 1})
    assert any(word in (error or "") for error in results.errors())
    assert seen.count(result) >= HASTY.maximum_refusals
    assert results.told("delivery_retried") == HASTY.maximum_refusals - 1


def test_dcmtk_with_a_restricted_profile(results: Results, tmp_path: Path) -> None:
    """Its association negotiation profile names what it takes."""
    profile = tmp_path / "storescp.cfg"
    profile.write_text(ONLY_3D_REPORTS.format(report=Comprehensive3DSRStorage))
    made = results.report("pacs")
    with storescp(tmp_path / "pacs", "-xf", str(profile), "Restricted") as port:
        deliver(results, port)
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.NOT_TAKEN: 1}
    (arrived,) = (tmp_path / "pacs").iterdir()
    assert data_set_bytes(arrived) == data_set_bytes(results.outbox.absolute(made[1].path))


def test_dcmtk_that_takes_only_implicit_vr(results: Results, tmp_path: Path) -> None:
    """Encoded anew, an object says the same."""
    made = results.report("pacs")
    with storescp(tmp_path / "pacs", "+xi") as port:
        deliver(results, port)
    assert results.states() == {DeliveryState.STORED: 2}
    arrived = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, (tmp_path / "pacs").iterdir())}
    for each in made:
        dataset = arrived[each.sop_instance_uid]
        assert dataset.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert dataset == dcmread(results.outbox.absolute(each.path))


@pytest.mark.parametrize("syntaxes", [[ImplicitVRLittleEndian, ExplicitVRLittleEndian], [ExplicitVRLittleEndian]])
def test_what_can_be_sent_as_it_is_is(results: Results, syntaxes: list[UID]) -> None:
    """Whatever the peer prefers."""
    results.report("pacs")
    used: list[str] = []
    classes = dict.fromkeys((SegmentationStorage, Comprehensive3DSRStorage), syntaxes)
    with scp(classes, on_store=lambda event: used.append(event.context.transfer_syntax)) as port:
        deliver(results, port)
    assert used == [ExplicitVRLittleEndian] * 2


def test_a_pacs_that_takes_only_compressed_images(results: Results) -> None:
    """PS3.8 Table 9-18, transfer syntaxes not supported: ours are uncompressed."""
    results.report("pacs")
    classes = {SegmentationStorage: [JPEG2000Lossless], Comprehensive3DSRStorage: [ExplicitVRLittleEndian]}
    with scp(classes) as port:
        deliver(results, port)
    assert results.states() == {DeliveryState.STORED: 1, DeliveryState.NOT_TAKEN: 1}
    assert any("transfer syntaxes not supported" in (error or "") for error in results.errors())


@contextmanager
def scp(classes: dict[UID, list[UID]], *, on_store: Callable[[Event], object] = lambda _: None) -> Iterator[int]:
    """Run a PACS that takes these SOP Classes in these transfer syntaxes, and not even a C-ECHO without any."""

    def store(event: Event) -> int:
        on_store(event)
        return 0x0000

    ae = AE(ae_title="PACS")
    for sop_class, syntaxes in classes.items():
        ae.add_supported_context(sop_class, syntaxes)
    if not classes:
        ae.add_supported_context(ModalityPerformedProcedureStep)
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None
    assert server.socket is not None
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


@contextmanager
def rewriting(port: int, results: dict[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Stand between a sender and a port, and change the results of presentation contexts (PS3.8 Table 9-18).

    Gives the port to send to, and the results as they were passed on.
    """
    seen: list[int] = []
    with socket.create_server((LOOPBACK, 0)) as listener:

        def relay() -> None:
            while True:
                try:
                    sender, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_pass_on, args=(sender, port, results, seen)).start()

        relaying = threading.Thread(target=relay)
        relaying.start()
        try:
            yield listener.getsockname()[1], seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            relaying.join(PATIENCE_SECONDS)


def _pass_on(sender: socket.socket, port: int, results: dict[int, int], seen: list[int]) -> None:
    with sender, socket.create_connection((LOOPBACK, port)) as receiver:
        receiver.sendall(_pdu(sender))
        sender.sendall(_rewritten(_pdu(receiver), results, seen))
        back = threading.Thread(target=_copy, args=(receiver, sender))
        back.start()
        _copy(sender, receiver)
        back.join(PATIENCE_SECONDS)


def _pdu(connection: socket.socket) -> bytes:
    """Read one PDU (PS3.8 9.3.1)."""
    head = connection.recv(6, socket.MSG_WAITALL)
    return head + connection.recv(struct.unpack(">I", head[2:])[0], socket.MSG_WAITALL)


def _rewritten(accepted: bytes, results: dict[int, int], seen: list[int]) -> bytes:
    """Change the results in an A-ASSOCIATE-AC: items of type 21H, from byte 75 on (PS3.8 Tables 9-17 and 9-18)."""
    changed, at = bytearray(accepted), 74
    while at < len(changed):
        kind, length = struct.unpack_from(">BxH", changed, at)
        if kind == 0x21:
            changed[at + 6] = results.get(changed[at + 6], changed[at + 6])
            seen.append(changed[at + 6])
        at += 4 + length
    return bytes(changed)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
