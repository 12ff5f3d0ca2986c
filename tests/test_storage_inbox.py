"""Files: there with all their bytes and durable, or not there at all."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders import MORNING, store_file
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.inbox import DurableFolder

UID = "1.2.840.113619.2.1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a place that does not exist yet, two folders deep."""
    return tmp_path / "data" / "inbox"


@pytest.fixture
def folder(root: Path) -> DurableFolder:
    """Give a folder on a morning in March."""
    return DurableFolder(root, clock=lambda: MORNING)


def test_file_is_meta_information_and_data_set(folder: DurableFolder) -> None:
    """All bytes in order; the digest is of the data set alone, the size of everything."""
    stored = store_file(folder, iter([b"data ", b"set"]), sop_instance_uid=UID, meta=b"meta")
    assert folder.absolute(stored.path).read_bytes() == b"metadata set"
    assert (hashlib.sha256(b"data set").hexdigest(), 12) == (stored.sha256, stored.size_bytes)
    assert stored.path.parent == Path("20240304")
    assert stored.path.name.startswith(f"{UID}-{stored.sha256[:16]}-")


def test_whole_file_at_once(folder: DurableFolder) -> None:
    """As the outbox stores it."""
    stored = store_file(folder, b"whole", sop_instance_uid=UID)
    assert folder.absolute(stored.path).read_bytes() == b"whole"


def test_same_bytes_get_a_file_of_their_own(folder: DurableFolder) -> None:
    """So that discarding one leaves the other."""
    first, second = (store_file(folder, b"same", sop_instance_uid=UID) for _ in range(2))
    folder.discard(second.path)
    folder.discard(second.path)
    assert (folder.absolute(first.path).exists(), folder.absolute(second.path).exists()) == (True, False)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "", "..", "1.2/3", "a" * 5000, "\x00\n;é"])
def test_senders_choose_no_paths(folder: DurableFolder, root: Path, uid: str) -> None:
    """What is not a UID becomes a harmless name within the folder."""
    stored = store_file(folder, b"x", sop_instance_uid=uid)
    [file] = root.glob("2*/*")
    assert folder.absolute(stored.path).resolve() == file.resolve()


def test_nothing_has_its_name_before_it_is_on_the_disk(
    folder: DurableFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's content reaches the disk first, then its name, then the names of its folders: in this order."""
    synced: list[tuple[str, int]] = []
    real_fsync = os.fsync

    def watched(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((target.name if target.is_dir() else target.suffix, len(list(root.glob("2*/*.dcm")))))
        real_fsync(descriptor)

    store_file(folder, b"the first makes the folders", sop_instance_uid=UID)
    monkeypatch.setattr(os, "fsync", watched)
    store_file(folder, b"x", sop_instance_uid=UID)
    assert synced == [(".part", 1), ("20240304", 2)]


def test_new_folders_are_on_the_disk_too(folder: DurableFolder, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that had to be created has its name synced in the one above."""
    synced: set[Path] = set()
    real_fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    store_file(folder, b"x", sop_instance_uid=UID)
    assert {root.parent.parent, root.parent, root, root / "20240304"} <= synced


@pytest.mark.parametrize("failing_call", [1, 2])
def test_failed_fsync_is_final(
    folder: DurableFolder, root: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    """Of the file or of its folder: an error, one try, and nothing left that could be taken for a stored file."""
    store_file(folder, b"the first makes the folders", sop_instance_uid=UID)
    calls = 0

    def failing(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match="Input/output error"):
        store_file(folder, b"x", sop_instance_uid=UID)
    assert calls == failing_call
    assert len([path for path in root.rglob("*") if path.is_file()]) == 1


def test_data_that_stops_coming_leaves_nothing(folder: DurableFolder, root: Path) -> None:
    """A sender that goes away in the middle."""

    def half() -> Iterator[bytes]:
        yield b"half"
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(StorageError, match="Connection reset"):
        store_file(folder, half(), sop_instance_uid=UID)
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "inbox").write_text("not a folder")
    with pytest.raises(StorageError, match="inbox"):
        store_file(DurableFolder(tmp_path / "inbox"), b"x", sop_instance_uid=UID)


def test_what_died_on_the_way_in_is_removed(folder: DurableFolder, root: Path) -> None:
    """A writer that was killed leaves a part; one that lives keeps its own."""
    with _writer(root) as dead, _writer(root) as living:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert len(list(root.glob("incoming/*"))) == 2
        assert folder.remove_incomplete() == 1
        assert folder.remove_incomplete() == 0
        output, _ = living.communicate(b"go on\n")
    assert (root / output.decode().strip()).read_bytes() == b"first second"


def test_files_are_found_by_their_folders(folder: DurableFolder, root: Path) -> None:
    """Relative to the root; parts are not among them, and a folder is another one when it got a file."""
    first = store_file(folder, b"x", sop_instance_uid=UID)
    (root / "incoming" / "half.part").touch()
    before = folder.folders()
    os.utime(root / "20240304", ns=(0, 0))
    second = store_file(folder, b"y", sop_instance_uid=UID)
    assert list(before) == [Path("20240304")]
    assert sorted([first.path, second.path]) == sorted(map(Path, folder.files(Path("20240304"))))
    assert folder.folders() != {Path("20240304"): 0}


def test_folder_that_nobody_wrote_to_is_empty(folder: DurableFolder) -> None:
    """Looking creates nothing."""
    assert folder.remove_incomplete() == 0
    assert folder.folders() == {}


def test_a_file_is_abandoned_when_its_writer_is_gone(folder: DurableFolder) -> None:
    """Not while somebody is about to record it, whatever its age; and not when it is gone."""
    with folder.storing(b"x", sop_instance_uid=UID) as stored:
        assert folder.abandoned([stored.path]) == []
    assert folder.abandoned([stored.path, Path("20240304/gone.dcm")]) == [stored.path]


def test_a_file_whose_recording_failed_stays(folder: DurableFolder) -> None:
    """The commit may have happened all the same."""
    with pytest.raises(StorageError, match="lost answer"), folder.storing(b"x", sop_instance_uid=UID) as stored:
        raise StorageError("lost answer")
    assert folder.absolute(stored.path).read_bytes() == b"x"
    assert folder.abandoned([stored.path]) == [stored.path]


def test_a_part_that_is_tidied_away_before_its_lock_is_begun_again(
    folder: DurableFolder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever tidies up may come between a file's creation and its lock; the sender does not notice."""
    real_flock = fcntl.flock
    tidied: list[Path] = []

    def late(file: object, operation: int) -> None:
        if not tidied:
            tidied.extend(root.glob("incoming/*.part"))
            tidied[0].unlink()
        real_flock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    stored = store_file(folder, b"x", sop_instance_uid=UID)
    assert len(tidied) == 1
    assert folder.absolute(stored.path).read_bytes() == b"x"


def _writer(root: Path) -> subprocess.Popen[bytes]:
    """Start a process that has stored half a file and waits for a line."""
    program = """
import sys
from pathlib import Path
from cxr_triage.storage.inbox import DurableFolder
def chunks():
    yield b"first"
    print("half", flush=True)
    sys.stdin.readline()
    yield b" second"
with DurableFolder(Path(sys.argv[1])).storing(chunks(), sop_instance_uid="1.2") as stored:
    print(stored.path)
"""
    writer = subprocess.Popen([sys.executable, "-c", program, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    return writer
