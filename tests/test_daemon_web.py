"""The web port: alive, ready, metrics; on a real port and a real database."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from builders import finding, instance_header, received_instance
from cxr_triage.daemon.heartbeat import beating
from cxr_triage.daemon.service import enabled_roles, processes
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.daemon.web.app import WebRole, create_app
from cxr_triage.daemon.web.metrics import registry
from cxr_triage.model.errors import TriageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.delivery_records import Circuit
from cxr_triage.storage.ledger import Announcements, Circuits, Inquiries, StepSubscriptions
from cxr_triage.storage.step_records import UPS_FACE
from peers import free_port, running
from steps import LEASE, OWNER, Steps

STUDY = "1.2.840.1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A service with the modality worklist, on a free port."""
    file = tmp_path / "cxr-triage.toml"
    file.write_text(f"[worklist]\nenabled = true\n[web]\nport = {free_port()}\n")
    loaded = load_settings(file)
    loaded.prepare_folders()
    return loaded


@pytest.fixture
def alive(settings: Settings) -> Iterator[ExitStack]:
    """Every role shows signs of life, until the stack is closed."""
    with ExitStack() as stack:
        for process in _processes(settings):
            stack.enter_context(beating(settings.run_folder, process, settings.service.heartbeat_seconds))
        yield stack


def _processes(settings: Settings) -> list[str]:
    return [process for role in enabled_roles(settings) for process in processes(role, settings)]


def _ask(settings: Settings, database: Database, path: str, method: str = "GET") -> httpx.Response:
    """One request to the application, without a port."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(settings, database))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path)

    return asyncio.run(ask())


def _metrics(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_alive(settings: Settings, database: Database) -> None:
    """As long as the process answers, whatever else is wrong."""
    answer = _ask(settings, database, "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.usefixtures("alive")
def test_ready(settings: Settings, database: Database) -> None:
    """Database, schema and every role."""
    answer = _ask(settings, database, "/readyz")
    present = {role: {"alive": 1, "of": 1} for role in enabled_roles(settings)} | {"receive": {"alive": 2, "of": 2}}
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": [], "processes": present})


def test_a_silent_role_is_a_reason(settings: Settings, database: Database, alive: ExitStack) -> None:
    """It is named."""
    alive.close()
    with ExitStack() as others:
        for process in _processes(settings):
            if process != "infer":
                others.enter_context(beating(settings.run_folder, process, 5))
        answer = _ask(settings, database, "/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["role infer: no sign of life"])


def test_one_receiver_is_enough(settings: Settings, database: Database, alive: ExitStack) -> None:
    """The port answers; how many are missing is told."""
    with beating(settings.run_folder, "receive-1", 5):
        pass
    answer = _ask(settings, database, "/readyz")
    assert (answer.status_code, answer.json()["processes"]["receive"]) == (200, {"alive": 1, "of": 2})
    found = _metrics(_ask(settings, database, "/metrics").text)
    names = ("cxr_triage_role_up", "cxr_triage_processes_up", "cxr_triage_processes")
    assert [found[name, "receive"] for name in names] == [1, 1, 2]
    alive.close()
    answer = _ask(settings, database, "/readyz")
    assert "role receive: no sign of life" in answer.json()["reasons"]


@pytest.mark.usefixtures("alive")
def test_a_missing_schema_is_a_reason(settings: Settings, empty_database_url: str) -> None:
    """With the command that helps."""
    database = open_database(empty_database_url)
    answer = _ask(settings, database, "/readyz")
    assert (answer.status_code, "cxr-triage migrate" in answer.json()["reasons"][0]) == (503, True)
    database.close()


@pytest.mark.usefixtures("alive")
def test_an_unreachable_database_is_a_reason(settings: Settings, tmp_path: Path) -> None:
    """For readiness and for metrics; the process is alive all the same."""
    database = open_database(f"postgresql+psycopg://user:hunter2@/none?host={tmp_path}")
    answers = [_ask(settings, database, path) for path in ("/healthz", "/readyz", "/metrics")]
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert "hunter2" not in "".join(answer.text for answer in answers)
    database.close()


@pytest.mark.usefixtures("alive")
def test_metrics_count_what_the_ledger_holds(settings: Settings, database: Database) -> None:
    """By state and destination, with the ages of the oldest."""
    steps = Steps(database)
    steps.score(STUDY, finding())
    steps.report(STUDY)
    steps.receive()
    steps.clock.move(timedelta(minutes=5))
    found = _metrics(_text(settings, database, steps))
    expected = {
        ("cxr_triage_images", "scored"): 1,
        ("cxr_triage_images", "received"): 1,
        ("cxr_triage_images", "failed"): 0,
        ("cxr_triage_images_received_total",): 2,
        ("cxr_triage_images_scored_total",): 1,
        ("cxr_triage_images_other_bytes_total",): 0,
        ("cxr_triage_revisions", "reported"): 1,
        ("cxr_triage_deliveries", "pacs", "pending"): 2,
        ("cxr_triage_listed_studies",): 1,
        ("cxr_triage_oldest_unscored_seconds",): 300,
        ("cxr_triage_oldest_undelivered_seconds",): 300,
        ("cxr_triage_role_up", "infer"): 1,
        ("cxr_triage_build_info", "0.1.0"): 1,
    }
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.usefixtures("alive")
def test_metrics_show_which_destinations_need_a_person(settings: Settings, database: Database) -> None:
    """Left alone and for how long, holding an SR back, or no longer configured."""
    steps = Steps(database)
    steps.score(STUDY, finding())
    steps.report(STUDY)
    (seg,) = steps.dispatch.claim("deliver", "pacs", 9)
    steps.dispatch.record_dead(seg, "refused")
    opened = Circuit(failures=3, open_until=steps.clock(), reason="no answer", changed_at=steps.clock())
    Circuits(database).record("pacs", before=Circuit(), after=opened, actor="deliver")
    steps.clock.move(timedelta(minutes=5))
    found = _metrics(_text(settings, database, steps))
    expected = {
        ("cxr_triage_destination_configured", "pacs"): 0,
        ("cxr_triage_destination_up", "pacs"): 0,
        ("cxr_triage_destination_down_seconds", "pacs"): 300,
        ("cxr_triage_destination_failures", "pacs"): 3,
        ("cxr_triage_deliveries_held_back", "pacs"): 1,
    }
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.usefixtures("alive")
def test_metrics_count_events_and_inquiries(settings: Settings, database: Database) -> None:
    """What waits for a subscriber or for the RIS, what was taken or answered, and what was given up."""
    steps = Steps(database)
    subscriptions = StepSubscriptions(database, clock=steps.clock)
    subscriptions.subscribe_to_all("WATCHER", deletion_lock=False, keys=None, actor="WATCHER")
    for uid in ("1.1", "1.2", "1.3"):
        steps.index(uid)
    announcements = Announcements(database, lease=LEASE, clock=steps.clock)
    inquiries = Inquiries(database, lease=LEASE, clock=steps.clock)
    taken, refused = (announcements.claim(OWNER, UPS_FACE, "WATCHER"), inquiries.claim(OWNER))
    assert taken is not None
    assert refused is not None
    announcements.record_acknowledged(taken)
    dead = announcements.claim(OWNER, UPS_FACE, "WATCHER")
    assert dead is not None
    announcements.record_failure(dead, error="refused", retry_at=None)
    inquiries.record_unanswered(refused, error="no answer", retry_at=None)
    steps.reading_list.finish("1.3", actor="reader")  # the RIS need not say any more
    found = _metrics(_text(settings, database, steps))
    expected = {
        ("cxr_triage_step_events", "WATCHER", "acknowledged"): 1,
        ("cxr_triage_step_events", "WATCHER", "dead"): 1,
        ("cxr_triage_step_events", "WATCHER", "pending"): 3,
        ("cxr_triage_order_inquiries", "open"): 1,
        ("cxr_triage_order_inquiries", "given_up"): 1,
        ("cxr_triage_order_inquiries", "answered"): 0,
    }
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.usefixtures("alive")
def test_alerts_are_metrics_and_no_reasons(settings: Settings, database: Database) -> None:
    """A person must look; what is acknowledged is triaged all the same."""
    steps = Steps(database)
    steps.score(STUDY, finding())
    steps.report(STUDY)
    assert [key for key in _metrics(_text(settings, database, steps)) if key[0] == "cxr_triage_alert"] == []
    for delivery in steps.dispatch.claim("deliver-1-host-1", "pacs", 9):
        steps.dispatch.record_dead(delivery, "refused")
    steps.clock.jump = timedelta(days=365)
    found = _metrics(_text(settings, database, steps))
    assert {key: value for key, value in found.items() if key[0] == "cxr_triage_alert"} == {
        ("cxr_triage_alert", "clock_jumped", ""): 1,
        ("cxr_triage_alert", "deliveries_dead", "pacs"): 1,
    }
    answer = _ask(settings, database, "/readyz").json()
    assert (answer["ready"], answer["reasons"]) == (True, [])


def _text(settings: Settings, database: Database, steps: Steps) -> str:
    return generate_latest(registry(settings, database, clock=steps.clock)).decode()


def test_no_patient_is_in_any_answer(settings: Settings, database: Database) -> None:
    """Names, numbers and free text stay in the ledger."""
    steps = Steps(database)
    steps.receive(received_instance(calling_ae_title="PLANTEDAE"))
    header = instance_header(patient_name="PLANTED^NAME", patient_id="PLANTED1", accession_number="PLANTED2")
    steps.scoring.record_indexed(steps.claim_to_index(), header, steps.policy)
    answers = [_ask(settings, database, path).text for path in ("/healthz", "/readyz", "/metrics")]
    assert "PLANTED" not in "".join(answers)


def test_the_role_serves_on_its_port(settings: Settings, sqlite_url: str) -> None:
    """Over HTTP, and the port is free again afterwards."""
    storage = settings.storage.model_copy(update={"database": sqlite_url})
    own = settings.model_copy(update={"storage": storage})
    for _ in range(2):
        with running(WebRole(own).run):
            answer = httpx.get(f"http://127.0.0.1:{own.web.port}/healthz")
            assert (answer.status_code, "server" in answer.headers) == (200, False)


def test_a_server_that_ends_by_itself_fails_the_role(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that returned as if it had been stopped would not be started again."""
    monkeypatch.setattr("uvicorn.Server.run", lambda _server, sockets: sockets)
    with pytest.raises(TriageError, match="ended by itself"):
        WebRole(settings).run(threading.Event(), lambda: None)


def test_nothing_else_is_served(settings: Settings, database: Database) -> None:
    """And nothing can be changed here."""
    assert [_ask(settings, database, "/").status_code, _ask(settings, database, "/healthz", "POST").status_code] == [
        404,
        405,
    ]
