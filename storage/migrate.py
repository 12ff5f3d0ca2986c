"""Bring a database to the schema of this version."""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.orm import Session

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database, lock_name, open_database
from cxr_triage.storage.locks import WORK, Lock, lock

MIGRATIONS: Final = Path(__file__).parent / "migrations"
#: Stands for the revision while a restore is under way, with the revision behind it: no version works on that.
UNFINISHED: Final = "restoring "


def migrate(url: str) -> None:
    """Create or upgrade the schema: all of it or nothing, and never under a role at work.

    Several processes may do so at the same time: one works, the others wait.

    Raises:
        StorageError: the database refused, its schema is of a newer version, or a role works on it.
    """
    database = open_database(url, patient=True, to_migrate=True)
    try:
        with database.transaction() as session:
            lock_name(session, "migrate")
            current = revision_of(session)
            refuse_unknown(current)
            if current != head():
                with lock(database, WORK) as alone:
                    _require_alone(alone)
                    upgrade(session)
                    _require_references(database, session)
    finally:
        database.close()


def upgrade(session: Session, revision: str = "head") -> None:
    """Run the migrations in a session's transaction: that they all come into force, or none, is the session's doing.

    The caller holds the WORK lock alone.
    """
    config = _config()
    config.attributes["connection"] = session.connection()
    command.upgrade(config, revision)


def revision_of(session: Session) -> str | None:
    """The revision of the schema, as it stands in the database; None: it has none yet."""
    # Alembic asks by a table that it makes anew each time, and SQLAlchemy would keep hundreds of such questions.
    connection = session.connection().execution_options(compiled_cache=None)
    return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The revision that this version works on."""
    return _head_of(MIGRATIONS)


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
    current = _current_revision(database)
    if current is None:
        raise StorageError("the database has no tables yet: run `cxr-triage migrate`")
    refuse_unknown(current)
    if current != head():
        raise StorageError("the database's schema is older than this version's: run `cxr-triage migrate`")


def _require_references(database: Database, session: Session) -> None:
    """Make sure that every row refers to one that is there: SQLite did not look while tables were made anew."""
    if database.is_sqlite and session.execute(text("PRAGMA foreign_key_check")).first() is not None:
        raise StorageError("a migration would lose rows that others refer to: nothing was changed; report this")


def _require_alone(held: Lock | None) -> None:
    if held is None:
        raise StorageError(
            "the schema is not changed while the service, a backup or a restore works on the database: "
            "stop every role on every host, then run `cxr-triage migrate`"
        )


@cache
def _head_of(folder: Path) -> str:
    """Read the scripts once: they do not change under a process, and readiness is asked for every few seconds."""
    revision = ScriptDirectory(str(folder)).get_current_head()
    assert revision is not None
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _current_revision(database: Database) -> str | None:
    with database.read() as session:
        return revision_of(session)


def refuse_unknown(revision: str | None) -> None:
    """Refuse a revision that this version cannot even migrate.

    Raises:
        StorageError: it is one; the message says what to do.
    """
    if revision is not None and revision.startswith(UNFINISHED):
        raise StorageError(
            "a restore into this database has not come to its end: run `cxr-triage restore` again, "
            "or name an empty database"
        )
    if revision is not None and not is_known(revision):
        raise StorageError(
            "the database's schema was made by a newer version: use that version, or restore the backup that was "
            "made before the upgrade"
        )


def is_known(revision: str) -> bool:
    """Whether this version has that revision of the schema, or an older one."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
