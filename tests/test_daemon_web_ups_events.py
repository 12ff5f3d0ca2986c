"""Events by WebSocket: on a real port, in order, kept while nobody listens, ended cleanly."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger.announcements import Announcements
from cxr_triage.storage.step_records import UPS_FACE
from peers import PATIENCE_SECONDS, eventually
from worklists import FILTERED_WORKLIST, STEP, SUBSCRIBER, WORKLIST, Client, serving, settings_of


@pytest.fixture
def own(tmp_path: Path, database_url: str) -> Settings:
    """A service whose worklist is served: the test runs once per kind of database."""
    return settings_of(tmp_path, database_url=database_url)


@pytest.fixture
def client(own: Settings) -> Iterator[Client]:
    """Another way to the same worklist."""
    database = open_database(own.database_url)
    yield Client(own, database)
    database.close()


@contextmanager
def _listening(settings: Settings, ae_title: str = SUBSCRIBER, **options: Any) -> Iterator[ClientConnection]:
    uri = f"ws://127.0.0.1:{settings.web.port}/subscribers/{ae_title}"
    with connect(uri, proxy=None, open_timeout=PATIENCE_SECONDS, **options) as channel:
        yield channel


def _next(channel: ClientConnection) -> dict[str, Any]:
    """Give the next event: its attributes' values by tag."""
    message = channel.recv(timeout=PATIENCE_SECONDS)
    assert isinstance(message, str)  # PS3.18 8.10.5.1.1: a text frame
    return {tag: attribute.get("Value") for tag, attribute in json.loads(message).items()}


def _state(event: dict[str, Any]) -> Any:
    return event["00741000"]


def test_events_in_order(own: Settings, client: Client) -> None:
    """With what N-EVENT-REPORT says of each (PS3.18 8.10.5, PS3.4 Table CC.2.4-1)."""
    client.ask("POST", f"/workitems/{WORKLIST}/subscribers/{SUBSCRIBER}")
    with serving(own), _listening(own) as channel:
        client.create()
        client.change("IN PROGRESS")
        first, second = _next(channel), _next(channel)
        client.change("CANCELED")
        third = _next(channel)
    assert [_state(each) for each in (first, second, third)] == [["SCHEDULED"], ["IN PROGRESS"], ["CANCELED"]]
    assert (first["00000002"], first["00001000"], first["00001002"]) == (["1.2.840.10008.5.1.4.34.6.4"], [STEP], [1])


def test_a_connection_goes_on_where_the_last_one_was(own: Settings, client: Client) -> None:
    """What nobody was there for waits, and what was taken does not come again."""
    client.create()
    client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}")
    with serving(own):
        with _listening(own) as channel:
            assert _state(_next(channel)) == ["SCHEDULED"]
        client.change("IN PROGRESS")
        client.change("CANCELED")
        with _listening(own) as channel:
            assert [_state(_next(channel)) for _ in range(2)] == [["IN PROGRESS"], ["CANCELED"]]


def test_one_connection_per_ae_title(own: Settings, client: Client) -> None:
    """The later one is the peer that is there now; the earlier one is closed, and told why."""
    client.create()
    with serving(own), _listening(own) as earlier, _listening(own) as later:
        with pytest.raises(ConnectionClosed) as closed:
            earlier.recv(timeout=PATIENCE_SECONDS)
        assert (closed.value.rcvd and closed.value.rcvd.code) == 1008
        client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}")
        assert _state(_next(later)) == ["SCHEDULED"]


def test_a_filter_takes_new_workitems_in(own: Settings, client: Client) -> None:
    """Those that match, and no others."""
    client.ask("POST", f"/workitems/{FILTERED_WORKLIST}/subscribers/{SUBSCRIBER}?filter=00741200=LOW")
    with serving(own), _listening(own) as channel:
        client.create("2.1")
        client.create("2.2", {"00741200": {"vr": "CS", "Value": ["LOW"]}})
        assert _next(channel)["00001000"] == ["2.2"]


def test_stopping_closes_the_connections(own: Settings) -> None:
    """At once, and with the code for it: service restart (RFC 6455, registry of close codes)."""
    with _server_that_stops(own) as channel, pytest.raises(ConnectionClosed) as closed:
        channel.recv(timeout=PATIENCE_SECONDS)
    assert (closed.value.rcvd and closed.value.rcvd.code) == 1012


@contextmanager
def _server_that_stops(settings: Settings) -> Iterator[ClientConnection]:
    with serving(settings):
        channel = connect(f"ws://127.0.0.1:{settings.web.port}/subscribers/{SUBSCRIBER}", proxy=None)
    with channel:
        yield channel


@pytest.mark.parametrize(
    ("ae_title", "headers", "code"),
    [
        ("NOBODY", {}, 403),
        (SUBSCRIBER, {"Origin": "https://elsewhere.example"}, 403),
        (SUBSCRIBER, {"Origin": "http://["}, 403),
    ],
)
def test_connections_that_are_not_opened(
    tmp_path: Path, sqlite_url: str, ae_title: str, headers: dict[str, str], code: int
) -> None:
    """Not for those whom the site does not name, nor for pages of other sites."""
    own = settings_of(tmp_path, database_url=sqlite_url)
    with serving(own), pytest.raises(InvalidStatus) as refused, _listening(own, ae_title, additional_headers=headers):
        pass
    assert refused.value.response.status_code == code


def test_what_a_peer_says_means_nothing(tmp_path: Path, sqlite_url: str, sqlite_database: Database) -> None:
    """It still hears its events."""
    own = settings_of(tmp_path, database_url=sqlite_url)
    client = Client(own, sqlite_database)
    client.create()
    with serving(own), _listening(own) as channel:
        channel.send("hello")
        channel.send(b"hello")
        client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}")
        assert _state(_next(channel)) == ["SCHEDULED"]


def test_an_event_that_was_not_taken_comes_again_as_it_was(
    tmp_path: Path, sqlite_url: str, sqlite_database: Database
) -> None:
    """A process that ended between sending and recording: the same bytes, for a peer that compares."""
    own = settings_of(tmp_path, database_url=sqlite_url)
    client = Client(own, sqlite_database)
    client.create()
    client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}")
    ledger = Announcements(sqlite_database, lease=timedelta(seconds=1))
    sent = ledger.claim("web-1-host-1", UPS_FACE, SUBSCRIBER)
    assert sent is not None
    ledger.release_leases(lambda _owner: False, utc_now())
    with serving(own), _listening(own) as channel:
        assert channel.recv(timeout=PATIENCE_SECONDS) == sent.payload.decode()
        eventually(lambda: not ledger.receivers(UPS_FACE))


def test_events_that_nobody_came_for_are_given_up(tmp_path: Path, sqlite_url: str, sqlite_database: Database) -> None:
    """After `worklist.ups_event_hours`; what is younger is sent."""
    own = settings_of(tmp_path, "[worklist]", "ups_event_hours = 1", database_url=sqlite_url)
    client = Client(own, sqlite_database)
    client.create()
    client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}")
    with sqlite_database.transaction() as session:
        session.connection().exec_driver_sql("UPDATE announcement SET created_at = '2020-01-01 00:00:00.000000'")
    client.change("IN PROGRESS")
    with serving(own), _listening(own) as channel:
        assert _state(_next(channel)) == ["IN PROGRESS"]


def test_the_port_serves_both(tmp_path: Path, sqlite_url: str) -> None:
    """HTTP beside the WebSocket, by urllib."""
    own = settings_of(tmp_path, database_url=sqlite_url)
    with serving(own) as base, _listening(own):
        body = json.dumps(NEW_WORKITEM).encode()
        request = urllib.request.Request(
            f"{base}/workitems?{STEP}", data=body, headers={"Content-Type": "application/dicom+json"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            assert (answer.status, answer.headers["Location"]) == (201, f"{base}/workitems/{STEP}")
