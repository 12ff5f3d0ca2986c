"""`cxr-triage status` and `cxr-triage clock`: how everything stands, and what a person must do."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders import finding, prediction
from command_lines import STUDY, CommandLine
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger import Circuits, ClockChange
from cxr_triage.storage.locks import at_work
from cxr_triage.storage.service_clock import ServiceClock
from ordering import Desk, identity, order


@pytest.fixture
def line(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """A command line on an empty ledger."""
    made = CommandLine(tmp_path, sqlite_url, capsys)
    yield made
    made.database.close()


def test_status_counts(line: CommandLine) -> None:
    """By state, with ages, destinations and roles."""
    line.steps.score(STUDY, finding())
    line.steps.report(STUDY)
    line.steps.receive()
    status = json.loads(line.said("status", "--json"))
    assert (status["images"]["scored"], status["images"]["received"], status["listed_studies"]) == (1, 1, 1)
    assert status["oldest_unscored_seconds"] > 0
    (pacs,) = status["destinations"]
    assert (pacs["name"], pacs["ae_title"], pacs["deliveries"]["pending"]) == ("pacs", "PACS", 2)
    assert (pacs["configured"], pacs["circuit"]["state"], status["remarks"]) == (True, "closed", [])
    assert set(status["roles"].values()) == {False}
    assert "pacs" in line.said("status")


def test_status_says_which_destinations_need_a_person(line: CommandLine) -> None:
    """Left alone, refusing, or no longer configured; each with what to do."""
    line.steps.index(STUDY)
    line.steps.scoring.record_scored(line.steps.claim_to_score(), prediction(), line.steps.policy)
    line.steps.report(STUDY, ("pacs", "air"), ("gone", "air"))
    (seg,) = line.steps.dispatch.claim("deliver-1-host-1", "pacs", 9)
    line.steps.dispatch.record_dead(seg, "refused")
    since = line.steps.clock()
    opened = Circuit(failures=3, open_until=since + timedelta(minutes=5), reason="no answer", changed_at=since)
    Circuits(line.database).record("pacs", before=Circuit(), after=opened, actor="deliver")
    status = json.loads(line.said("status", "--json"))
    pacs, gone = status["destinations"]
    assert pacs["circuit"] == {
        "state": "open",
        "since": since.isoformat(),
        "until": (since + timedelta(minutes=5)).isoformat(),
        "failures": 3,
        "reason": "no answer",
    }
    assert (pacs["held_back"], gone["configured"], gone["circuit"]["state"]) == (1, False, "closed")
    assert status["remarks"] == [
        f"pacs: not reached since {since.isoformat()}: no answer",
        "pacs: objects given up: 1; `cxr-triage replay --dead pacs` sends them again",
        "pacs: objects that wait for one that they cite and that was given up: 1",
        status["remarks"][-1],
    ]
    assert status["remarks"][-1].startswith("gone: no longer configured, and objects wait for it: 2; add a")
    shown = line.said("status")
    assert [sentence for sentence in status["remarks"] if sentence[:40] not in shown] == []
    assert "down" in shown


def test_status_shows_alerts(line: CommandLine) -> None:
    """With what to do, and as JSON."""
    assert json.loads(line.said("status", "--json"))["alerts"] == []
    line.steps.index(STUDY)
    line.steps.scoring.record_failure(line.steps.claim_to_score(), error_class="x", explanation="x", retry_at=None)
    [alert] = json.loads(line.said("status", "--json"))["alerts"]
    assert (alert["alert"], alert["subject"], "replay" in alert["message"]) == ("images_failed", "", True)
    assert "alert images_failed: 1 images" in line.said("status")


@pytest.fixture
def set_back(line: CommandLine) -> timedelta:
    """The machine's clock was set back by that, after the ledger got a study."""
    line.steps.score(STUDY, finding())
    run_folder = line.folder / "run"
    run_folder.mkdir()
    by = timedelta(days=3650)
    ServiceClock(run_folder / "clock.json", wall=lambda: datetime.now(UTC) + by).keep()
    line.steps.clock.move(by)
    ClockChange(line.database).move(by, anchor="before", actor="test")
    return by


def test_clock_shows_both_times(line: CommandLine) -> None:
    """They agree on an ordinary day, and then there is nothing to accept."""
    machine, service, verdict = line.said("clock").splitlines()
    assert (machine.removeprefix("machine"), verdict) == (
        service.removeprefix("service"),
        "The service goes by the machine's clock.",
    )
    assert "nothing to accept" in line.complaint("clock", "accept")


def test_a_clock_that_was_set_is_accepted(line: CommandLine, set_back: timedelta) -> None:
    """Nobody has waited for longer than before, and the next time there is nothing to accept."""
    assert "3650 d behind" in line.said("clock")
    assert [alert["alert"] for alert in json.loads(line.said("status", "--json"))["alerts"]] == ["clock_jumped"]
    [before] = line.listed()
    assert 0 <= before["waited_seconds"] < 600
    assert "3650 d behind" in line.said("clock", "accept")
    [after] = line.listed()
    assert before["waited_seconds"] <= after["waited_seconds"] < 600
    moved = datetime.fromisoformat(before["arrived_at"]) - datetime.fromisoformat(after["arrived_at"])
    assert abs(moved - set_back) < timedelta(seconds=60)
    assert json.loads(line.said("status", "--json"))["alerts"] == []
    assert "nothing to accept" in line.complaint("clock", "accept")


@pytest.mark.usefixtures("set_back")
def test_an_acceptance_that_was_cut_off_is_finished(line: CommandLine) -> None:
    """The ledger had moved, the clock was not written: the next call moves nothing twice."""
    blocked = line.folder / "run" / "clock.part"
    blocked.mkdir()
    assert "clock.json cannot be written" in line.complaint("clock", "accept")
    blocked.rmdir()
    line.said("clock", "accept")
    [listed] = line.listed()
    assert 0 <= listed["waited_seconds"] < 600


@pytest.mark.usefixtures("set_back")
def test_no_clock_is_accepted_while_the_service_works(line: CommandLine) -> None:
    """Its roles would write by the time from before, on whichever host they are."""
    with at_work(line.url, check_seconds=5):
        assert "at work: stop every role on every host" in line.complaint("clock", "accept")
    assert "behind" in line.said("clock")
    line.said("clock", "accept")


def test_status_says_how_orders_stand(line: CommandLine) -> None:
    """How many studies wait for the RIS and why; which orders were not followed; nothing of a patient."""
    with line.config.open("a") as config:
        config.write('\n[ris]\nhost = "ris.example.org"\nport = 104\nae_title = "RIS"\n')
    desk = Desk(line.database)
    desk.image(STUDY)
    desk.orders.record(order(about=identity(patient_id="PAT-0002")), desk.policy)
    desk.orders.record(order(about=identity(accession_number="ACC-0002")), desk.policy)
    inquiry = desk.inquiries.claim("orders-1")
    assert inquiry is not None
    desk.inquiries.record_unanswered(inquiry, error="RIS is down", retry_at=desk.steps.clock())
    status = json.loads(line.said("status", "--json"))
    assert status["orders"] == {
        "waiting": 1,
        "given_up": 0,
        "unmatched": 1,
        "not_counted": 1,
        "last_error": "RIS is down",
    }
    told = line.said("status")
    assert "RIS: studies that wait for its answer: 1; the last error: RIS is down" in told
    assert "orders not followed since their patient is another one or not known: 1" in " ".join(told.split())
    assert "An order with the accession number names another patient." in line.listed()[0]["reason"]
    assert not any(secret in told for secret in ("PAT-000", "ACC-000"))
