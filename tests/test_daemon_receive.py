"""The Storage SCP against DCMTK, Orthanc and misbehaving senders."""

import hashlib
import logging
import resource
import socket
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, config, dcmread, dcmwrite, uid
from pydicom.filereader import read_file_meta_info
from pynetdicom.dsutils import encode_file_meta, split_dataset

from builders import radiograph_dataset, radiograph_file
from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store, verify
from cxr_triage.daemon.dicom_server import DicomServer, Limits
from cxr_triage.daemon.receive import (
    ACCEPTED_SOP_CLASSES,
    CANNOT_UNDERSTAND,
    Incoming,
    Receiver,
    declared_uids,
    is_uid,
    receiving_server,
    refusal,
)
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.model.errors import RefusedError, UnreachableError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.inbox import Inbox
from cxr_triage.storage.ledger import Intake
from peers import LOOPBACK, PATIENCE_SECONDS, REFUSED_CONNECTION, eventually, orthanc, running, serving, storescu

DCMCJPEG = "/usr/bin/dcmcjpeg"


@dataclass
class Reception:
    """A receiver and what it keeps."""

    port: int
    folder: Path
    intake: Intake
    rings: list[None] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Every file below the inbox, finished or not."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @property
    def peer(self) -> Peer:
        """The receiver as a destination."""
        return Peer(calling_ae_title="MODALITY", ae_title="CXRTRIAGE", host=LOOPBACK, port=self.port)

    def send(self, path: Path) -> int:
        """Send a file's bytes as they are; gives the status."""
        file = Part10File.read(path)
        with associated(self.peer, [file]) as association:
            return store(association, file, self.peer)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """Open a fresh, migrated SQLite database."""
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@contextmanager
def receiving(
    folder: Path,
    database: Database,
    *,
    allowed_ae_titles: tuple[str, ...] = (),
    require_called_ae_title: bool = False,
    limits: Limits | None = None,
) -> Iterator[Reception]:
    """Run a receiver."""
    reception = Reception(port=0, folder=folder / "inbox", intake=Intake(database))
    receiver = Receiver(
        inbox=Inbox(reception.folder), intake=reception.intake, on_received=lambda: reception.rings.append(None)
    )

    def build(listener: socket.socket) -> DicomServer:
        return receiving_server(
            receiver,
            listener=listener,
            ae_title="CXRTRIAGE",
            limits=limits or Limits(),
            allowed_ae_titles=allowed_ae_titles,
            require_called_ae_title=require_called_ae_title,
        )

    with serving(build) as port:
        reception.port = port
        yield reception


@pytest.fixture
def reception(tmp_path: Path, database: Database) -> Iterator[Reception]:
    """Run a receiver that takes from anybody."""
    with receiving(tmp_path, database) as running_reception:
        yield running_reception


def data_set_bytes(path: Path) -> bytes:
    """What follows a file's meta information."""
    _, offset = split_dataset(path)
    return path.read_bytes()[offset:]


def encoded(dataset: Dataset, syntax: str) -> bytes:
    """Encode a data set, without file meta information."""
    buffer = BytesIO()
    dcmwrite(
        buffer,
        dataset,
        implicit_vr=uid.UID(syntax).is_implicit_VR,
        little_endian=uid.UID(syntax).is_little_endian,
        force_encoding=True,
    )
    return buffer.getvalue()


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


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: writing fails in the middle, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_a_full_disk_is_said_and_leaves_nothing(reception: Reception, tmp_path: Path) -> None:
    """The sender learns that the image is not here, and may send it again when there is space."""
    sent = radiograph_file(tmp_path, pixels=np.zeros((1024, 1024), np.uint16))
    with largest_file(1_000_000), pytest.raises(UnreachableError, match="0xA700"):
        reception.send(sent)
    assert reception.files == []
    assert reception.rings == []
    assert reception.send(sent) == 0


def test_a_missing_ledger_is_said_and_leaves_nothing(tmp_path: Path, empty_sqlite: Database) -> None:
    """Without a database nothing is acknowledged, and the inbox does not fill with what nobody knows of."""
    with receiving(tmp_path, empty_sqlite) as reception:
        with pytest.raises(UnreachableError, match="0xA700"):
            reception.send(radiograph_file(tmp_path))
        assert reception.files == []


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> Iterator[Database]:
    """Open a database without tables."""
    opened = open_database(f"sqlite:///{tmp_path / 'empty.db'}")
    yield opened
    opened.close()


def with_other_meta(path: Path, **changes: str) -> Path:
    """Change what the file meta information, and so the C-STORE command, says of a data set."""
    dataset = dcmread(path)
    with config.disable_value_validation():
        for keyword, value in changes.items():
            setattr(dataset.file_meta, keyword, value)
        meta = encode_file_meta(dataset.file_meta)
    changed = path.with_suffix(".changed")
    changed.write_bytes(bytes(128) + b"DICM" + meta + data_set_bytes(path))
    return changed


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"MediaStorageSOPInstanceUID": "1.2.3.4"}, "0xA900"),
        ({"MediaStorageSOPClassUID": uid.ComputedRadiographyImageStorage}, "0xA900"),
        ({"TransferSyntaxUID": uid.ExplicitVRBigEndian}, "0xC000"),
        ({"TransferSyntaxUID": uid.DeflatedExplicitVRLittleEndian}, "0xC000"),
    ],
)
def test_a_command_that_contradicts_its_data_set_is_refused(
    reception: Reception, tmp_path: Path, change: dict[str, str], status: str
) -> None:
    """PS3.4 Table B.2-1 has a status for each contradiction."""
    sent = with_other_meta(radiograph_file(tmp_path), **change)
    with pytest.raises(RefusedError, match=status):
        reception.send(sent)
    assert reception.files == []


def test_a_command_without_a_uid_is_refused(tmp_path: Path) -> None:
    """What the sender calls the image must be a UID, whatever the data set says."""
    incoming = Incoming(
        sop_class_uid=uid.DigitalXRayImageStorageForPresentation,
        sop_instance_uid="../../etc/passwd",
        abstract_syntax_uid=uid.DigitalXRayImageStorageForPresentation,
        transfer_syntax_uid=uid.ExplicitVRLittleEndian,
        calling_ae_title="MODALITY",
        called_ae_title="CXRTRIAGE",
        encoded=data_set_bytes(radiograph_file(tmp_path)),
    )
    answer = refusal(incoming)
    assert answer is not None
    assert answer.status == CANNOT_UNDERSTAND


@pytest.mark.parametrize("value", [None, ""])
def test_a_data_set_without_its_uid_is_refused(reception: Reception, tmp_path: Path, value: str | None) -> None:
    """What cannot be named cannot be kept."""
    whole = radiograph_file(tmp_path)
    dataset = dcmread(whole)
    if value is None:
        del dataset.SOPInstanceUID
    else:
        dataset.SOPInstanceUID = value
    sent = tmp_path / "nameless.dcm"
    meta, _ = whole.read_bytes().split(data_set_bytes(whole))
    sent.write_bytes(meta + encoded(dataset, uid.ExplicitVRLittleEndian))
    with pytest.raises(RefusedError, match="0xC000"):
        reception.send(sent)
    assert reception.files == []


def test_noise_is_refused(reception: Reception, tmp_path: Path) -> None:
    """A sender whose data set is no data set is told so."""
    whole = radiograph_file(tmp_path)
    meta, _ = whole.read_bytes().split(data_set_bytes(whole))
    noise = tmp_path / "noise.dcm"
    noise.write_bytes(meta + b"\xff" * 4096)
    with pytest.raises(RefusedError, match="0xC000"):
        reception.send(noise)
    assert reception.files == []


@pytest.mark.parametrize("sop_class", [uid.SegmentationStorage, uid.Comprehensive3DSRStorage])
def test_our_own_results_are_not_taken_back(reception: Reception, sop_class: uid.UID) -> None:
    """A router that sends derived objects back finds no presentation context for them."""
    derived = Part10File(path=Path(), sop_class_uid=sop_class, transfer_syntax_uid=uid.ExplicitVRLittleEndian)
    with associated(reception.peer, [derived]) as association:
        assert [context.abstract_syntax for context in association.rejected_contexts] == [sop_class]


def test_only_allowed_senders_are_served(tmp_path: Path, database: Database) -> None:
    """Where a site lists its modalities, others are rejected."""
    sent = radiograph_file(tmp_path)
    with receiving(tmp_path, database, allowed_ae_titles=("ROOM1", "ROOM2")) as reception:
        assert storescu(reception.port, sent, calling="STRANGER").returncode != 0
        assert reception.files == []
        assert storescu(reception.port, sent, calling="ROOM2").returncode == 0


@pytest.mark.parametrize(("required", "taken"), [(True, False), (False, True)])
def test_the_called_ae_title_matters_where_a_site_says_so(
    tmp_path: Path, database: Database, *, required: bool, taken: bool
) -> None:
    """By default any called AE title is fine."""
    with receiving(tmp_path, database, require_called_ae_title=required) as reception:
        finished = storescu(reception.port, radiograph_file(tmp_path), called="SOMEONE")
        assert (finished.returncode == 0) is taken


def test_one_association_too_many_is_rejected(tmp_path: Path, database: Database) -> None:
    """The sender hears that it should come back later."""
    with (
        receiving(tmp_path, database, limits=Limits(maximum_associations=1)) as reception,
        associated(reception.peer),
        pytest.raises(UnreachableError, match="Local limit exceeded"),
    ):
        verify(reception.peer)


@pytest.mark.filterwarnings(REFUSED_CONNECTION)
def test_stopping_lets_an_association_finish(tmp_path: Path, database: Database) -> None:
    """Who is in the middle of sending may finish; who comes later finds nobody."""
    receiver = Receiver(inbox=Inbox(tmp_path / "inbox"), intake=Intake(database), on_received=lambda: None)
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


def test_a_deflated_bomb_is_not_inflated() -> None:
    """Only the first bytes of a deflated data set are looked at."""
    head = encoded(radiograph_dataset(PixelData=b""), uid.ExplicitVRLittleEndian)
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([squeezer.compress(head + bytes(256 * 1024 * 1024)), squeezer.flush()])
    declared = declared_uids(bomb, uid.DeflatedExplicitVRLittleEndian)
    assert declared is not None
    assert declared[0] == uid.DigitalXRayImageStorageForPresentation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2.840.10008.1.1", True),
        ("2.25." + "9" * 39, True),
        ("1.02.3", True),
        ("", False),
        ("1..2", False),
        ("1.2.", False),
        ("1.2/../3", False),
        ("1" * 65, False),
        ("1.2\n", False),
    ],
)
def test_what_is_a_uid(text: str, expected: bool) -> None:  # noqa: FBT001
    """PS3.5 9.1, except that leading zeros are taken."""
    assert is_uid(text) is expected
