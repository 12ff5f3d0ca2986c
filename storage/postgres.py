"""Connections to Postgres that wait for nothing for ever: no host, no lock, no statement, no server that hangs."""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Connection, Engine, create_engine, event

from cxr_triage.storage.waiting import DEADLINE, Deadline

#: Of libpq: what ends a wait for a host that is gone. What the URL says of these counts instead.
CONNECTION_LIMITS: Final[Mapping[str, int]] = {
    "connect_timeout": 10,  # s
    "keepalives_idle": 10,  # s
    "keepalives_interval": 5,  # s
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
}
#: Of the server, in ms: below what we wait ourselves, so that its answer comes first and the connection lives on. The
#: last one frees the locks of a process of ours that hangs within a transaction.
SERVER_LIMITS: Final[Mapping[str, int]] = {
    "lock_timeout": 20_000,
    "statement_timeout": 25_000,
    "idle_in_transaction_session_timeout": 60_000,
}
POOL_SECONDS: Final = 10
#: Outside of a transaction: the look whether a pooled connection still lives.
PING_SECONDS: Final = 10.0
#: Past the deadline: for rolling back.
LAST_SECONDS: Final = 1.0


class BoundedConnection(psycopg.Connection[Any]):
    """Stops waiting at its transaction's deadline.

    Nothing else ends the wait for a server that hangs on a machine that does not: its disk may be gone, and then it
    does not even heed its own limits.
    """

    #: None: no transaction.
    deadline: Deadline | None = None

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer; past the deadline, close the connection, which nobody could use any more."""
        seconds = PING_SECONDS if self.deadline is None else max(LAST_SECONDS, self.deadline.seconds_left)
        ours = Deadline(seconds if timeout is None else min(timeout, seconds))
        try:
            return super().wait(gen, interval, ours.seconds_left)
        except psycopg.OperationalError:
            if ours.seconds_left:
                raise
            self.pgconn.finish()
            raise psycopg.OperationalError("no answer in time") from None


def bounded_engine(url: URL) -> Engine:
    """Make the engine whose connections wait no longer than they may."""
    engine = create_engine(
        url, hide_parameters=True, pool_pre_ping=True, pool_timeout=POOL_SECONDS, connect_args=_limits(url)
    )
    event.listen(engine, "do_connect", _connect)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "checkin", _end)
    return engine


def patient_engine(url: URL) -> Engine:
    """Make the engine of a migration: statements take what they take, but a host that is gone ends the wait."""
    limits = {name: value for name, value in _limits(url).items() if name != "options"}
    return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=limits)


def _limits(url: URL) -> dict[str, Any]:
    """What the URL's query does not say itself; where it has server options, ours come first, so that they count."""
    said = url.query
    limits: dict[str, Any] = {name: value for name, value in CONNECTION_LIMITS.items() if name not in said}
    options = [f"-c {name}={value}" for name, value in SERVER_LIMITS.items()]
    own = said.get("options", ())
    limits["options"] = " ".join([*options, *([own] if isinstance(own, str) else own)])
    return limits


def _connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **options)


def _begin(connection: Connection) -> None:
    _bounded(connection.connection.dbapi_connection).deadline = connection.get_execution_options().get(DEADLINE)


def _end(connection: object, _record: object) -> None:
    if connection is not None:  # None: it was closed
        _bounded(connection).deadline = None


def _bounded(connection: object) -> BoundedConnection:
    assert isinstance(connection, BoundedConnection)
    return connection
