"""Where the daemon under chaos keeps its ledger."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg import sql

from postgres import postgres_server

SQLITE, POSTGRESQL = DATABASES = ("sqlite", "postgresql")
NAME = "triage"


@contextmanager
def running_database(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of the ledger below a folder, for as long as it can be reached.

    Postgres runs as it does in a hospital: it waits for its disk.
    """
    if kind == SQLITE:
        yield f"sqlite:///{folder / 'daemon' / 'triage.db'}"
        return
    with postgres_server(folder / "postgres") as server:
        if not server.has(NAME):
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
        yield server.url(NAME)
