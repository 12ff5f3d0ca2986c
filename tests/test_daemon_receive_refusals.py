"""What the Storage SCP does not take, and what it then says (PS3.4 Table B.2-1)."""

import dataclasses
import os
import resource
import socket
import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import config, dcmread, uid
from pynetdicom import AE
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.transport import AssociationServer
from structlog.testing import capture_logs

from builders import radiograph_dataset, radiograph_file
from cxr_triage.daemon.dicom_client import Part10File, Peer, associated, store, verify
from cxr_triage.daemon.dicom_server import POLL_SECONDS, Limits
from cxr_triage.daemon.receive import (
    CANNOT_UNDERSTAND,
    Incoming,
    declared_uids,
    is_uid,
    refusal,
)
from cxr_triage.model.errors import RefusedError, UnreachableError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.space import LowWater
from peers import eventually, storescu
from reception import Reception, data_set_bytes, encoded, receiving


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """Do with SQLite here: the ledger's own tests run on both."""
    return sqlite_database


@pytest.fixture
def reception(tmp_path: Path, database: Database) -> Iterator[Reception]:
    """Run a receiver that takes from anybody."""
    with receiving(tmp_path, database) as running_reception:
        yield running_reception


@contextmanager
def no_handle_left() -> Iterator[None]:
    """Let this process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(handle.name) for handle in Path("/proc/self/fd").iterdir())
    spare = [os.open(os.devnull, os.O_RDONLY)]
    while spare[-1] < highest:  # gaps would be filled first
        spare.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[-1] + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for handle in spare:
            os.close(handle)


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


def test_a_disk_below_its_mark_takes_nothing_new(tmp_path: Path, database: Database) -> None:
    """What was acknowledged before is still known; and it resumes by itself when there is space again."""
    old, new = radiograph_file(tmp_path), radiograph_file(tmp_path)
    mark = LowWater(folders=[tmp_path], minimum_free_bytes=0)
    with receiving(tmp_path, database, low_water=mark) as reception:
        assert reception.send(old) == 0
        object.__setattr__(mark, "minimum_free_bytes", 2**62)
        with pytest.raises(UnreachableError, match="0xA700"):
            reception.send(new)
        assert reception.send(old) == 0
        assert len(reception.files) == 1
        object.__setattr__(mark, "minimum_free_bytes", 0)
        assert reception.send(new) == 0


def test_a_missing_ledger_is_said_and_leaves_nothing(tmp_path: Path, empty_sqlite: Database) -> None:
    """Without a database nothing is acknowledged, and the inbox does not fill with what nobody knows of."""
    with receiving(tmp_path, empty_sqlite) as reception:
        with pytest.raises(UnreachableError, match="0xA700"):
            reception.send(radiograph_file(tmp_path))
        assert reception.files == []


def test_a_sender_of_other_classes_only_is_named_in_the_log(reception: Reception) -> None:
    """With the classes that it offered: its own screen says only that it does not work."""
    sender = AE(ae_title="SCANNER")
    sender.add_requested_context(uid.SecondaryCaptureImageStorage)
    with capture_logs() as lines:
        sender.associate("127.0.0.1", reception.port).abort()
        eventually(lambda: any(line["event"] == "no presentation context accepted" for line in lines))
    (said,) = (line for line in lines if line["event"] == "no presentation context accepted")
    assert (said["calling_ae_title"], said["sop_class_uids"]) == ("SCANNER", [uid.SecondaryCaptureImageStorage])


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
    derived = Part10File(
        path=Path(),
        sop_class_uid=sop_class,
        sop_instance_uid=uid.UID("1.2.3"),
        transfer_syntax_uid=uid.ExplicitVRLittleEndian,
    )
    with associated(reception.peer, [derived]) as association:
        assert {context.abstract_syntax for context in association.rejected_contexts} == {sop_class}


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


def test_a_sender_that_gives_up_keeps_its_place_while_its_image_is_stored(tmp_path: Path, database: Database) -> None:
    """Or whoever tries again and again while the database is slow would fill the memory with images."""
    file = Part10File.read(radiograph_file(tmp_path))
    with (
        receiving(tmp_path, database, limits=Limits(maximum_associations=1)) as reception,
        closing(sqlite3.connect(tmp_path / "triage.db", isolation_level=None)) as another,
    ):
        another.execute("BEGIN IMMEDIATE")
        impatient = dataclasses.replace(reception.peer, dimse_timeout_seconds=0.5)
        with pytest.raises(UnreachableError, match="no answer"), associated(impatient, [file]) as association:
            store(association, file, impatient)
        with pytest.raises(UnreachableError, match="Local limit exceeded"):
            verify(reception.peer)
        another.execute("ROLLBACK")
        eventually(lambda: _is_answered(reception.peer))
    assert len(reception.files) == 1


def _is_answered(peer: Peer) -> bool:
    try:
        verify(peer)
    except UnreachableError:
        return False
    return True


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
def test_what_is_a_uid(text: str, expected: bool) -> None:
    """PS3.5 9.1, except that leading zeros are taken."""
    assert is_uid(text) is expected


def test_who_calls_while_no_file_handle_is_left_waits(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop that accepts connections neither ends nor spins, and says so once."""
    asked: list[None] = []
    accept = AssociationServer.get_request

    def counted(server: AssociationServer) -> tuple[socket.socket, Any]:
        asked.append(None)
        accepted: tuple[socket.socket, Any] = accept(server)
        return accepted

    monkeypatch.setattr(AssociationServer, "get_request", counted)
    with socket.socket() as caller, capture_logs() as logs:
        with no_handle_left():
            caller.connect(("127.0.0.1", reception.port))
            eventually(lambda: len(asked) > 1)
            before = len(asked)
            time.sleep(3 * POLL_SECONDS)
            assert len(asked) - before <= 4
        verify(reception.peer)
    assert [line["event"] for line in logs].count("connection waits: no file handle is left") == 1
