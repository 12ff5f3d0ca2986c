"""The one door to the database: SQLite or Postgres, the same code behind it."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from cxr_triage.model.errors import StorageError

#: How long a writer waits for another process' transaction; ours are milliseconds, so this is a broken machine.
BUSY_SECONDS: Final = 30.0
POSTGRES_CONNECT_SECONDS: Final = 10
#: Marks the connections that begin by taking SQLite's write lock.
_WRITES: Final = "cxr_triage_writes"


class Database:
    """Connections to one database. Threads may share it; a child process opens its own."""

    def __init__(self, engine: Engine) -> None:
        """Use `open_database`."""
        self._engine = engine
        if self.is_sqlite:
            # One writer at a time is SQLite's rule. Waiting in line here is cheaper and fairer than its busy handler.
            self._turn: AbstractContextManager[object] = threading.Lock()
            self._writing: Engine = engine.execution_options(**{_WRITES: True})
            self._reading: Engine = engine
        else:
            self._turn = contextlib.nullcontext()
            self._writing = engine
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which has one writer at a time."""
        return self._engine.dialect.name == "sqlite"

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database; None: it is a server's."""
        return Path(str(self._engine.url.database)).absolute() if self.is_sqlite else None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Write: all of it or nothing, on disk when the block has ended.

        Raises:
            StorageError: the database refused; nothing was written.
        """
        with self._turn, _refusals_named(), Session(self._writing) as session, session.begin():
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read one consistent snapshot without a write lock.

        Raises:
            StorageError: the database refused.
        """
        with _refusals_named(), Session(self._reading) as session, session.begin():
            yield session

    @contextmanager
    def apart(self) -> Iterator[Connection]:
        """Give a connection outside of transactions, which is closed at the end and not used again.

        Raises:
            StorageError: the database refused.
        """
        with self.refusals_named():
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield connection
        finally:
            connection.invalidate()
            connection.close()

    def refusals_named(self) -> AbstractContextManager[None]:
        """Turn the libraries' errors within the block into ours."""
        return _refusals_named()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_database(url: str, *, to_migrate: bool = False) -> Database:
    """Open a database.

    Args:
        url: "sqlite:////absolute/path.db" or "postgresql+psycopg://user@host/name".
        to_migrate: whether SQLite lets tables be made anew that others refer to
            (https://www.sqlite.org/lang_altertable.html, section 7).

    Raises:
        StorageError: the URL is of another kind. Whether the database answers shows at the first use.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite_engine(parsed, foreign_keys=not to_migrate))
    return Database(
        create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            connect_args={"connect_timeout": POSTGRES_CONNECT_SECONDS},
        )
    )


def lock_name(session: Session, name: str) -> None:
    """Let no other transaction past this point with the same name until this one ends, so that it may look and insert.

    On SQLite, the write lock does that already.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        # The URL may hold a password: it is not repeated here, nor in the cause.
        raise StorageError("the database URL cannot be read: write it as in the settings reference") from None
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise StorageError(f"the database URL is of kind {backend!r}: use sqlite or postgresql+psycopg")
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise StorageError("the database URL names no file: results must survive this process")
    return parsed


def _sqlite_engine(url: URL, *, foreign_keys: bool) -> Engine:
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", partial(_set_up_sqlite, foreign_keys))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def close(self) -> None: ...


class _SqliteConnection(Protocol):
    isolation_level: str | None

    def cursor(self) -> _Cursor: ...


def _set_up_sqlite(foreign_keys: bool, connection: _SqliteConnection, _record: object) -> None:  # noqa: FBT001
    # Python's driver would begin transactions where it sees fit; `_begin_sqlite` says when instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
    cursor.close()


def _write_ahead(cursor: _Cursor) -> None:
    """Switch to write-ahead logging, which lasts. SQLite does not wait for others here, so this does."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            # sqlite3's own class is not imported for one comparison: SQLite names its reason in the attribute.
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then wants to write can fail at once when another has written in between;
    # with IMMEDIATE it waits for its turn at the start.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Turn the libraries' errors into ours, without the rows that they quote: those hold patient data."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StorageError(_in_words(error)) from None


def _in_words(error: SQLAlchemyError) -> str:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return f"the database could not be used ({type(error).__name__})"
    kind = type(error.orig).__name__
    if isinstance(error, OperationalError):  # connections, locks and disks: no rows in these
        first_line = str(error.orig).strip().partition("\n")[0]
        advice = "see that it can be reached and written, and that [storage] database names it"
        return f"the database did not carry the operation out ({kind}): {first_line}: {advice}"
    diagnostic = getattr(error.orig, "diag", None)
    primary = getattr(diagnostic, "message_primary", None) if diagnostic else str(error.orig)
    return f"the database refused the operation ({kind}): {primary}"
