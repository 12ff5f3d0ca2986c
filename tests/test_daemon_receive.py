"""The Storage SCP against DCMTK and Orthanc: what is kept, and how it stops."""

import dataclasses
import hashlib
import logging
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite, uid
from pydicom.filereader import read_file_meta_info

from builders import radiograph_dataset, radiograph_file
from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store, verify
from cxr_triage.daemon.dicom_server import Limits
from cxr_triage.daemon.receive import (
    ACCEPTED_SOP_CLASSES,
    Receiver,
    receiving_server,
)
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.model.errors import UnreachableError
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import KnownContent
from cxr_triage.storage.inbox import Inbox
from cxr_triage.storage.ledger import Intake
from cxr_triage.storage.space import LowWater
from peers import LOOPBACK, PATIENCE_SECONDS, REFUSED_CONNECTION, eventually, orthanc, running, stalling, storescu
from reception import Reception, data_set_bytes, receiving

DCMCJPEG = "/usr/bin/dcmcjpeg"
#: PS3.8 Table 9-26.
A_ABORT = bytes.fromhex("07000000000400000000")


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """Do with SQLite here: the ledger's own tests run on both."""
    return sqlite_database


@pytest.fixture
def reception(tmp_path: Path, database: Database) -> Iterator[Reception]:
    """Run a receiver that takes from anybody."""
    with receiving(tmp_path, database) as running_reception:
        yield running_reception


def written_in(folder: Path, syntax: str) -> Path:
    """Write a radiograph in a transfer syntax."""
    if syntax in (uid.JPEGLosslessSV1, uid.JPEGBaseline8Bit):
        pixels = np.arange(48 * 40, dtype=np.uint8).reshape(48, 40) if syntax == uid.JPEGBaseline8Bit else None
        source = radiograph_file(folder, pixels=pixels)
        made = folder / f"jpeg-{source.name}"
        option = "+e1" if syntax == uid.JPEGLosslessSV1 else "+eb"
        # No new UID, so that the file is what was asked for.
        subprocess.run([DCMCJPEG, option, "+un", source, made], check=True, timeout=PATIENCE_SECONDS)
        return made
    dataset = radiograph_dataset()
    if syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
        dataset.compress(syntax, generate_instance_uid=False)
    if syntax == uid.ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


@pytest.mark.parametrize(
    ("option", "syntax"),
    [
        ("-xe", uid.ExplicitVRLittleEndian),
        ("-xi", uid.ImplicitVRLittleEndian),
        ("-xb", uid.ExplicitVRBigEndian),
        ("-xd", uid.DeflatedExplicitVRLittleEndian),
        ("-xr", uid.RLELossless),
        ("-xy", uid.JPEGBaseline8Bit),
        ("-xs", uid.JPEGLosslessSV1),
        ("-xt", uid.JPEGLSLossless),
        ("-xv", uid.JPEG2000Lossless),
    ],
)
def test_dcmtk_pushes_in_each_transfer_syntax(reception: Reception, tmp_path: Path, option: str, syntax: str) -> None:
    """The image is kept in the syntax that it came in, and is the one that was sent."""
    sent = written_in(tmp_path, syntax)
    finished = storescu(reception.port, sent, options=[option])
    assert finished.returncode == 0, finished.stderr
    (kept,) = reception.files
    assert read_file_meta_info(kept).TransferSyntaxUID == syntax
    assert dcmread(kept) == dcmread(sent)


@pytest.mark.parametrize("sop_class", ACCEPTED_SOP_CLASSES)
def test_bytes_are_kept_as_they_came(reception: Reception, tmp_path: Path, sop_class: str) -> None:
    """The data set on disk is, byte for byte, what was sent; it is in the ledger; and the next role is woken."""
    sent = radiograph_file(tmp_path, SOPClassUID=sop_class)
    assert reception.send(sent) == 0
    (kept,) = reception.files
    assert data_set_bytes(kept) == data_set_bytes(sent)
    digest = hashlib.sha256(data_set_bytes(sent)).hexdigest()
    assert reception.intake.known(sent.stem, digest)
    assert len(reception.rings) == 1


def test_an_odd_data_set_is_kept_as_it_came(reception: Reception, tmp_path: Path) -> None:
    """Undefined lengths, wrong padding and trailing bytes are nobody's business here."""
    sent = radiograph_file(tmp_path)
    padding = b"\xfc\xff\xfc\xffOB\x00\x00\x06\x00\x00\x00\x01\x02\x03\x04\x05\x06"
    sent.write_bytes(sent.read_bytes() + padding)
    assert reception.send(sent) == 0
    (kept,) = reception.files
    assert data_set_bytes(kept) == data_set_bytes(sent)


def test_the_same_bytes_again_happen_once(reception: Reception, tmp_path: Path) -> None:
    """A resend is answered with success; nothing is written and nobody is woken."""
    sent = radiograph_file(tmp_path)
    assert [reception.send(sent), reception.send(sent)] == [0, 0]
    assert len(reception.files) == 1
    assert len(reception.rings) == 1


def test_the_same_bytes_again_are_kept_when_their_file_was_lost(reception: Reception, tmp_path: Path) -> None:
    """Success means that the image is there: the sender may remove its own."""
    sent = radiograph_file(tmp_path)
    reception.send(sent)
    (lost,) = reception.files
    lost.unlink()
    assert reception.send(sent) == 0
    (kept,) = reception.files
    assert data_set_bytes(kept) == data_set_bytes(sent)
    known = reception.intake.known(sent.stem, hashlib.sha256(data_set_bytes(sent)).hexdigest())
    assert known == KnownContent(kept.relative_to(reception.folder))
    assert len(reception.rings) == 2


def test_other_bytes_under_the_same_uid_are_kept_beside(reception: Reception, tmp_path: Path) -> None:
    """Nothing is overwritten."""
    first = radiograph_file(tmp_path)
    changed = dcmread(first)
    changed.ViewPosition = "AP"
    second = tmp_path / "second.dcm"
    changed.save_as(second)
    assert [reception.send(first), reception.send(second)] == [0, 0]
    assert {data_set_bytes(path) for path in reception.files} == {data_set_bytes(first), data_set_bytes(second)}


def test_orthanc_pushes(tmp_path: Path, database: Database) -> None:
    """A PACS can route images here."""
    sent = radiograph_file(tmp_path)
    with receiving(tmp_path, database) as reception:
        us = {"triage": ("CXRTRIAGE", LOOPBACK, reception.port)}
        with orthanc(tmp_path / "orthanc", modalities=us) as pacs:
            instance = pacs.post("/instances", sent.read_bytes())["ID"]
            pacs.post("/modalities/triage/store", instance.encode())
        (kept,) = reception.files
        assert dcmread(kept) == dcmread(sent)


def test_verification(reception: Reception) -> None:
    """A C-ECHO is answered."""
    verify(reception.peer)


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_stopping_lets_an_association_finish(tmp_path: Path, database: Database) -> None:
    """Who is in the middle of sending may finish; who comes later finds nobody."""
    low_water = LowWater(folders=[tmp_path], minimum_free_bytes=0)
    receiver = Receiver(
        inbox=Inbox(tmp_path / "inbox"), intake=Intake(database), low_water=low_water, on_received=lambda: None
    )
    listener = listening_socket(LOOPBACK, 0, name="test")
    port = listener.getsockname()[1]
    server = receiving_server(receiver, listener=listener, ae_title="CXRTRIAGE", limits=Limits())
    peer = Peer(calling_ae_title="MODALITY", ae_title="CXRTRIAGE", host=LOOPBACK, port=port)
    file = Part10File.read(radiograph_file(tmp_path))
    with running(server.serve) as stop, associated(peer, [file]) as association:
        stop.set()
        eventually(lambda: listener.fileno() == -1)
        assert store(association, file, peer) == 0
        with pytest.raises(UnreachableError):
            verify(peer)


def test_stopping_cuts_off_who_does_not_finish(tmp_path: Path, database: Database) -> None:
    """A sender that stays silent does not keep the service from stopping."""
    with receiving(tmp_path, database, limits=Limits(drain_seconds=0.1)) as reception:
        silent = associated(reception.peer)
        association = silent.__enter__()
    eventually(lambda: not association.is_established)


def test_pynetdicom_says_nothing_of_patients(
    reception: Reception, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even at its most talkative."""
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="pynetdicom"):
        reception.send(radiograph_file(tmp_path, PatientName="Geheim^Name", PatientID="GEHEIM-ID"))
        finished = storescu(reception.port, radiograph_file(tmp_path, PatientName="Geheim^Name"))
    assert finished.returncode == 0
    assert caplog.records
    assert "geheim" not in caplog.text.lower()


def test_a_sender_that_vanishes_within_a_message_holds_no_association(tmp_path: Path, database: Database) -> None:
    """A modality that lost its power in mid-image says no good-bye; its place is free after the network timeout."""
    limits = Limits(maximum_associations=1, network_timeout_seconds=1, acse_timeout_seconds=1)
    file = Part10File.read(radiograph_file(tmp_path))
    with receiving(tmp_path, database, limits=limits) as reception, stalling(reception.port, after_bytes=20) as port:
        impatient = dataclasses.replace(reception.peer, port=port, dimse_timeout_seconds=1, acse_timeout_seconds=1)
        with pytest.raises(UnreachableError), associated(impatient, [file]) as association:
            store(association, file, impatient)
        eventually(lambda: _is_answered(reception.peer))
        assert reception.files == []


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", A_ABORT], ids=["nothing", "no DICOM", "A-ABORT"])
def test_a_peer_that_goes_before_it_asks_holds_no_association(tmp_path: Path, database: Database, said: bytes) -> None:
    """A monitor that probes the port every few seconds costs no place and no thread, however long set-up may take."""
    limits = Limits(maximum_associations=1, acse_timeout_seconds=3600)
    with receiving(tmp_path, database, limits=limits) as reception:
        for _ in range(3):
            with socket.create_connection((LOOPBACK, reception.port)) as probe:
                probe.sendall(said)
        eventually(lambda: _is_answered(reception.peer))
        eventually(lambda: not [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name])


def _is_answered(peer: Peer) -> bool:
    try:
        verify(peer)
    except UnreachableError:
        return False
    return True
