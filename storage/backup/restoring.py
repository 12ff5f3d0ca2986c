"""Put a backup in place: verify all of it, copy the files, then every row in one transaction.

From the first step that writes until that transaction is committed, the database says that a restore is under way: no
role works on it, and the same restore can be run again and goes on with what is there.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.backup import manifest
from cxr_triage.storage.backup.files import SourceError, copy_durably, examine, make_folder
from cxr_triage.storage.backup.manifest import Kept, Manifest
from cxr_triage.storage.backup.rows import copy_rows, is_empty
from cxr_triage.storage.backup.source import PLACES, Advance, Service, in_silence, owned_files, record_lost
from cxr_triage.storage.clock import Clock, utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.disk import sync_folder
from cxr_triage.storage.inbox import INCOMING, UNKNOWN, DurableFolder
from cxr_triage.storage.ledger import Commitments, Dispatch, ModalityCommitments, Scoring
from cxr_triage.storage.locks import WORK, Lock, lock
from cxr_triage.storage.migrate import UNFINISHED, head, is_known, migrate, refuse_unknown, revision_of, upgrade
from cxr_triage.storage.space import free_bytes

#: Of the folder, in the inbox, of the ledger that is worked on; it is gone at the end.
TEMPORARY_PREFIX: Final = "restore-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """What a restore brought back."""

    backup: Manifest
    #: Files of the backup that were not whole, and are not there now.
    left_out: tuple[Kept, ...]
    #: Claims of the processes that were at work when the snapshot was taken.
    claims_given_back: int


def verify(folder: Path, *, advance: Advance = in_silence) -> tuple[Manifest, list[Kept]]:
    """Read every byte of a backup and compare it with the manifest.

    Returns:
        What it should consist of, and the files that are missing or damaged.

    Raises:
        StorageError: it is no backup, a newer version made it, or its ledger is missing or damaged.
    """
    found = manifest.read(folder)
    if not is_known(found.schema):
        raise manifest.newer(found.version)
    wrong = []
    for done, kept in enumerate(found.all_files, start=1):
        if not _is_whole(kept, kept.below(folder)):
            wrong.append(kept)
        advance("verify", done, len(found.all_files))
    if found.ledger in wrong:
        raise StorageError(f"{found.ledger.below(folder)} is missing or damaged: use another backup")
    return found, wrong


def restore(
    folder: Path,
    service: Service,
    *,
    leave_out_damaged: bool = False,
    keep_other_files: bool = False,
    advance: Advance = in_silence,
    clock: Clock = utc_now,
) -> Restored:
    """Put a backup into an empty database, of either kind, and into folders without other files.

    Args:
        folder: of the backup, which is only read.
        service: where to; no role of it is at work.
        leave_out_damaged: restore what is whole, instead of nothing.
        keep_other_files: leave files that the backup does not know where they are, for upkeep: it takes the images
            among them in, and removes results, which are made again.
        advance: told how far it is.
        clock: gives the present.

    Returns:
        What there is now: all of it is on the disk.

    Raises:
        StorageError: nothing was restored. What was begun is refused by every role, and can be run again.
    """
    backup, wrong = verify(folder, advance=advance)
    if wrong and not leave_out_damaged:
        raise damaged(folder, wrong)
    database = open_database(service.database_url, patient=True)
    try:
        with lock(database, WORK) as alone:
            if alone is None:
                raise StorageError(
                    "the service, a backup or a migration works on the database: stop every role on every host first"
                )
            work = _Restore(folder, backup, wrong, service, advance, clock)
            given_back = work.run(database, alone, keep_other_files=keep_other_files)
        if database.file is not None:
            sync_folder(database.file.parent)
    except OSError as error:
        raise StorageError(
            f"the backup was not restored: {error.strerror}; check space, owner and disk, then run it again"
        ) from error
    finally:
        database.close()
    return Restored(backup=backup, left_out=tuple(wrong), claims_given_back=given_back)


def damaged(folder: Path, wrong: Sequence[Kept]) -> StorageError:
    """Say that files of a backup are not whole."""
    return StorageError(
        f"{len(wrong)} files of the backup are missing or damaged, the first is {wrong[0].below(folder)}: use another "
        "backup, or --leave-out-damaged"
    )


class _Restore:
    """One restore on its way."""

    def __init__(
        self,
        folder: Path,
        backup: Manifest,
        wrong: Sequence[Kept],
        service: Service,
        advance: Advance,
        clock: Clock,
    ) -> None:
        self._folder = folder
        self._backup = backup
        self._wrong = {(kept.place, kept.path) for kept in wrong}
        self._files = [kept for kept in backup.files if kept not in wrong]
        self._service = service
        self._advance = advance
        self._clock = clock

    def run(self, database: Database, alone: Lock, *, keep_other_files: bool) -> int:
        """Do it; how many claims were given back."""
        for place in PLACES:
            make_folder(self._service.folder(place) / INCOMING)
        self._remove_unfinished()
        if not keep_other_files:
            self._refuse_other_files()
        self._require_space()
        with self._ledger() as ledger:
            self._record_lost(ledger)
            given_back = self._give_claims_back(ledger)
            _begin(database)
            self._copy_files()
            alone.check()
            self._copy_ledger(ledger, database)
        return given_back

    def _remove_unfinished(self) -> None:
        """Remove what an interrupted restore, or a crash of the service, left without a name."""
        for place in PLACES:
            DurableFolder(self._service.folder(place)).remove_incomplete()
        for left in self._temporary().glob(f"{TEMPORARY_PREFIX}*"):
            shutil.rmtree(left)

    def _refuse_other_files(self) -> None:
        """What is there is not overwritten, and no file is left that no row would know."""
        for place in PLACES:
            root = self._service.folder(place)
            wanted = {root / kept.path for kept in self._files if kept.place == place}
            others = [path for path in _files(root) if path not in wanted]
            if others:
                raise StorageError(
                    f"{root} holds {len(others)} files that are not in the backup, the first is {others[0]}: if they "
                    "are this service's, --keep-other-files lets it take in the images among them when it runs; else "
                    "name other folders"
                )

    def _require_space(self) -> None:
        needed = 2 * self._backup.ledger.size_bytes  # the copy to work on, and the database, if it is here
        needed += sum(kept.size_bytes for kept in self._files if not self._target(kept).exists())
        free = free_bytes(self._service.inbox)
        if needed > free:
            raise StorageError(
                f"{self._service.inbox} has {free // 2**20} MiB free, and the backup takes {needed // 2**20 + 1} MiB"
            )

    @contextmanager
    def _ledger(self) -> Iterator[Database]:
        """A copy of the backup's ledger, brought to the schema of this version; the backup itself is only read."""
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=self._temporary()) as temporary:
            copy = Path(temporary) / "ledger.db"
            shutil.copyfile(self._backup.ledger.below(self._folder), copy)
            url = f"sqlite:///{copy}"
            migrate(url)
            with closing(open_database(url)) as database:
                yield database

    def _record_lost(self, ledger: Database) -> None:
        if self._wrong:
            with ledger.transaction() as session:
                for owned in list(owned_files(session)):
                    if (owned.place, owned.path) in self._wrong:
                        record_lost(session, owned, "damaged", now=self._clock())

    def _give_claims_back(self, ledger: Database) -> int:
        """Whoever held a claim when the snapshot was taken works on it no more."""
        now, no_lease = self._clock(), timedelta(0)
        ledgers = (
            kind(ledger, lease=no_lease, clock=self._clock)
            for kind in (Scoring, Dispatch, Commitments, ModalityCommitments)
        )
        return sum(each.release_leases(_nobody_lives, now) for each in ledgers)

    def _copy_files(self) -> None:
        for done, kept in enumerate(self._files, start=1):
            if not _is_whole(kept, self._target(kept)):
                self._copy(kept)
            self._advance("files", done, len(self._files))
        # Also of files that an interrupted restore had left.
        parents = {self._target(kept).parent for kept in self._files}
        for each in {*parents, *(parent.parent for parent in parents)}:
            sync_folder(each)

    def _copy(self, kept: Kept) -> None:
        source, target = kept.below(self._folder), self._target(kept)
        try:
            copy_durably(
                source,
                target,
                is_right=lambda found: found.sha256 == kept.sha256,
                temporary=self._service.folder(kept.owner) / INCOMING,
            )
        except SourceError as error:
            raise StorageError(f"{source} is {error.problem}: use another backup") from error

    def _copy_ledger(self, ledger: Database, database: Database) -> None:
        """Every row, and with them the end of the restore: one transaction."""
        with ledger.read() as source, database.transaction() as target:
            _require_empty(target)
            copy_rows(source.connection(), target.connection(), self._advance)
            _set_revision(target, head())

    def _target(self, kept: Kept) -> Path:
        return self._service.folder(kept.owner) / kept.path

    def _temporary(self) -> Path:
        return self._service.inbox / INCOMING


def _is_whole(kept: Kept, path: Path) -> bool:
    try:
        found = examine(path)
    except SourceError:
        return False
    return (found.size_bytes, found.sha256) == (kept.size_bytes, kept.sha256)


def _files(root: Path) -> list[Path]:
    """Every file below, but for those that a person is to look at."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] not in {UNKNOWN, INCOMING}
    )


def _nobody_lives(_owner: str) -> bool:
    return False


def _begin(database: Database) -> None:
    """Mark the database: a restore is under way.

    Raises:
        StorageError: it is not empty.
    """
    unfinished = UNFINISHED + head()
    with database.transaction() as session:
        revision = revision_of(session)
        if revision is None:
            upgrade(session)
        elif revision != unfinished:
            refuse_unknown(revision)
            if revision != head():
                raise StorageError("the database has an older schema: run `cxr-triage migrate`, or name an empty one")
        _require_empty(session)
        _set_revision(session, unfinished)


def _require_empty(session: Session) -> None:
    if not is_empty(session.connection()):
        raise StorageError("the database is not empty: a backup is restored into an empty one; name another database")


def _set_revision(session: Session, revision: str) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
