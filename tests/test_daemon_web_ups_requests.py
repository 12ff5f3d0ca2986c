"""UPS-RS: media types, payloads that are not read, and who is answered at all."""

from pathlib import Path

import pytest

from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.daemon.web.ups import meanings
from cxr_triage.daemon.web.ups.endpoint import MAXIMUM_PAYLOAD_BYTES
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.storage.database import Database
from worklists import STEP, SUBSCRIBER, Client, settings_of

NO_STEP = "1.2.826.0.1.3680043.10.1"
NAME = {"vr": "PN", "Value": [{"Alphabetic": "Wörns^Ann"}]}


@pytest.fixture
def client(tmp_path: Path, sqlite_database: Database) -> Client:
    """A service whose worklist is served."""
    return Client(settings_of(tmp_path), sqlite_database)


@pytest.mark.parametrize(
    ("path", "accept", "content_type"),
    [
        (STEP, "", "application/dicom+json"),
        (STEP, "*/*", "application/dicom+json"),
        (STEP, "application/dicom+xml", "application/dicom+xml"),
        (STEP, "application/dicom+xml;q=0.2, application/*;q=0.1", "application/dicom+xml"),
        (STEP, "application/dicom+json;q=0, application/*", "application/dicom+xml"),
        (STEP, "text/html, application/json", None),
        (STEP, "application/dicom+json;q=0", None),
        ("", "application/dicom+json", "application/dicom+json"),
        ("", 'multipart/related; type="application/dicom+xml"', "multipart/related"),
        ("", "multipart/related", "multipart/related"),
        ("", "multipart/related; type=application/octet-stream", None),
        ("", "application/dicom+xml", None),
    ],
)
def test_media_type_of_the_response(client: Client, path: str, accept: str, content_type: str | None) -> None:
    """What is acceptable, or 406; several Workitems in XML are parts (PS3.18 8.7)."""
    client.create()
    answer = client.ask("GET", f"/workitems/{path}".rstrip("/"), accept=accept)
    if content_type is None:
        assert answer.status_code == 406
    else:
        assert answer.headers["content-type"].partition(";")[0] == content_type


def test_the_query_wins_over_the_header(client: Client) -> None:
    """PS3.18 8.3.3."""
    client.create()
    answer = client.ask("GET", f"/workitems/{STEP}?accept=application/dicom%2Bxml", accept="application/dicom+json")
    assert answer.headers["content-type"] == "application/dicom+xml"
    assert client.ask("GET", f"/workitems/{STEP}?charset=latin1").status_code == 406


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"{}", {"content_type": "text/plain"}, 415),
        (b"{}", {"content_type": "application/dicom+json; charset=latin1"}, 415),
        (b"{}", {"content_encoding": "gzip"}, 415),
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"<a/>", {"content_type": "application/dicom+xml"}, 400),
        (b" " * (MAXIMUM_PAYLOAD_BYTES + 1), {}, 413),
    ],
)
def test_payloads_that_are_not_read(client: Client, content: bytes, headers: dict[str, str], code: int) -> None:
    """Unknown, broken, bottomless or too large."""
    answer = client.ask("POST", f"/workitems?{STEP}", content, **headers)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "localhost:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"origin": "http://127.0.0.1:8080"}, 200),
        ({"origin": "https://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"host": "rebound.example"}, 421),
        ({"host": "a b"}, 400),
    ],
)
def test_pages_of_other_sites_are_not_answered(client: Client, headers: dict[str, str], code: int) -> None:
    """A browser at this machine is asked by whatever it shows."""
    client.create()
    assert client.ask("GET", f"/workitems/{STEP}", **headers).status_code == code


def test_a_proxy_may_call_us_by_its_own_name(tmp_path: Path, sqlite_database: Database) -> None:
    """Where the site says that somebody else decides who may ask."""
    client = Client(settings_of(tmp_path, "allow_remote = true"), sqlite_database)
    client.create()
    assert client.ask("GET", f"/workitems/{STEP}", host="triage.example").status_code == 200


def test_an_ae_title_is_told_in_one_way(tmp_path: Path) -> None:
    """By DIMSE or by WebSocket: by both, its events would come out of order."""
    with pytest.raises(ConfigurationError, match=r"web\.ups_subscribers = 'READER' is also"):
        settings_of(tmp_path, "[[ups_subscriber]]", f'ae_title = "{SUBSCRIBER}"', 'host = "reader"', "port = 104")


def test_off_unless_the_site_wants_it(tmp_path: Path, sqlite_database: Database) -> None:
    """No path of it is there."""
    settings = settings_of(tmp_path)
    off = settings.model_copy(update={"web": settings.web.model_copy(update={"ups": False})})
    client = Client(off, sqlite_database)
    assert client.ask("GET", "/workitems").status_code == 404
    assert "/workitems" not in client.ask("GET", "/openapi.json").json()["paths"]


def test_a_ledger_out_of_reach_is_not_the_peers_fault(tmp_path: Path, sqlite_database: Database) -> None:
    """503, and when to come again."""
    client = Client(settings_of(tmp_path), sqlite_database)
    with sqlite_database.transaction() as session:
        session.connection().exec_driver_sql("DROP TABLE procedure_step")
    answer = client.ask("GET", f"/workitems/{STEP}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_no_patient_is_logged_or_told_to_others(
    tmp_path: Path, sqlite_database: Database, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor quoted in an error."""
    client = Client(settings_of(tmp_path), sqlite_database)
    planted = {"vr": "PN", "Value": [{"Alphabetic": "PLANTED^NAME"}]}
    client.create(attributes={"00100010": planted})
    wrong = NEW_WORKITEM | {"00100010": {"vr": "PN", "Value": ["PLANTED^NAME"]}, "00100020": planted}
    answers = [
        client.ask("POST", f"/workitems?{NO_STEP}", wrong).text,
        client.ask("GET", "/workitems?PatientName=PLANTED*&limit=PLANTED").text,
        client.ask("GET", "/metrics").text,
    ]
    printed = capsys.readouterr()
    assert "PLANTED" not in "".join([*answers, printed.out, printed.err, caplog.text])


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        (statuses.CREATE_ANSWERS, meanings.CREATE),
        (statuses.GET_ANSWERS, meanings.RETRIEVE),
        (statuses.SET_ANSWERS, meanings.UPDATE),
        (statuses.STATE_ANSWERS, meanings.CHANGE_STATE),
        (statuses.CANCEL_ANSWERS, meanings.CANCEL),
        (statuses.SUBSCRIPTION_ANSWERS, meanings.SUBSCRIBE),
        (statuses.SUBSCRIPTION_ANSWERS, meanings.UNSUBSCRIBE),
    ],
)
def test_every_status_has_its_meaning(answers: dict[int, object], known: meanings.Meanings) -> None:
    """Whatever the worklist answers can be said over HTTP."""
    assert answers.keys() == known.keys()
