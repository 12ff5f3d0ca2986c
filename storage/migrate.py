"""Bring a database to the schema of this version."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database, lock_name, open_database

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def migrate(url: str) -> None:
    """Create or upgrade the schema. Several processes may do so at the same time: one works, the others wait.

    Raises:
        StorageError: the database refused, or its schema is of a newer version.
    """
    database = open_database(url, patient=True)
    try:
        with database.transaction() as session:
            lock_name(session, "migrate")
            config = _config()
            config.attributes["connection"] = connection = session.connection()
            _refuse_unknown(MigrationContext.configure(connection).get_current_revision(), config)
            command.upgrade(config, "head")
    finally:
        database.close()


def is_new(database: Database) -> bool:
    """Whether the database is empty: never migrated.

    Raises:
        StorageError: the database cannot be reached.
    """
    return _current_revision(database) is None


def require_current_schema(database: Database) -> None:
    """Refuse to work on a schema of another version.

    Raises:
        StorageError: the schema is missing, older or newer; the message says what to do.
    """
    config = _config()
    current = _current_revision(database)
    if current is None:
        raise StorageError("the database has no tables yet: run `cxr-triage migrate`")
    _refuse_unknown(current, config)
    if current != ScriptDirectory.from_config(config).get_current_head():
        raise StorageError("the database's schema is older than this version's: run `cxr-triage migrate`")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _current_revision(database: Database) -> str | None:
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def _refuse_unknown(revision: str | None, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise StorageError("the database's schema was made by a newer version: use that version, or a backup")
