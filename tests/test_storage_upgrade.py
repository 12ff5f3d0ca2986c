"""Upgrades: whatever was in flight goes on under the new schema, or the old schema stays whole."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from backed_up import Ward, old_ledger
from builders import instance_header, prediction
from conftest import DATABASES
from cxr_triage.model.errors import StorageError
from cxr_triage.storage import migrate as migrations
from cxr_triage.storage.backup import Service, back_up, making, manifest, restore
from cxr_triage.storage.database import open_database
from cxr_triage.storage.delivery_records import DeliveryState
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import StepLedger
from cxr_triage.storage.locks import at_work
from cxr_triage.storage.migrate import MIGRATIONS, head, migrate, require_current_schema, revision_of
from cxr_triage.storage.result_records import RevisionState
from cxr_triage.storage.schema import Base
from cxr_triage.storage.step_records import StepState

KINDS = pytest.mark.parametrize("kind", DATABASES)
#: Every revision that a site may come from.
REVISIONS = sorted(script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions())
#: A version that is not there yet: Alembic makes a table anew for it on SQLite, with all its rows.
NEXT: Final = """
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade():
    op.create_table("extra", sa.Column("id", sa.Integer(), primary_key=True))
    with op.batch_alter_table("delivery", recreate="auto") as batch:
        batch.add_column(sa.Column("weight", sa.Integer(), nullable=False, server_default="7"))
        batch.alter_column("last_error", new_column_name="why")
    with op.batch_alter_table("instance", recreate="auto") as batch:
        batch.alter_column("other_bytes", new_column_name="others")
    op.execute("DELETE FROM audit")
    {then}
"""


@pytest.fixture
def ward(tmp_path: Path, new_database: Callable[[str], str], kind: str) -> Iterator[Ward]:
    """A service with something in every state."""
    url = new_database(kind)
    migrate(url)
    made = Ward(tmp_path / "service", url)
    made.fill()
    yield made
    made.close()


def next_version(folder: Path, monkeypatch: pytest.MonkeyPatch, *, then: str = "") -> None:
    """Be the version after this one."""
    copied = folder / "migrations"
    shutil.copytree(MIGRATIONS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "versions" / "v9001_next.py").write_text(NEXT.format(head=head(), then=then))
    monkeypatch.setattr(migrations, "MIGRATIONS", copied)


def finish(ward: Ward) -> None:
    """Do all the work that is left, as the roles do."""
    steps = ward.steps
    steps.scoring.release_leases(lambda _: False, steps.clock())
    steps.dispatch.release_leases(lambda _: False, steps.clock())
    for uid in [uid for uid, state in ward.states().items() if state is InstanceState.FAILED]:
        steps.scoring.replay(uid)
    steps.dispatch.replay_dead("pacs")
    for claim in steps.scoring.claim_to_index("infer-9-host-9", 99):
        steps.scoring.record_indexed(claim, instance_header(), steps.policy)
    while (claimed := steps.scoring.claim_to_score("infer-9-host-9")) is not None:
        steps.scoring.record_scored(claimed, prediction(), steps.policy)
    for study in steps.reporting.studies_to_report(99):
        ward.report(study)
    while deliveries := steps.dispatch.claim("deliver-9-host-9", "pacs", 99):
        for delivery in deliveries:
            steps.dispatch.record_stored(delivery)


def assert_finished(ward: Ward) -> None:
    """Every image has a result, and every object is where it belongs."""
    counts = ward.steps.housekeeping.counts()
    assert {state for state, count in counts.instances.items() if count} == {InstanceState.SCORED}
    assert counts.revisions[RevisionState.OPEN] == 0
    assert {state for state, count in counts.deliveries["pacs"].items() if count} == {DeliveryState.STORED}
    assert ward.files() == ward.owned()


@KINDS
@pytest.mark.parametrize("revision", REVISIONS)
def test_work_in_flight_goes_on_after_an_upgrade(
    ward: Ward, tmp_path: Path, new_database: Callable[[str], str], kind: str, revision: str
) -> None:
    """From every revision: claimed images, an open revision, deliveries in every state, claims of the dead."""
    url = new_database(kind)
    old_ledger(ward.database, url, revision)
    migrate(url)
    after = Ward(tmp_path / "service", url)
    require_current_schema(after.database)
    assert (after.states(), after.owned()) == (ward.states(), ward.owned())
    finish(after)
    assert_finished(after)
    after.close()


@KINDS
@pytest.mark.parametrize("revision", REVISIONS)
def test_backup_of_every_older_version_can_be_restored(
    ward: Ward, tmp_path: Path, new_database: Callable[[str], str], kind: str, revision: str
) -> None:
    """Its ledger is migrated on the way, in a copy."""
    folder, url = tmp_path / "backup", new_database(kind)
    made = back_up(ward.service, folder)
    ledger = f"sqlite:///{tmp_path / 'old.db'}"
    old_ledger(ward.database, ledger, revision)
    replace_ledger(folder, Path(ledger.removeprefix("sqlite:///")), revision)
    restore(
        folder, Service(database_url=url, printable_database=url, inbox=tmp_path / "inbox", outbox=tmp_path / "outbox")
    )
    assert made.schema == head()
    after = Ward(tmp_path, url)
    finish(after)
    assert_finished(after)
    after.close()


@KINDS
def test_each_study_that_waits_has_a_step_after_the_upgrade(
    ward: Ward, new_database: Callable[[str], str], kind: str
) -> None:
    """Where the list had none yet; of a study that a reader has, it is under way."""
    url = new_database(kind)
    listed = sorted(study.study_instance_uid for study in ward.steps.reading_list.studies())
    assert ward.steps.reading_list.claim(listed[0], by="Dr. B", actor="web")
    old_ledger(ward.database, url, "0008")
    migrate(url)
    after = open_database(url)
    states = {step.study_instance_uid: step.state for step in StepLedger(after).find()}
    after.close()
    assert states == dict.fromkeys(listed, StepState.SCHEDULED) | {listed[0]: StepState.IN_PROGRESS}


def replace_ledger(folder: Path, ledger: Path, revision: str) -> None:
    """Make a backup one of an older version."""
    made = manifest.read(folder)
    settled = making._settle(ledger)  # noqa: SLF001 - as the older version did
    shutil.copyfile(ledger, made.ledger.below(folder))
    kept = dataclasses.replace(made.ledger, size_bytes=settled.size_bytes, sha256=settled.sha256)
    manifest.write(dataclasses.replace(made, ledger=kept, schema=revision), folder)


@KINDS
def test_next_upgrade_keeps_every_row(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a table has to be made anew."""
    before = ward.rows()["delivery"]
    next_version(tmp_path, monkeypatch)
    migrate(ward.service.database_url)
    with ward.database.read() as session:
        rows = session.execute(text("SELECT id, why, weight FROM delivery ORDER BY id")).all()
    assert rows == [(row["id"], row["last_error"], 7) for row in before]


@KINDS
@pytest.mark.parametrize("then", ["raise RuntimeError", "op.execute('SELECT * FROM nowhere')"])
def test_upgrade_that_fails_in_the_middle_leaves_the_old_schema_whole(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Its rows too: this version works on it as before."""
    before = ward.rows()
    next_version(tmp_path, monkeypatch, then=then)
    with pytest.raises((StorageError, RuntimeError)):
        migrate(ward.service.database_url)
    monkeypatch.undo()
    require_current_schema(ward.database)
    assert ward.rows() == before
    with ward.database.read() as session:
        assert set(inspect(session.connection()).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    finish(ward)
    assert_finished(ward)


def test_upgrade_that_loses_a_row_is_undone(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does not look at references while tables are made anew: at the end, somebody does."""
    ward = Ward(tmp_path / "service", sqlite_url)
    ward.fill()
    before = ward.rows()
    next_version(tmp_path, monkeypatch, then="op.execute('DELETE FROM instance WHERE id = 1')")
    with pytest.raises(StorageError, match="would lose rows"):
        migrate(sqlite_url)
    monkeypatch.undo()
    assert ward.rows() == before
    ward.close()


@KINDS
def test_upgrade_under_a_role_at_work_is_refused(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on under a schema that it does not know. Where nothing is to do, nobody minds."""
    url = ward.service.database_url
    with at_work(url, check_seconds=5):
        migrate(url)
        next_version(tmp_path, monkeypatch)
        with pytest.raises(StorageError, match="stop every role on every host"):
            migrate(url)
        with ward.database.read() as session:
            assert revision_of(session) != "9001"
    migrate(url)


@KINDS
def test_older_version_is_refused_by_a_newer_schema(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to do; also as a backup's."""
    backup_made_before = tmp_path / "before"
    back_up(ward.service, backup_made_before)
    next_version(tmp_path, monkeypatch)
    migrate(ward.service.database_url)
    monkeypatch.undo()
    word = "newer version: use that version, or restore the backup that was made before the upgrade"
    for refused in (
        lambda: require_current_schema(ward.database),
        lambda: migrate(ward.service.database_url),
        lambda: back_up(ward.service, tmp_path / "after"),
        lambda: restore(backup_made_before, ward.service),
    ):
        with pytest.raises(StorageError, match=word):
            refused()


@KINDS
def test_way_back_is_the_backup_made_before(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Callable[[str], str], kind: str
) -> None:
    """There is no downgrade: the old version restores it, in the same folders."""
    back_up(ward.service, tmp_path / "before")
    next_version(tmp_path, monkeypatch)
    migrate(ward.service.database_url)
    monkeypatch.undo()
    url = new_database(kind)
    restore(tmp_path / "before", dataclasses.replace(ward.service, database_url=url))
    after = Ward(tmp_path / "service", url)
    finish(after)
    assert_finished(after)
    after.close()
