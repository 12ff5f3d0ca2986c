"""Locks of a database: known to all who use it, and free when their holder is gone."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.locks import FILES, WORK, at_work, lock
from peers import eventually

#: Takes the lock and lives until it is killed.
HOLDER = """
import sys, time
from cxr_triage.storage.database import open_database
from cxr_triage.storage.locks import WORK, lock
with lock(open_database(sys.argv[1]), WORK) as held:
    print(held is not None, flush=True)
    time.sleep(600)
"""


def is_free(database: Database, name: str = WORK, *, shared: bool = False) -> bool:
    """Whether the lock can be had."""
    with lock(database, name, shared=shared) as held:
        return held is not None


def test_alone_or_together(database: Database) -> None:
    """Shared by many, or one alone; each name by itself."""
    with lock(database, WORK, shared=True) as first, lock(database, WORK, shared=True) as second:
        assert None not in {first, second}
        assert not is_free(database)
        assert is_free(database, FILES)
    with lock(database, WORK) as alone:
        assert alone is not None
        alone.check()
        assert not is_free(database, shared=True)
    assert is_free(database)


def test_lock_is_waited_for(database: Database) -> None:
    """As long as the caller says."""
    release = threading.Event()
    with lock(database, FILES):
        waiting = threading.Thread(target=wait_for, args=(database, release))
        waiting.start()
        assert not release.wait(0.3)
    waiting.join()
    assert release.is_set()


def wait_for(database: Database, had: threading.Event) -> None:
    """Say when the lock was had."""
    with lock(database, FILES, wait_seconds=60) as held:
        if held is not None:
            had.set()


def test_lock_of_a_killed_process_is_free(database: Database, database_url: str) -> None:
    """Whatever ended it; nobody cleans up."""
    with subprocess.Popen([sys.executable, "-c", HOLDER, database_url], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert not is_free(database)
        holder.kill()
        holder.wait()
        eventually(lambda: is_free(database))


def test_role_says_that_it_is_at_work(database: Database, database_url: str) -> None:
    """For as long as it is; several at a time."""
    with at_work(database_url, check_seconds=5), at_work(database_url, check_seconds=5):
        assert not is_free(database)
    assert is_free(database)


def test_role_that_lost_its_lock_takes_it_again(postgres_url: str) -> None:
    """As after a restart of the database server."""
    database = open_database(postgres_url)
    with at_work(postgres_url, check_seconds=0.05):
        with database.apart() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
                    "WHERE locktype = 'advisory' AND datname = current_database()"
                )
            )
        eventually(lambda: not is_free(database, WORK))
    assert is_free(database)
    database.close()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://user:secret@/name?host=/nowhere"]
)
def test_database_that_is_away_is_said_so(url: str) -> None:
    """Without the password."""
    with pytest.raises(StorageError) as raised, at_work(url, check_seconds=5):
        pytest.fail("there is no database")
    assert "secret" not in str(raised.value)


def test_lock_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Beside the database's own."""
    database = open_database(f"sqlite:///{tmp_path / 'triage.db'}")
    assert is_free(database)
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("triage.db-work.lock", 0o600)]
    database.close()
