"""Backups: consistent while the service works, whole or not there, and plain about what they lack."""

import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from backed_up import Ward
from conftest import DATABASES
from cxr_triage.model.errors import StorageError
from cxr_triage.storage.backup import Manifest, back_up, files, making, manifest, verify
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import InstanceState, Receipt
from cxr_triage.storage.locks import FILES, WORK, lock
from cxr_triage.storage.migrate import migrate
from cxr_triage.storage.space import free_bytes


def backed_up(folder: Path, made: Manifest) -> set[Path]:
    """What a backup's folder holds beside manifest and ledger, by place and path."""
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} - {
        Path("manifest.json"),
        Path(made.ledger.path),
    }


def ledger_of(folder: Path, made: Manifest, tmp_path: Path) -> Ward:
    """Look into a backup's ledger, as a copy."""
    copy = shutil.copy(made.ledger.below(folder), tmp_path / f"look-{made.ledger.path}")
    return Ward(tmp_path / "look", f"sqlite:///{copy}")


def test_backup_has_every_row_and_every_file_that_a_row_owns(ward: Ward, tmp_path: Path) -> None:
    """In an SQLite file of the same schema, whatever the database; and it says so of each by digest."""
    folder = tmp_path / "backup"
    made = back_up(ward.service, folder)
    looked = ledger_of(folder, made, tmp_path)
    assert looked.rows() == ward.rows()
    looked.close()
    assert {ward.service.inbox.parent / path for path in backed_up(folder, made)} == ward.owned()
    assert {kept.sha256 for kept in made.all_files} == {
        hashlib.sha256(kept.below(folder).read_bytes()).hexdigest() for kept in made.all_files
    }
    assert made.counts == {table: len(rows) for table, rows in ward.rows().items()}
    assert verify(folder) == (made, [])


def test_backup_is_for_its_owner_alone(sqlite_ward: Ward, tmp_path: Path) -> None:
    """It is patient data, whatever the umask."""
    folder = tmp_path / "somewhere" / "backup"
    back_up(sqlite_ward.service, folder)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}


def test_manifest_names_no_patient(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Nor does it hold a password: it may be looked at."""
    folder = tmp_path / "backup"
    back_up(sqlite_ward.service, folder)
    content = (folder / "manifest.json").read_text()
    assert [word for word in ("Muster", "PAT-0001", "ACC-0001", "19640812") if word in content] == []


def test_next_backup_copies_what_is_new_and_drops_what_is_gone(ward: Ward, tmp_path: Path) -> None:
    """Files that are there already are not written again."""
    folder = tmp_path / "backup"
    first = back_up(ward.service, folder)
    kept = {kept.below(folder): kept.below(folder).stat().st_ino for kept in first.files}
    gone = ward.steps.housekeeping.forgettable_files(ward.steps.clock().replace(year=2030))
    assert gone
    ward.steps.housekeeping.record_forgotten(gone)
    image = ward.receive()
    second = back_up(ward.service, folder)
    paths = {kept.below(folder) for kept in second.files}
    assert folder / "inbox" / image.path in paths
    assert not paths & {folder / file.place / file.path for file in gone}
    assert {path: path.stat().st_ino for path in paths & kept.keys()} == {
        path: inode for path, inode in kept.items() if path in paths
    }
    assert {folder / path for path in backed_up(folder, second)} == paths
    assert verify(folder) == (second, [])


def test_backup_that_fails_leaves_the_one_before_whole(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there until the very last step."""
    folder = tmp_path / "backup"
    first = back_up(ward.service, folder)
    ward.receive()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(StorageError, match=r"No space left.*earlier backup there is still whole"):
        back_up(ward.service, folder)
    assert verify(folder) == (first, [])
    assert list(folder.glob("ledger-*")) == [first.ledger.below(folder)]
    monkeypatch.undo()
    assert len(back_up(ward.service, folder).files) == len(first.files) + 1


def test_backup_that_is_cut_off_after_its_manifest_is_whole(
    sqlite_ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the new manifest speaks of is there, whatever comes after; the next one cleans up."""
    folder = tmp_path / "backup"
    back_up(sqlite_ward.service, folder)
    write = manifest.write

    def write_and_die(made: Manifest, target: Path) -> None:
        write(made, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "write", write_and_die)
    with pytest.raises(KeyboardInterrupt):
        back_up(sqlite_ward.service, folder)
    found, wrong = verify(folder)
    assert wrong == []
    monkeypatch.undo()
    back_up(sqlite_ward.service, folder)
    assert not found.ledger.below(folder).exists()


def test_first_backup_that_was_cut_short_is_none_and_is_made_again(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Without its manifest it is nothing, and what it left does not disturb."""
    folder = tmp_path / "backup"
    made = back_up(sqlite_ward.service, folder)
    (folder / "manifest.json").unlink()
    (folder / "dead.part").write_bytes(b"half")
    with pytest.raises(StorageError, match="no backup"):
        verify(folder)
    again = back_up(sqlite_ward.service, folder)
    assert (again.files, (folder / "dead.part").exists()) == (made.files, False)
    assert not made.ledger.below(folder).exists()


@pytest.mark.parametrize("problem", ["missing", "damaged"])
def test_file_that_is_not_what_its_row_says_is_named_and_not_taken(ward: Ward, tmp_path: Path, problem: str) -> None:
    """The backup's own row says so; an image with work left ends there as failed."""
    folder = tmp_path / "backup"
    image = ward.receive()
    file = ward.inbox.absolute(image.path)
    if problem == "missing":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    made = back_up(ward.service, folder)
    [found] = made.problems
    assert (found.sop_instance_uid, found.problem) == (image.sop_instance_uid, problem)
    assert folder / "inbox" / image.path not in {kept.below(folder) for kept in made.files}
    looked = ledger_of(folder, made, tmp_path)
    assert looked.states()[image.sop_instance_uid] is InstanceState.FAILED
    assert {path.relative_to(looked.service.inbox.parent) for path in looked.owned()} == backed_up(folder, made)
    # In the service itself nothing has changed.
    assert ward.states()[image.sop_instance_uid] is InstanceState.RECEIVED
    # Sent again, it is taken in anew; what has its file is known as before.
    assert looked.steps.intake.known(image.sop_instance_uid, image.sha256) is None
    assert looked.steps.intake.record_received(image) is Receipt.NEW
    assert looked.states()[image.sop_instance_uid] is InstanceState.RECEIVED
    looked.close()


def test_changed_meta_information_does_no_harm(ward: Ward, tmp_path: Path) -> None:
    """The row's digest is that of the data set; the file's own is in the manifest."""
    file = ward.inbox.absolute(ward.receive().path)
    file.write_bytes(file.read_bytes().replace(b"meta", b"META"))
    assert back_up(ward.service, tmp_path / "backup").problems == ()


def test_images_that_come_while_it_is_made_are_wholly_in_it_or_not_at_all(ward: Ward, tmp_path: Path) -> None:
    """Under pressure: each row of the backup has its file, and a writer never waits for the backup."""
    folder, stop = tmp_path / "backup", threading.Event()
    received: list[str] = []

    def push() -> None:
        while not stop.is_set():
            received.append(ward.receive().sop_instance_uid)

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        made = [back_up(ward.service, folder) for _ in range(3)][-1]
    finally:
        stop.set()
        pusher.join()
    looked = ledger_of(folder, made, tmp_path)
    assert {path.relative_to(looked.service.inbox.parent) for path in looked.owned()} == backed_up(folder, made)
    assert len(looked.states()) < len(ward.states())
    looked.close()
    assert (made.problems, verify(folder)) == ((), (made, []))


def test_folder_of_somebody_else_is_refused(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Nothing there is touched."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"letter\.txt.*new folder"):
        back_up(sqlite_ward.service, folder)
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_folder_of_another_database_is_refused(
    sqlite_ward: Ward, tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    """Two services that were given one folder would throw away each other's backup."""
    folder = tmp_path / "backup"
    first = back_up(sqlite_ward.service, folder)
    url = new_database("sqlite")
    migrate(url)
    other = Ward(tmp_path / "other", url)
    with pytest.raises(StorageError, match="backup of another database"):
        back_up(other.service, folder)
    other.close()
    assert verify(folder) == (first, [])


def test_full_disk_is_said_before_anything_is_copied(ward: Ward, tmp_path: Path) -> None:
    """With how much is needed: here, for a file that claims more than the disk has."""
    os.truncate(ward.inbox.absolute(ward.receive().path), free_bytes(tmp_path) + 2**30)
    with pytest.raises(StorageError, match=r"MiB free, and the files to be copied take \d+ MiB: make room"):
        back_up(ward.service, tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "word"), [(FILES, "another backup is being made"), (WORK, "being migrated or restored")]
)
def test_backup_waits_for_nobody_for_ever(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, word: str
) -> None:
    """Another backup of the same database, a migration and a restore go first."""
    monkeypatch.setattr(making, "WAIT_SECONDS", 0.2)
    other = open_database(ward.service.database_url)
    with lock(other, name), pytest.raises(StorageError, match=word):
        back_up(ward.service, tmp_path / "backup")
    other.close()
    back_up(ward.service, tmp_path / "backup")


def test_dropped_lock_is_noticed(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, upkeep might have removed files: a backup that cannot be sure is none."""
    ward = Ward(tmp_path / "service", postgres_url)
    ward.fill()
    copy = files.copy_durably

    def cut_then_copy(*arguments: object, **options: object) -> object:
        with ward.database.apart() as connection:
            connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        return copy(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(making, "copy_durably", cut_then_copy)
    with pytest.raises(StorageError):
        back_up(ward.service, tmp_path / "backup")
    assert not (tmp_path / "backup" / "manifest.json").exists()
    ward.close()


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.parametrize(("revision", "word"), [("9999", "newer version"), (None, "cxr-triage migrate")])
def test_schema_of_another_version_is_refused(
    new_database: Callable[[str], str], tmp_path: Path, kind: str, revision: str | None, word: str
) -> None:
    """A newer one, and none at all."""
    url = new_database(kind)
    ward = Ward(tmp_path / "service", url)
    if revision is not None:
        migrate(url)
        with ward.database.transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(StorageError, match=word):
        back_up(ward.service, tmp_path / "backup")
    ward.close()


def test_damaged_manifest_is_told_from_a_whole_one(sqlite_ward: Ward, tmp_path: Path) -> None:
    """By its own digest; also when it is cut off, or leads elsewhere."""
    folder = tmp_path / "backup"
    back_up(sqlite_ward.service, folder)
    path = folder / "manifest.json"
    whole = path.read_text()
    for wrong in (
        whole.replace('"counts"', '"Counts"'),
        whole[:-20],
        "[]",
        whole.replace('"problems": []', '"problems": [1]'),
    ):
        path.write_text(wrong)
        with pytest.raises(StorageError, match=r"damaged|newer"):
            verify(folder)
    content = json.loads(whole)
    content["files"][0]["path"] = "../../etc/passwd"
    del content["sha256"]
    content["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    path.write_text(json.dumps(content))
    with pytest.raises(StorageError, match="damaged"):
        verify(folder)
