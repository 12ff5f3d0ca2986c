"""The one door to the database: SQLite or Postgres, the same code behind it."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoConnectionInTime
from sqlalchemy.orm import Session

from cxr_triage.model.errors import StorageError, UnavailableError
from cxr_triage.storage.postgres import bounded_engine, patient_engine
from cxr_triage.storage.waiting import DEADLINE, WAIT_SECONDS, Deadline

#: How long a new connection to SQLite tries to switch to write-ahead logging, which others may do at that moment.
SET_UP_SECONDS: Final = 10.0
#: Marks the connections that begin by taking SQLite's write lock.
_WRITES: Final = "cxr_triage_writes"
#: What to do about a database that is not quick enough.
_SLOW: Final = "see whether its disk is overloaded, or another program holds its lock"
#: What a database says of a lock that somebody else holds, and of a full disk: SQLite by name (result codes), Postgres
#: by SQLSTATE (its Appendix A).
_LOCKED: Final = frozenset({"SQLITE_BUSY", "55P03", "57014"})
_FULL: Final = frozenset({"SQLITE_FULL", "53100"})
#: Of Postgres: a program limit exceeded is no state of the machine; a standby that takes over does pass.
_PROGRAM_LIMIT: Final = "54"
_READ_ONLY: Final = "25006"


class Database:
    """Connections to one database. Threads may share it; a child process opens its own.

    Whatever has to be waited for (a turn, a connection, a lock, an answer), a transaction waits some thirty seconds
    in all: those who are behind somebody in line would otherwise add up their waits.
    """

    def __init__(self, engine: Engine) -> None:
        """Use `open_database`."""
        self._engine = engine
        # One writer at a time is SQLite's rule. Waiting in line here is cheaper and fairer than its busy handler.
        self._turn = threading.Lock() if self.is_sqlite else None
        if self.is_sqlite:
            self._writing: Engine = engine.execution_options(**{_WRITES: True})
            self._reading: Engine = engine
        else:
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
            UnavailableError: the database cannot be used now; unless a commit's answer got lost, nothing was written.
            StorageError: the database refused; nothing was written.
        """
        deadline = Deadline.usual()
        with self._in_turn(deadline), _begun(self._writing, deadline) as session:
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read one consistent snapshot without a write lock.

        Raises:
            StorageError: the database refused, or cannot be used now (UnavailableError).
        """
        with _begun(self._reading, Deadline.usual()) as session:
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

    @contextmanager
    def _in_turn(self, deadline: Deadline) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=deadline.seconds_left):
            raise UnavailableError(
                f"the database was busy for {WAIT_SECONDS:g} seconds with other threads of this process: {_SLOW}"
            )
        try:
            yield
        finally:
            self._turn.release()


def open_database(url: str, *, patient: bool = False, to_migrate: bool = False) -> Database:
    """Open a database.

    Args:
        url: "sqlite:////absolute/path.db" or "postgresql+psycopg://user@host/name".
        patient: let each statement take what it takes on Postgres, as a migration or a backup must.
        to_migrate: whether SQLite lets tables be made anew that others refer to
            (https://www.sqlite.org/lang_altertable.html, section 7).

    Raises:
        StorageError: the URL is of another kind. Whether the database answers shows at the first use.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite_engine(parsed, foreign_keys=not to_migrate))
    parsed = parsed.set(drivername="postgresql+psycopg")
    return Database(patient_engine(parsed) if patient else bounded_engine(parsed))


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
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": WAIT_SECONDS})
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
    deadline = Deadline(SET_UP_SECONDS)
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            # sqlite3's own class is not imported for one comparison: SQLite names its reason in the attribute.
            if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY" or not deadline.seconds_left:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    deadline = options.get(DEADLINE) or Deadline.usual()
    # What was not spent on waiting in line is left for the locks of other processes.
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(deadline.seconds_left * 1000)}")
    # A transaction that reads first and then wants to write can fail at once when another has written in between;
    # with IMMEDIATE it waits for its turn at the start.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES, False) else "BEGIN")


@contextmanager
def _begun(engine: Engine, deadline: Deadline) -> Iterator[Session]:
    with _refusals_named(), Session(engine) as session, session.begin():
        session.connection(execution_options={DEADLINE: deadline})
        yield session


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Turn the libraries' errors into ours, without the rows that they quote: those hold patient data."""
    try:
        yield
    except SQLAlchemyError as error:
        kind = UnavailableError if _may_pass(error) else StorageError
        raise kind(_in_words(error)) from None


def _may_pass(error: SQLAlchemyError) -> bool:
    """Whether this is about the state of the machine, and not about what was asked of it."""
    if isinstance(error, NoConnectionInTime):
        return True
    if not isinstance(error, DBAPIError) or _code(error).startswith(_PROGRAM_LIMIT):
        return False
    return (
        error.connection_invalidated
        or isinstance(error, OperationalError | InterfaceError)
        or _code(error) == _READ_ONLY
    )


def _code(error: DBAPIError) -> str:
    """SQLite's name for what happened, or Postgres' SQLSTATE; "" where there is none."""
    return str(getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None) or "")


def _in_words(error: SQLAlchemyError) -> str:
    if not isinstance(error, DBAPIError) or error.orig is None:
        return f"the database could not be used ({type(error).__name__}): {_SLOW}"
    kind = type(error.orig).__name__
    if isinstance(error, OperationalError):  # connections, locks and disks: no rows in these
        first_line = str(error.orig).strip().partition("\n")[0]
        return f"the database did not carry the operation out ({kind}): {first_line}: {_advice(_code(error))}"
    diagnostic = getattr(error.orig, "diag", None)
    primary = getattr(diagnostic, "message_primary", None) if diagnostic else str(error.orig)
    return f"the database refused the operation ({kind}): {primary}"


def _advice(code: str) -> str:
    if code in _LOCKED:
        return "another program holds a lock on it: let that finish, or end it"
    if code in _FULL:
        return "its disk is full: make room"
    return "see that it can be reached and written, and that [storage] database names it"
