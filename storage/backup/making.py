"""Make a backup while the service runs: a snapshot of the rows, then the files that they own, then the manifest.

Files never change once they have their name, and upkeep removes none until all are copied. So what is copied after the
snapshot is what the snapshot's rows speak of.
"""

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.backup import manifest
from cxr_triage.storage.backup.files import (
    PART_SUFFIX,
    Copied,
    SourceError,
    copy_durably,
    examine,
    make_folder,
)
from cxr_triage.storage.backup.manifest import LEDGER_PREFIX, Kept, Manifest, Problem
from cxr_triage.storage.backup.rows import copy_rows, size_bytes
from cxr_triage.storage.backup.source import PLACES, Advance, Owned, Service, in_silence, owned_files, record_lost
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.disk import sync_folder
from cxr_triage.storage.flocks import try_lock
from cxr_triage.storage.locks import FILES, WORK, Lock, lock
from cxr_triage.storage.migrate import head, migrate, require_current_schema
from cxr_triage.storage.space import free_bytes

#: How long to wait for upkeep, which removes a few hundred files at a time.
WAIT_SECONDS: Final = 60.0
#: Left free on the backup's disk.
SPARE_BYTES: Final = 2**24

_Files = Mapping[tuple[str, str], Kept]


def back_up(service: Service, folder: Path, *, advance: Advance = in_silence, clock: Clock = utc_now) -> Manifest:
    """Make a backup, or bring the one that is there up to date.

    Until the new one is complete, the one before stays whole; then files that it alone had are removed.

    Args:
        service: what is backed up; it may be at work.
        folder: of the backup, made for its owner alone; else empty, or a backup of the same database.
        advance: told how far it is.
        clock: gives the present.

    Returns:
        What it consists of. Where `problems` are named, those files are not in it.

    Raises:
        StorageError: there is no new backup; the message says why and what to do.
    """
    database = open_database(service.database_url, patient=True)
    try:
        with _own(folder), lock(database, WORK, shared=True) as working:
            if working is None:
                raise StorageError("the database is being migrated or restored: make the backup when that is done")
            require_current_schema(database)
            former = _former(folder, service)
            with lock(database, FILES, wait_seconds=WAIT_SECONDS) as files:
                if files is None:
                    raise StorageError("another backup is being made: wait for its end")
                made = _Backup(service, database, folder, former, advance, clock).make(files)
            _remove_others(folder, made)
            return made
    except OSError as error:
        raise StorageError(
            f"the backup in {folder} was not made: {error.strerror}; check space, owner and disk. "
            "An earlier backup there is still whole"
        ) from error
    finally:
        database.close()


class _Backup:
    """One backup on its way."""

    def __init__(
        self, service: Service, database: Database, folder: Path, former: _Files, advance: Advance, clock: Clock
    ) -> None:
        self._service = service
        self._database = database
        self._folder = folder
        self._former = former
        self._advance = advance
        self._clock = clock

    def make(self, files_lock: Lock) -> Manifest:
        """Make it; `files_lock` keeps upkeep from removing files."""
        made_at = self._clock()
        path = self._folder / f"{LEDGER_PREFIX}{made_at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.db"
        try:
            return self._make(path, made_at, files_lock)
        except BaseException:  # also when the process is asked to stop: half a backup is none
            if not _is_ledger_of(self._folder, path.name):
                for left in self._folder.glob(f"{path.name}*"):
                    left.unlink()
            raise

    def _make(self, path: Path, made_at: datetime, files_lock: Lock) -> Manifest:
        ledger, counts = self._snapshot(path)
        try:
            files, problems = self._copy_files(ledger)
            files_lock.check()
            _record(ledger, problems, self._clock)
        finally:
            ledger.close()
        found = _settle(path)
        made = Manifest(
            version=version("cxr-triage"),
            schema=head(),
            made_at=made_at,
            database=self._service.printable_database,
            ledger=Kept(place="", path=path.name, size_bytes=found.size_bytes, sha256=found.sha256),
            counts=counts,
            files=tuple(files),
            problems=tuple(problems),
        )
        _sync_folders(self._folder, made)
        manifest.write(made, self._folder)
        return made

    def _snapshot(self, path: Path) -> tuple[Database, dict[str, int]]:
        """Copy every row into a new database; all of them as they were at one moment."""
        with self._database.read() as session:
            _require_space(self._folder, size_bytes(session.connection()), "the database")
        url = f"sqlite:///{path}"
        _touch(path)
        migrate(url)
        ledger = open_database(url)
        with self._database.read() as source, ledger.transaction() as target:
            counts = copy_rows(source.connection(), target.connection(), self._advance)
        return ledger, counts

    def _copy_files(self, ledger: Database) -> tuple[list[Kept], list[Problem]]:
        with ledger.read() as session:
            owned = list(owned_files(session))
        self._require_space_for(owned)
        kept: list[Kept] = []
        problems: list[Problem] = []
        for done, each in enumerate(owned, start=1):
            try:
                kept.append(self._keep(each))
            except SourceError as error:
                problems.append(_problem(each, error))
            self._advance("files", done, len(owned))
        return kept, problems

    def _require_space_for(self, owned: Iterable[Owned]) -> None:
        needed = 0
        for each in owned:
            if not self._has(each):
                with suppress(OSError):  # missing: it takes no space, and is reported when its turn comes
                    needed += self._file(each).stat().st_size
        _require_space(self._folder, needed, "the files")

    def _keep(self, owned: Owned) -> Kept:
        """Have a file in the backup."""
        if self._has(owned):
            return self._former[owned.place, owned.path]
        copied = copy_durably(
            self._file(owned),
            self._folder / owned.place / owned.path,
            is_right=lambda found: found.data_set_sha256 == owned.data_set_sha256,
        )
        return Kept(place=owned.place, path=owned.path, size_bytes=copied.size_bytes, sha256=copied.sha256)

    def _has(self, owned: Owned) -> bool:
        """Whether the backup before has the file, to all appearance: `restore` looks at every byte."""
        former = self._former.get((owned.place, owned.path))
        if former is None:
            return False
        try:
            return former.below(self._folder).stat().st_size == former.size_bytes
        except FileNotFoundError:
            return False

    def _file(self, owned: Owned) -> Path:
        return self._service.folder(owned.place) / owned.path


@contextmanager
def _own(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other backups out of it."""
    make_folder(folder)
    sync_folder(folder.parent)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not try_lock(descriptor):
            raise StorageError(f"another backup is being made in {folder}: wait for its end")
        folder.chmod(0o700)
        yield
    finally:
        os.close(descriptor)


def _former(folder: Path, service: Service) -> dict[tuple[str, str], Kept]:
    """The files of the backup that is there, by place and path."""
    if not manifest.exists(folder):
        strange = [path.name for path in folder.iterdir() if not _is_ours(path)]
        if strange:
            raise StorageError(f"{folder} holds other files, as {min(strange)!r}: name an empty or a new folder")
        return {}
    former = manifest.read(folder)
    if former.database != service.printable_database:
        raise StorageError(f"{folder} is a backup of another database ({former.database}): name another folder")
    return {(kept.place, kept.path): kept for kept in former.files}


def _is_ledger_of(folder: Path, name: str) -> bool:
    """Whether the backup that is there has that ledger, as when its manifest was written and a later step failed."""
    try:
        return manifest.read(folder).ledger.path == name
    except StorageError:
        return False


def _is_ours(path: Path) -> bool:
    """Whether an unfinished backup may have left it."""
    return path.name in {"inbox", "outbox"} or path.name.startswith(LEDGER_PREFIX) or path.suffix == PART_SUFFIX


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _require_space(folder: Path, needed: int, what: str) -> None:
    free = free_bytes(folder)
    if needed + SPARE_BYTES > free:
        raise StorageError(
            f"{folder} has {free // 2**20} MiB free, and {what} to be copied take {needed // 2**20 + 1} MiB: make "
            "room, or name a folder on another disk. Nothing was copied; an earlier backup there is still whole"
        )


def _problem(owned: Owned, error: SourceError) -> Problem:
    return Problem(place=owned.place, path=owned.path, sop_instance_uid=owned.sop_instance_uid, problem=error.problem)


def _record(ledger: Database, problems: Iterable[Problem], clock: Clock) -> None:
    by_path = {(each.place, each.path): each.problem for each in problems}
    if not by_path:
        return
    with ledger.transaction() as session:
        for owned in list(owned_files(session)):
            if (owned.place, owned.path) in by_path:
                record_lost(session, owned, by_path[owned.place, owned.path], now=clock())


def _settle(path: Path) -> Copied:
    """Make the ledger one plain file that is on the disk."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Written ahead, it would need two more files beside it, and a folder that can be written, to be read.
        connection.execute("PRAGMA journal_mode = DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return examine(path)


def _sync_folders(folder: Path, made: Manifest) -> None:
    """Whoever made a folder earlier may have died before its name was on the disk."""
    parents = {kept.below(folder).parent for kept in made.files}
    for each in {folder, *parents, *(parent.parent for parent in parents)}:
        sync_folder(each)


def _remove_others(folder: Path, made: Manifest) -> None:
    """Remove what the backup before had alone, and what an unfinished one left."""
    wanted = {kept.below(folder) for kept in made.all_files}
    for file in [
        *(path for place in PLACES for path in (folder / place).rglob("*") if path.is_file()),
        *folder.glob(f"{LEDGER_PREFIX}*"),
        *folder.glob(f"*{PART_SUFFIX}"),
    ]:
        if file not in wanted:
            file.unlink()
    for day in [path for place in PLACES for path in (folder / place).glob("*")]:
        with suppress(OSError):  # not empty
            day.rmdir()
