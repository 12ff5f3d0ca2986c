"""The roles that own a port, from settings to what a peer sees."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import finding, instance_header, prediction, radiograph_file, received_instance
from cxr_triage.daemon.receive import ReceiveRole
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.wakeup import Doorbell
from cxr_triage.daemon.worklist.mwl import WorklistRole
from cxr_triage.storage.database import Database
from cxr_triage.storage.image_records import InstanceHeader
from cxr_triage.storage.ledger import Intake, ReadingList, Scoring
from peers import findscu, free_port, running, storescu


@pytest.fixture
def database(sqlite_database: Database) -> Database:
    """Do with SQLite here: the ledger's own tests run on both."""
    return sqlite_database


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str) -> Settings:
    """Configure both services on free ports."""
    settings = Settings.model_validate(
        {
            "storage": {"root": tmp_path, "database": sqlite_url},
            "dicom": {"port": free_port()},
            # Whatever the bundle is good at.
            "worklist": {"enabled": True, "port": free_port(), "severity": {finding().label: 1.0}},
        }
    )
    settings.prepare_folders()
    return settings


def test_the_receive_role_stores_and_rings(settings: Settings, tmp_path: Path) -> None:
    """A push ends as a file in the inbox, and the infer role is woken."""
    sent = radiograph_file(tmp_path)
    with Doorbell.listen(settings.run_folder, "infer") as bell:
        with running(ReceiveRole(settings).run):
            assert storescu(settings.dicom.port, sent).returncode == 0
        assert bell.wait(0)
    assert [path.name[: len(sent.stem)] for path in settings.inbox_folder.rglob("*.dcm")] == [sent.stem]


def test_the_worklist_role_shows_the_ledger(settings: Settings, database: Database, tmp_path: Path) -> None:
    """Two studies are read in the order of arrival, until one of them has a finding."""
    scoring = Scoring(database, lease=timedelta(minutes=5))
    headers = [arrive(database, scoring, settings, minutes_ago=minutes) for minutes in (20, 10)]
    with running(WorklistRole(settings).run):
        port = settings.worklist.port
        _, before = findscu(port, "StudyInstanceUID", folder=tmp_path / "before")
        for findings in ((), (finding(),)):
            claim = scoring.claim_to_score("test")
            assert claim is not None
            scoring.record_scored(claim, prediction(findings=findings), settings.policy())
        _, after = findscu(port, "StudyInstanceUID", folder=tmp_path / "after")
        ReadingList(database).finish(headers[1].study_instance_uid, actor="test")
        _, last = findscu(port, "StudyInstanceUID", folder=tmp_path / "last")
    uids = [header.study_instance_uid for header in headers]
    assert [answer.StudyInstanceUID for answer in before] == uids
    assert [answer.StudyInstanceUID for answer in after] == list(reversed(uids))
    assert [answer.StudyInstanceUID for answer in last] == uids[:1]


def arrive(database: Database, scoring: Scoring, settings: Settings, *, minutes_ago: int) -> InstanceHeader:
    """Take in and index the only image of a study."""
    header = instance_header()
    received_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    Intake(database).record_received(received_instance(received_at=received_at))
    (claim,) = scoring.claim_to_index("test", 1)
    scoring.record_indexed(claim, header, settings.policy())
    return header


def test_a_worklist_that_is_not_enabled_opens_no_port(settings: Settings, tmp_path: Path) -> None:
    """The role is there and does nothing."""
    port = free_port()
    off = settings.model_copy(
        update={"worklist": settings.worklist.model_copy(update={"enabled": False, "port": port})}
    )
    with running(WorklistRole(off).run):
        finished, _ = findscu(port, "PatientName", folder=tmp_path / "answers")
    assert finished.returncode != 0
