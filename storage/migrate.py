"""Bring a database to the schema of this version."""

from cxr_triage.storage.database import Database


def migrate(url: str) -> None:
    """Create or upgrade the schema. Several processes may do so at the same time: one works, the others wait.

    Raises:
        StorageError: the database refused, or its schema is of a newer version.
    """
    raise NotImplementedError


def is_new(database: Database) -> bool:
    """Whether the database is empty: never migrated.

    Raises:
        StorageError: the database cannot be reached.
    """
    raise NotImplementedError


def require_current_schema(database: Database) -> None:
    """Refuse to work on a schema of another version.

    Raises:
        StorageError: the schema is missing, older or newer; the message says what to do.
    """
    raise NotImplementedError
