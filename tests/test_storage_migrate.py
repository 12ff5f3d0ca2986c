"""The schema: migrated equals declared, by one starter or several."""

import gc
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text

from cxr_triage.model.errors import StorageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.migrate import is_new, migrate, require_current_schema
from cxr_triage.storage.schema import Base


def test_migrated_schema_is_the_declared_one(database: Database) -> None:
    """Alembic finds nothing to change: columns, types, defaults, indexes, unique and foreign keys."""
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrated_checks_are_the_declared_ones(database: Database) -> None:
    """Alembic does not compare check constraints, so this does, by name."""
    with database.read() as session:
        migrated = inspect(session.connection()).get_multi_check_constraints()
    names = {str(check["name"]) for checks in migrated.values() for check in checks}
    declared = {
        str(constraint.name)
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert declared == names


def test_empty_database_becomes_usable(empty_database_url: str) -> None:
    """Before: new, and refused with what to do. After: current."""
    database = open_database(empty_database_url)
    assert is_new(database)
    with pytest.raises(StorageError, match="cxr-triage migrate"):
        require_current_schema(database)
    migrate(empty_database_url)
    assert not is_new(database)
    require_current_schema(database)
    database.close()


def test_migrating_again_changes_nothing(database_url: str) -> None:
    """A second start finds everything done."""
    migrate(database_url)
    database = open_database(database_url)
    require_current_schema(database)
    database.close()


def test_starters_at_the_same_time_do_not_disturb_each_other(empty_database_url: str) -> None:
    """Several processes migrate one empty database: all succeed."""
    program = "import sys; from cxr_triage.storage.migrate import migrate; sys.stdin.readline(); migrate(sys.argv[1])"
    command = [sys.executable, "-W", "error", "-c", program, empty_database_url]
    starters = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write(b"go\n")
        starter.stdin.flush()
    outcomes = [(starter.communicate()[1].decode(), starter.returncode) for starter in starters]
    assert outcomes == [("", 0)] * 3


@pytest.mark.parametrize(("revision", "what_to_do"), [("0000", "newer version"), ("9999", "newer version")])
def test_unknown_schema_is_refused(database_url: str, revision: str, what_to_do: str) -> None:
    """A schema that this version never made is neither used nor migrated."""
    database = open_database(database_url)
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    with pytest.raises(StorageError, match=what_to_do):
        require_current_schema(database)
    with pytest.raises(StorageError, match=what_to_do):
        migrate(database_url)
    database.close()


def test_asking_for_the_schema_keeps_nothing(database: Database) -> None:
    """A monitor that asks whether the service is ready, for years, costs no memory."""

    def kept_by(questions: int) -> int:
        for _ in range(questions):
            require_current_schema(database)
        gc.collect()
        return len(gc.get_objects())

    few = kept_by(5)
    assert kept_by(50) < few + 50
