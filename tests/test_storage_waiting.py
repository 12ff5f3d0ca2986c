"""Waiting for a database that does not answer: bounded as a whole, whoever else waits, and said in words."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import text

from cxr_triage.model.errors import StorageError, UnavailableError
from cxr_triage.storage import postgres, waiting
from cxr_triage.storage.database import Database, open_database

#: In place of half a minute.
SHORT_SECONDS = 1.0


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every wait a short one."""
    monkeypatch.setattr(waiting, "WAIT_SECONDS", SHORT_SECONDS)


@pytest.fixture
def locked(sqlite_url: str) -> Iterator[sqlite3.Connection]:
    """Hold the write lock of an SQLite database, as a backup by another program may."""
    writer = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    yield writer
    writer.close()


def run(database: Database, statement: str) -> None:
    """Write."""
    with database.transaction() as session:
        session.execute(text(statement))


def count(database: Database) -> int:
    """Read."""
    with database.read() as session:
        return int(session.execute(text("SELECT count(*) FROM instance")).scalar_one())


def stop_in_the_middle(database: Database) -> None:
    """Ask the server something while it is stopped."""
    with database.read() as session:
        backend = int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())
        os.kill(backend, signal.SIGSTOP)
        try:
            session.execute(text("SELECT 1"))
        finally:
            os.kill(backend, signal.SIGCONT)


def begin(database: Database) -> float:
    """Try to write; gives how long it took to be told that this is not possible, in seconds."""
    began = time.monotonic()
    with pytest.raises(UnavailableError), database.transaction():
        pass
    return time.monotonic() - began


def test_those_in_line_do_not_add_up_their_waits(sqlite_url: str, locked: sqlite3.Connection) -> None:
    """Ten associations wait for a locked database as long as one does, and are served once it is free."""
    with closing(open_database(sqlite_url)) as database:
        with ThreadPoolExecutor(10) as threads:
            waits = list(threads.map(begin, [database] * 10))
        assert max(waits) < 5 * SHORT_SECONDS
        locked.execute("ROLLBACK")
        run(database, "DELETE FROM audit")


def test_a_lock_of_another_program_is_named(sqlite_url: str, locked: sqlite3.Connection) -> None:
    """And what to do about it."""
    assert locked.in_transaction
    with closing(open_database(sqlite_url)) as database:
        with pytest.raises(UnavailableError, match="another program holds a lock on it: let that finish, or end it"):
            run(database, "DELETE FROM audit")
        assert count(database) == 0


def test_a_full_disk_is_named(sqlite_url: str) -> None:
    """SQLite's own limit on the number of pages stands in for it: it reports the same."""
    with closing(open_database(sqlite_url)) as database:
        run(database, "PRAGMA max_page_count = 1")
        with pytest.raises(UnavailableError, match="its disk is full: make room"):
            run(database, "CREATE TABLE more AS SELECT zeroblob(1000000) AS zeros")


def test_a_refusal_does_not_pass_by_itself(database: Database) -> None:
    """It is about what was asked, not about the machine."""
    with pytest.raises(StorageError) as raised, database.transaction() as session:
        session.execute(text("INSERT INTO study (study_instance_uid) VALUES ('1.2')"))
    assert not isinstance(raised.value, UnavailableError)


def test_a_locked_table_is_waited_for_no_longer_than_that(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server's own clock, and the connection lives on."""
    monkeypatch.setattr(postgres, "SERVER_LIMITS", {**postgres.SERVER_LIMITS, "lock_timeout": 200})
    with closing(open_database(postgres_url)) as database, closing(open_database(postgres_url)) as other:
        with database.transaction() as session:
            session.execute(text("LOCK TABLE instance IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(UnavailableError, match="holds a lock"):
                count(other)
        assert count(other) == 0


def test_a_server_that_hangs_is_not_waited_for(postgres_url: str) -> None:
    """Its kernel acknowledges whatever is sent, so that only our own clock helps; the next connection works."""
    with closing(open_database(postgres_url)) as database:
        with pytest.raises(UnavailableError, match="no answer in time"):
            stop_in_the_middle(database)
        assert count(database) == 0


def test_limits_are_those_of_the_url_where_it_names_them(postgres_url: str) -> None:
    """A site knows its server; a migration takes what it takes."""
    own = f"{postgres_url}&options=-c%20statement_timeout%3D77s"
    limits = []
    for url, patient in ((postgres_url, False), (own, False), (postgres_url, True)):
        with closing(open_database(url, patient=patient)) as database, database.read() as session:
            limits.append([session.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")])
    assert limits == [["25s", "20s"], ["77s", "20s"], ["0", "0"]]
