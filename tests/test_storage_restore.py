"""Restoring: everything comes back, into either kind of database, once, or nothing does."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from backed_up import Ward, without_claims
from builders import received_instance, store_file
from conftest import DATABASES
from cxr_triage.model.errors import StorageError
from cxr_triage.storage import disk
from cxr_triage.storage.backup import Kept, Service, back_up, in_silence, manifest, restore, restoring
from cxr_triage.storage.database import open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.locks import WORK, at_work, lock
from cxr_triage.storage.migrate import migrate, require_current_schema
from cxr_triage.storage.space import free_bytes

#: Where to.
KINDS = pytest.mark.parametrize("kind", DATABASES)


def empty(folder: Path, url: str) -> Service:
    """A service that has nothing yet."""
    return Service(database_url=url, printable_database=url, inbox=folder / "inbox", outbox=folder / "outbox")


def contents(service: Service) -> dict[Path, bytes]:
    """Every file of a service, by place and path."""
    return {
        path.relative_to(service.inbox.parent): path.read_bytes()
        for folder in (service.inbox, service.outbox)
        for path in folder.rglob("*")
        if path.is_file()
    }


def change(path: Path) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@KINDS
def test_everything_comes_back(ward: Ward, tmp_path: Path, new_database: Callable[[str], str], kind: str) -> None:
    """From either kind of database into either kind, value for value, but for the claims of those who are gone."""
    back_up(ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", new_database(kind))
    restore(tmp_path / "backup", service, clock=ward.steps.clock)
    back = Ward(tmp_path / "new", service.database_url)
    assert without_claims(back.rows()) == without_claims(ward.rows())
    assert contents(service) == contents(ward.service)
    assert back.files() == back.owned()
    require_current_schema(back.database)
    back.close()


@KINDS
def test_work_goes_on(ward: Ward, tmp_path: Path, new_database: Callable[[str], str], kind: str) -> None:
    """What was in flight is free at once, and new rows are numbered behind those that are there."""
    back_up(ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", new_database(kind))
    done = restore(tmp_path / "backup", service, clock=ward.steps.clock)
    assert done.claims_given_back == 3
    back = Ward(tmp_path / "new", service.database_url)
    back.receive()
    assert len(back.steps.scoring.claim_to_index("infer-9-host-9", 9)) == 3
    assert back.steps.scoring.claim_to_score("infer-9-host-9") is not None
    back.report("1.2")
    assert len(back.steps.dispatch.claim("deliver-9-host-9", "pacs", 9)) > 0
    back.close()


def test_late_worker_of_before_records_nothing(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Attempts go on counting: a claim of the lost service is stale."""
    claims = sqlite_ward.steps.scoring.claim_to_index("infer-7-host-7", 1)
    back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    restore(tmp_path / "backup", service, clock=sqlite_ward.steps.clock)
    back = Ward(tmp_path / "new", service.database_url)
    again = {claim.instance_id: claim for claim in back.steps.scoring.claim_to_index("infer-9-host-9", 9)}
    assert [again[claim.instance_id].attempt for claim in claims] == [claim.attempt + 1 for claim in claims]
    back.close()


@KINDS
def test_database_with_rows_is_refused(
    sqlite_ward: Ward, tmp_path: Path, new_database: Callable[[str], str], kind: str
) -> None:
    """Before a file is written; one with nothing but its tables is fine."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    url = new_database(kind)
    migrate(url)
    service = empty(tmp_path / "new", url)
    other = Ward(tmp_path / "new", url)
    other.steps.receive(received_instance())
    with pytest.raises(StorageError, match="not empty"):
        restore(tmp_path / "backup", service)
    assert contents(service) == {}
    with other.database.transaction() as session:
        session.execute(text("DELETE FROM instance"))
        session.execute(text("DELETE FROM audit"))
    other.close()
    restore(tmp_path / "backup", service)


def test_other_files_are_refused(sqlite_ward: Ward, tmp_path: Path) -> None:
    """They may be images that the backup does not know: nothing is overwritten, and nothing left behind."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    other = Ward(tmp_path / "new", f"sqlite:///{tmp_path / 'other.db'}")
    stray = other.inbox.absolute(store_file(other.inbox, b"later", sop_instance_uid="1.2.3").path)
    other.close()
    with pytest.raises(StorageError, match=rf"1 files that are not in the backup, the first is {stray}.*--keep-other"):
        restore(tmp_path / "backup", service)
    assert [stray] == [path for path in service.inbox.rglob("*") if path.is_file()]
    stray.unlink()
    (service.inbox / "unknown").mkdir()
    (service.inbox / "unknown" / "old.dcm").write_bytes(b"set aside")
    restore(tmp_path / "backup", service)


def test_newer_images_of_the_inbox_are_kept_where_a_person_says_so(sqlite_ward: Ward, tmp_path: Path) -> None:
    """The database was lost, and the folders were not: upkeep takes in what the backup does not know."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    newer = sqlite_ward.inbox.absolute(sqlite_ward.image().path)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    restore(tmp_path / "backup", dataclasses.replace(sqlite_ward.service, database_url=url), keep_other_files=True)
    back = Ward(tmp_path / "service", url)
    assert back.files() - back.owned() == {newer}
    back.close()


def test_files_that_are_there_already_stay(
    sqlite_ward: Ward, tmp_path: Path, new_database: Callable[[str], str]
) -> None:
    """A service moves to another database in its own folders; a file that is damaged there comes from the backup."""
    made = back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "service", new_database("postgresql"))
    before = {path: path.stat().st_ino for path in sqlite_ward.owned()}
    damaged = min(before)
    whole = damaged.read_bytes()
    change(damaged)
    restore(tmp_path / "backup", service)
    assert damaged.read_bytes() == whole
    assert {path for path, inode in before.items() if path.stat().st_ino != inode} == {damaged}
    assert len(contents(service)) == len(made.files)


def test_database_at_work_is_refused(sqlite_ward: Ward, tmp_path: Path, database_url: str) -> None:
    """By a role on any host; and while it is restored, no role begins."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    if database_url.startswith("sqlite"):
        database_url = f"sqlite:///{tmp_path / 'new.db'}"
    service = empty(tmp_path / "new", database_url)
    with at_work(database_url, check_seconds=5), pytest.raises(StorageError, match="stop every role"):
        restore(tmp_path / "backup", service)
    other = open_database(database_url)
    with (
        lock(other, WORK),
        pytest.raises(StorageError, match="being migrated or restored"),
        at_work(database_url, check_seconds=5),
    ):
        pytest.fail("a role began")
    other.close()
    restore(tmp_path / "backup", service)


@KINDS
@pytest.mark.parametrize("where", ["files", "rows"])
def test_interrupted_restore_is_refused_by_all_and_can_be_run_again(
    sqlite_ward: Ward,
    tmp_path: Path,
    new_database: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    where: str,
) -> None:
    """Cut off between two files, or within the rows' transaction."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", new_database(kind))

    def until(step: str, done: int, _whole: int | None) -> None:
        if step == where and done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", service, advance=until)
    with pytest.raises(StorageError, match=r"has not come to its end: run `cxr-triage restore` again"):
        migrate(service.database_url)
    database = open_database(service.database_url)
    with pytest.raises(StorageError, match="has not come to its end"):
        require_current_schema(database)
    database.close()
    monkeypatch.undo()
    restore(tmp_path / "backup", service, clock=sqlite_ward.steps.clock)
    back = Ward(tmp_path / "new", service.database_url)
    assert without_claims(back.rows()) == without_claims(sqlite_ward.rows())
    assert (back.files(), contents(service)) == (back.owned(), contents(sqlite_ward.service))
    back.close()


def test_damaged_backup_is_refused_whole(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Nothing is written before every byte was looked at."""
    made = back_up(sqlite_ward.service, tmp_path / "backup")
    change(made.files[0].below(tmp_path / "backup"))
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(StorageError, match=r"1 files of the backup are missing or damaged, the first is .*use another"):
        restore(tmp_path / "backup", service)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "new.db").exists()


def test_rest_of_a_damaged_backup_can_be_had(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Where a person says so; the rows of what is left out say so too."""
    image = sqlite_ward.receive()
    made = back_up(sqlite_ward.service, tmp_path / "backup")
    [kept] = [kept for kept in made.files if kept.path == image.path.as_posix()]
    kept.below(tmp_path / "backup").unlink()
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    done = restore(tmp_path / "backup", service, leave_out_damaged=True)
    assert done.left_out == (kept,)
    back = Ward(tmp_path / "new", service.database_url)
    assert (back.files(), back.states()[image.sop_instance_uid]) == (back.owned(), InstanceState.FAILED)
    back.close()


def test_full_disk_is_said_before_anything_is_copied(sqlite_ward: Ward, tmp_path: Path) -> None:
    """With how much is needed; the backup is said to have a file that is larger than the disk."""
    folder = tmp_path / "backup"
    made = back_up(sqlite_ward.service, folder)
    huge = dataclasses.replace(made.files[0], size_bytes=free_bytes(tmp_path) + 2**30)
    huge.below(folder).write_bytes(b"")
    manifest.write(dataclasses.replace(made, files=(huge, *made.files[1:])), folder)
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    work = restoring._Restore(  # noqa: SLF001 - verifying such a file byte by byte takes hours
        folder, manifest.read(folder), [], service, in_silence, sqlite_ward.steps.clock
    )
    database = open_database(service.database_url)
    with lock(database, WORK) as alone:
        assert alone is not None
        with pytest.raises(StorageError, match=r"MiB free, and the backup takes \d+ MiB"):
            work.run(database, alone, keep_other_files=False)
    database.close()
    assert contents(service) == {}


def test_damaged_ledger_is_always_refused(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Without it there is nothing to restore."""
    made = back_up(sqlite_ward.service, tmp_path / "backup")
    change(made.ledger.below(tmp_path / "backup"))
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    with pytest.raises(StorageError, match=r"ledger-.*use another backup"):
        restore(tmp_path / "backup", service, leave_out_damaged=True)


def test_backup_of_a_newer_version_is_refused(sqlite_ward: Ward, tmp_path: Path) -> None:
    """By its schema, and by the manifest's own format, with the version that can restore it."""
    folder = tmp_path / "backup"
    made = back_up(sqlite_ward.service, folder)
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    manifest.write(dataclasses.replace(made, schema="9999", version="7.0.0"), folder)
    with pytest.raises(StorageError, match=r"newer version \(7\.0\.0\)"):
        restore(folder, service)
    text_of = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text_of.replace('"format": 1', '"format": 2'))
    with pytest.raises(StorageError, match=r"newer version \(7\.0\.0\)"):
        restore(folder, service)
    assert not (tmp_path / "new").exists()


def test_backup_is_only_read(sqlite_ward: Ward, tmp_path: Path) -> None:
    """It may lie on a medium that cannot be written."""
    folder = tmp_path / "backup"
    back_up(sqlite_ward.service, folder)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in [folder, *folder.rglob("*")]}
    restore(folder, empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}"))
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in [folder, *folder.rglob("*")]} == before


def test_everything_is_on_the_disk_before_the_end(
    sqlite_ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder with a restored file is brought to the disk after the last file, and before the rows."""
    back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    synced: list[Path] = []

    def sync(folder: Path) -> None:
        synced.append(folder)
        disk.sync_folder(folder)

    monkeypatch.setattr(restoring, "sync_folder", sync)
    restore(tmp_path / "backup", service)
    folders = {path.parent for path in (tmp_path / "new").rglob("*.dcm")}
    assert folders | {service.inbox, service.outbox, tmp_path} == set(synced)


def test_backup_of_a_restored_service_is_the_same_again(sqlite_ward: Ward, tmp_path: Path) -> None:
    """Round and round, nothing is worn off."""
    first = back_up(sqlite_ward.service, tmp_path / "backup")
    service = empty(tmp_path / "new", f"sqlite:///{tmp_path / 'new.db'}")
    restore(tmp_path / "backup", service, clock=sqlite_ward.steps.clock)
    second = back_up(service, tmp_path / "again", clock=lambda: first.made_at + timedelta(days=1))
    assert (keys(first.files), second.problems) == (keys(second.files), ())


def keys(files: tuple[Kept, ...]) -> set[tuple[str, str, str]]:
    """What files are, wherever they are."""
    return {(kept.place, kept.path, kept.sha256) for kept in files}
