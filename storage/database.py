"""The one door to the database: SQLite or Postgres, the same code behind it."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session


class Database:
    """Connections to one database. Threads may share it; a child process opens its own."""

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Write: all of it or nothing, on disk when the block has ended.

        Raises:
            StorageError: the database refused; nothing was written.
        """
        raise NotImplementedError

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Read one consistent snapshot without a write lock.

        Raises:
            StorageError: the database refused.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close every connection."""
        raise NotImplementedError


def open_database(url: str) -> Database:
    """Open a database.

    Args:
        url: "sqlite:////absolute/path.db" or "postgresql+psycopg://user@host/name".

    Raises:
        StorageError: the URL is of another kind. Whether the database answers shows at the first use.
    """
    raise NotImplementedError
