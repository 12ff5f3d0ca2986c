"""Several threads and processes at one ledger: no job twice, no result lost, no poll in anybody's way."""

import multiprocessing
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from builders import finding, instance_header, prediction, received_instance
from cxr_triage.model.errors import StorageError
from cxr_triage.model.priority import Level
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.image_records import InstanceState
from cxr_triage.storage.ledger import Intake, ReadingList, Scoring
from steps import LEASE, Steps, claim_all, claim_all_from

IMAGES = 24


def test_threads_never_claim_the_same_image(steps: Steps, database: Database) -> None:
    """Several workers empty the queue together: each image once."""
    for _ in range(IMAGES):
        steps.receive()
    with ThreadPoolExecutor(4) as threads:
        claimed = list(threads.map(claim_all, [database] * 4))
    _assert_each_once(claimed)


def test_processes_never_claim_the_same_image(steps: Steps, database_url: str) -> None:
    """The same, each with connections of its own."""
    for _ in range(IMAGES):
        steps.receive()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        claimed = list(processes.map(claim_all_from, [database_url] * 2))
    _assert_each_once(claimed)


def test_results_of_one_study_do_not_overwrite_each_other(steps: Steps, database: Database) -> None:
    """Images of one study are scored at the same time, people change its order: the most urgent counts."""
    probabilities = [0.51 + 0.03 * number for number in range(8)]
    for _ in probabilities:
        steps.index("1.1")
    claims = [steps.claim_to_score() for _ in probabilities]
    levels = [Level.LOW, Level.STAT, Level.MEDIUM, Level.HIGH]

    def score(number: int) -> None:
        result = prediction(findings=(finding("Pneumothorax", probabilities[number]),))
        Scoring(database, lease=LEASE).record_scored(claims[number], result, steps.policy)

    def order(level: Level) -> None:
        ReadingList(database).set_ordered("1.1", level, actor="RIS", policy=steps.policy)

    with ThreadPoolExecutor(6) as threads:
        done = [threads.submit(score, number) for number in range(len(claims))]
        done += [threads.submit(order, level) for level in levels]
        for each in done:
            each.result()
    listed = steps.listed("1.1")
    assert listed.priority.utility == pytest.approx(max(probabilities))
    assert (listed.ordered, min(listed.ordered, Level.HIGH)) == (listed.priority.ordered, listed.priority.effective)
    assert listed.images[InstanceState.SCORED] == len(claims)


def test_first_images_of_one_study_create_it_once(steps: Steps, database: Database) -> None:
    """Its images are indexed at the same time, and its order arrives with them."""
    for _ in range(8):
        steps.receive()
    claims = steps.scoring.claim_to_index("owner", 8)
    header = instance_header(study_instance_uid="1.1")

    def index(number: int) -> None:
        Scoring(database, lease=LEASE).record_indexed(claims[number], header, steps.policy)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(index, range(8)))
    assert steps.listed("1.1").images[InstanceState.INDEXED] == 8


def test_polls_of_an_idle_ledger_take_no_write_lock(sqlite_url: str) -> None:
    """On SQLite a poll that wanted to write would wait for the writer who is in the middle of something here."""
    database = open_database(sqlite_url)
    steps = Steps(database)
    writer = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert steps.scoring.claim_to_index("owner", 10) == []
    assert steps.scoring.claim_to_score("owner") is None
    assert steps.scoring.release_leases(lambda _: False, steps.clock()) == 0
    assert steps.dispatch.claim("owner", "pacs", 10) == []
    assert steps.dispatch.release_leases(lambda _: False, steps.clock()) == 0
    assert steps.reporting.studies_to_report(10) == []
    assert steps.reading_list.studies() == []
    assert steps.reading_list.finish_aged(steps.clock()) == 0
    assert steps.housekeeping.forgettable_files(steps.clock()) == []
    assert steps.housekeeping.counts().listed_studies == 0
    writer.close()
    database.close()


def test_sqlite_is_set_to_survive_a_power_cut(sqlite_url: str) -> None:
    """On every connection: synced at each commit (2 = FULL), in a write-ahead log, with foreign keys."""
    database = open_database(sqlite_url)
    for door in (database.transaction, database.read):
        with door() as session:
            connection = session.connection()
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert settings[:3] == ["wal", 2, 1]
        assert settings[3] in range(20_000, 30_001)
    database.close()


def test_reader_sees_one_snapshot(database: Database, database_url: str) -> None:
    """What is written while it reads shows at the next reading."""
    other = open_database(database_url)
    with database.read() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("SELECT count(*) FROM instance").scalar() == 0
        Intake(other).record_received(received_instance())
        assert connection.exec_driver_sql("SELECT count(*) FROM instance").scalar() == 0
    with database.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM instance").scalar() == 1
    other.close()


def test_acknowledged_images_survive_the_death_of_their_writer(database_url: str, database: Database) -> None:
    """A process that takes images in is killed in the middle: each one that it had told of is there, once."""
    program = """
import sys
from builders import received_instance
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import Intake
intake = Intake(open_database(sys.argv[1]))
while True:
    image = received_instance()
    intake.record_received(image)
    print(image.sop_instance_uid, image.sha256, flush=True)
"""
    command = [sys.executable, "-c", program, database_url]
    environment_path = ":".join(sys.path)
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": environment_path})
    assert writer.stdout is not None
    told = [writer.stdout.readline().split() for _ in range(10)]
    writer.kill()
    told += [line.split() for line in writer.communicate()[0].splitlines()]
    intake = Intake(database)
    assert all(intake.known(uid, sha256) for uid, sha256 in told)
    claims = Scoring(database, lease=LEASE).claim_to_index("owner", 10_000)
    assert max(Counter(claim.sop_instance_uid for claim in claims).values()) == 1
    assert len(claims) in {len(told), len(told) + 1}  # one may be written that it could not tell of any more


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://root@/x", "nonsense"])
def test_database_that_would_not_do_is_refused(url: str) -> None:
    """In memory nothing survives; others are not supported."""
    with pytest.raises(StorageError):
        open_database(url)


def test_refusals_quote_no_rows(steps: Steps, database: Database) -> None:
    """A database's own words may hold the row that it refuses, and so a patient's name: ours do not."""
    steps.index("1.1")
    secret = steps.reporting.header("1.1").patient_name
    with pytest.raises(StorageError) as raised, database.transaction() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO instance_header SELECT * FROM instance_header WHERE patient_name <> ''"
        )
    error: BaseException | None = raised.value
    while error is not None:
        assert secret not in str(error)
        error = error.__cause__


def _assert_each_once(claimed: list[list[int]]) -> None:
    counted = Counter(image for of_one in claimed for image in of_one)
    assert (IMAGES, {1}) == (len(counted), set(counted.values()))
