"""Databases for the tests: everything about the ledger runs on SQLite and on a real Postgres."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from backed_up import Ward
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.inbox import Outbox
from cxr_triage.storage.migrate import migrate
from deliveries import Results
from kept_logging import kept_logging
from postgres import PostgresServer, running_postgres
from steps import Steps

# A machine that is busy with other things is not a failure.
hypothesis_settings.register_profile("untimed", deadline=None)
# `make properties`: minutes.
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=10_000)
hypothesis_settings.load_profile("untimed")

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put logging back after each test: what one configures, by a command or a role, is not the next one's."""
    with kept_logging():
        yield


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as into a pipe: whoever runs the tests may have told them how wide a terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give a Postgres server of this run."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Migrate one SQLite file, to be copied for each test."""
    path = tmp_path_factory.mktemp("migrated") / "triage.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """Migrate one Postgres database, the template of each test's."""
    name = postgres.create()
    migrate(postgres.url(name))
    return name


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_sqlite: Path) -> str:
    """Give the URL of a fresh, migrated SQLite database."""
    return f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'triage.db')}"


@pytest.fixture
def postgres_url(postgres: PostgresServer, migrated_postgres: str) -> Iterator[str]:
    """Give the URL of a fresh, migrated Postgres database."""
    name = postgres.create(template=migrated_postgres)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the URL of a fresh, migrated database: the test runs once per kind."""
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    assert isinstance(url, str)
    return url


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a database without any table: the test runs once per kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres")
    assert isinstance(server, PostgresServer)
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Give a function that makes databases without any table, by kind."""
    made: list[str] = []

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'new-{uuid.uuid4().hex}.db'}"
        server: PostgresServer = request.getfixturevalue("postgres")
        made.append(server.create())
        return server.url(made[-1])

    yield make
    for name in made:
        request.getfixturevalue("postgres").drop(name)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Open a fresh, migrated database: the test runs once per kind."""
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(sqlite_url: str) -> Iterator[Database]:
    """Open a fresh, migrated SQLite database."""
    opened = open_database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def steps(database: Database) -> Steps:
    """Give the ledger on a fresh database: the test runs once per kind."""
    return Steps(database)


@pytest.fixture
def results(tmp_path: Path, sqlite_database: Database) -> Results:
    """Give an empty outbox with its ledger."""
    return Results(database=sqlite_database, outbox=Outbox(tmp_path / "outbox"))


@pytest.fixture
def ward(tmp_path: Path, database_url: str) -> Iterator[Ward]:
    """Give a service with something in every state: the test runs once per kind of database."""
    with Ward.filled(tmp_path / "service", database_url) as made:
        yield made


@pytest.fixture
def sqlite_ward(tmp_path: Path, sqlite_url: str) -> Iterator[Ward]:
    """Give the same on SQLite alone."""
    with Ward.filled(tmp_path / "service", sqlite_url) as made:
        yield made
