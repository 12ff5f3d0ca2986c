"""Locks of one database that every process knows that uses it, on any host: free the moment that its holder ends.

PostgreSQL: advisory locks of a session (https://www.postgresql.org/docs/current/explicit-locking.html). SQLite, which
is used from one host: `flock` on a file beside the database's; on that file itself, closing it would drop the locks
that SQLite holds (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, text

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.flocks import try_lock

#: Held together by all roles at work and by backups; alone by whoever changes the schema or restores a backup.
WORK: Final = "work"
#: Held by a backup until it has copied its files, and by upkeep while it removes files.
FILES: Final = "files"
_POLL_SECONDS: Final = 0.1


class Lock(Protocol):
    """A lock that is held."""

    def check(self) -> None:
        """Make sure that it is still held.

        Raises:
            StorageError: the database server has dropped it.
        """


@contextmanager
def lock(database: Database, name: str, *, shared: bool = False, wait_seconds: float = 0.0) -> Iterator[Lock | None]:
    """Hold a lock for as long as the block lasts.

    Args:
        database: whose lock it is.
        name: WORK or FILES.
        shared: with others that hold it shared, else alone.
        wait_seconds: how long to wait for those who hold it.

    Yields:
        None: others held it all that time.

    Raises:
        StorageError: the database cannot be reached, or its folder cannot be written.
    """
    held = _file_lock if database.file is not None else _advisory_lock
    with held(database, name, shared=shared, until=time.monotonic() + wait_seconds) as taken:
        yield taken


@contextmanager
def at_work(url: str, *, check_seconds: float) -> Iterator[None]:
    """Say for as long as the block lasts that a role is at work: meanwhile nobody changes the schema under it.

    Should the database server drop the lock, as when it is restarted, it is taken again within `check_seconds`.

    Raises:
        StorageError: somebody is changing the schema or restoring a backup; or the database cannot be reached.
    """
    database = open_database(url)
    presence = _Presence(database, check_seconds)
    try:
        presence.begin()
        yield
    finally:
        presence.end()
        database.close()


class _Presence:
    """The shared lock of one role, taken again whenever it was lost."""

    def __init__(self, database: Database, check_seconds: float) -> None:
        self._database = database
        self._check_seconds = check_seconds
        self._holding = ExitStack()
        self._held: Lock | None = None
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="presence", daemon=True)

    def begin(self) -> None:
        """Take the lock."""
        self._take()
        if self._held is None:
            raise StorageError(
                "the database is being migrated or restored at this moment: start the service when that is done"
            )
        self._keeper.start()

    def end(self) -> None:
        """Give the lock up. Where the server does not answer, the end of the process does so."""
        self._stop.set()
        if self._keeper.ident is not None:
            self._keeper.join(self._check_seconds)
        if not self._keeper.is_alive():
            self._holding.close()

    def _take(self) -> None:
        self._held = self._holding.enter_context(lock(self._database, WORK, shared=True))

    def _keep(self) -> None:
        while not self._stop.wait(self._check_seconds):
            with suppress(StorageError):  # the database is away: the role says so wherever it needs it
                if self._held is not None and not _is_held(self._held):
                    self._held = None
                    self._holding.close()
                if self._held is None:
                    self._take()


def _is_held(held: Lock) -> bool:
    try:
        held.check()
    except StorageError:
        return False
    return True


class _FileLock:
    """A file's lock, which only the end of its holder takes away."""

    def check(self) -> None:
        """It is held."""


@contextmanager
def _file_lock(database: Database, name: str, *, shared: bool, until: float) -> Iterator[Lock | None]:
    assert database.file is not None
    descriptor = _open(database.file.with_name(f"{database.file.name}-{name}.lock"))
    try:
        yield _FileLock() if _until(until, lambda: try_lock(descriptor, shared=shared)) else None
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check the folder of the database") from error


class _AdvisoryLock:
    """A lock of a session of PostgreSQL: it ends with its connection."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def check(self) -> None:
        """Ask the server."""
        with self._database.refusals_named():
            self._connection.execute(text("SELECT 1"))


@contextmanager
def _advisory_lock(database: Database, name: str, *, shared: bool, until: float) -> Iterator[Lock | None]:
    kind = "_shared" if shared else ""
    key = {"name": f"cxr-triage {name}"}
    with database.apart() as connection:

        def ask(function: str) -> bool:
            statement = text(f"SELECT {function}{kind}(hashtextextended(:name, 0))")
            with database.refusals_named():
                return bool(connection.execute(statement, key).scalar())

        held = _until(until, lambda: ask("pg_try_advisory_lock"))
        try:
            yield _AdvisoryLock(database, connection) if held else None
        finally:
            with suppress(StorageError):  # a connection that is gone holds nothing
                if held:
                    ask("pg_advisory_unlock")


def _until(deadline: float, taken: Callable[[], bool]) -> bool:
    while not taken():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
