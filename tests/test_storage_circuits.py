"""Circuit breakers in the ledger: kept, shared, and told of."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import select

from builders import MORNING
from cxr_triage.storage.database import Database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger import Circuits
from cxr_triage.storage.schema import AuditRow
from steps import SetClock, Steps

MINUTE = timedelta(minutes=1)
OPEN = Circuit(failures=1, open_until=MORNING + MINUTE, reason="no answer", changed_at=MORNING)
CLOSED_AGAIN = Circuit(changed_at=MORNING + MINUTE)


def test_a_destination_that_never_failed_is_closed(database: Database) -> None:
    """Without a row."""
    assert Circuits(database).of("pacs") == Circuit()


def test_a_circuit_is_kept(database: Database, steps: Steps) -> None:
    """Over restarts, for each destination by itself, and counted with everything else."""
    circuits = Circuits(database)
    assert circuits.record("pacs", before=Circuit(), after=OPEN, actor="deliver")
    assert (Circuits(database).of("pacs"), circuits.of("archive")) == (OPEN, Circuit())
    assert steps.housekeeping.counts().circuits == {"pacs": OPEN}
    assert circuits.record("pacs", before=OPEN, after=CLOSED_AGAIN, actor="deliver")
    assert circuits.of("pacs") == CLOSED_AGAIN


def test_only_opening_and_closing_are_in_the_audit_trail(database: Database) -> None:
    """Not every try between."""
    circuits, again = Circuits(database), replace(OPEN, failures=2)
    for before, after in ((Circuit(), OPEN), (OPEN, again), (again, CLOSED_AGAIN)):
        circuits.record("pacs", before=before, after=after, actor="deliver-1")
    with database.read() as session:
        told = [(row.actor, row.event, row.detail) for row in session.scalars(select(AuditRow).order_by(AuditRow.id))]
    assert told == [
        ("deliver-1", "circuit_opened", "pacs: no answer"),
        ("deliver-1", "circuit_closed", "pacs: no answer"),
    ]


def test_a_failure_that_two_senders_saw_counts_once(database: Database) -> None:
    """Who decided upon what is no longer so writes nothing."""
    circuits = Circuits(database)
    assert circuits.record("pacs", before=Circuit(), after=OPEN, actor="deliver-1")
    assert not circuits.record("pacs", before=Circuit(), after=replace(OPEN, reason="other"), actor="deliver-2")
    assert circuits.of("pacs") == OPEN


def test_a_pause_can_be_ended(database: Database) -> None:
    """How often it failed is still known; a closed circuit stays closed."""
    clock = SetClock()
    circuits = Circuits(database, clock=clock)
    circuits.record("pacs", before=Circuit(), after=OPEN, actor="deliver")
    circuits.record("archive", before=Circuit(), after=CLOSED_AGAIN, actor="deliver")
    circuits.end_pauses("pacs", "archive", "never")
    assert circuits.of("pacs") == replace(OPEN, open_until=clock())
    assert (circuits.of("archive"), circuits.of("never")) == (CLOSED_AGAIN, Circuit())


def test_what_is_not_tried_any_more_is_forgotten(database: Database, steps: Steps) -> None:
    """Open or not; the trail says that it is closed."""
    circuits = Circuits(database)
    assert not circuits.forget("pacs", actor="upkeep")
    circuits.record("pacs", before=Circuit(), after=OPEN, actor="deliver")
    assert circuits.forget("pacs", actor="upkeep")
    assert steps.housekeeping.counts().circuits == {}
    with database.read() as session:
        trail = [(row.event, row.actor) for row in session.scalars(select(AuditRow).order_by(AuditRow.id))]
    assert trail == [("circuit_opened", "deliver"), ("circuit_closed", "upkeep")]
