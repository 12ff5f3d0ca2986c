"""UPS-RS: each transaction with each of its responses (PS3.18 11.4-11.12), on a real database."""

from pathlib import Path
from typing import Any

import pytest

from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.storage.database import Database
from worklists import CLAIM, FILTERED_WORKLIST, STEP, SUBSCRIBER, WORKLIST, Client, settings_of, warnings_of

NO_STEP = "1.2.826.0.1.3680043.10.1"
NAME = {"vr": "PN", "Value": [{"Alphabetic": "Wörns^Ann"}]}


@pytest.fixture
def client(tmp_path: Path, sqlite_database: Database) -> Client:
    """A service whose worklist is served."""
    return Client(settings_of(tmp_path), sqlite_database)


@pytest.fixture
def each_client(tmp_path: Path, database: Database) -> Client:
    """The same: the test runs once per kind of database."""
    return Client(settings_of(tmp_path), database)


def _without(tag: str) -> dict[str, Any]:
    return {key: value for key, value in NEW_WORKITEM.items() if key != tag}


@pytest.mark.parametrize("query", [f"?{STEP}", f"?workitem={STEP}"])
def test_created(client: Client, query: str) -> None:
    """201, where it is, and what we added to it."""
    answer = client.ask("POST", f"/workitems{query}", NEW_WORKITEM)
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["location"] == f"http://127.0.0.1:8080/workitems/{STEP}"
    assert warnings_of(answer) == ["The Workitem was created with modifications."]
    assert client.state() == "SCHEDULED"


def test_created_with_the_uid_of_the_payload_or_one_of_ours(each_client: Client) -> None:
    """The Worklist as the target resource (PS3.18 Table 11.4.1-1)."""
    inside = {"00080018": {"vr": "UI", "Value": [STEP]}}
    answer = each_client.ask("POST", "/workitems", NEW_WORKITEM | inside)
    assert answer.headers["location"].endswith(f"/workitems/{STEP}")
    assert each_client.ask("POST", f"/workitems?{NO_STEP}", NEW_WORKITEM | inside).status_code == 400
    location = each_client.ask("POST", "/workitems", NEW_WORKITEM).headers["location"]
    assert each_client.ask("GET", location).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        (NEW_WORKITEM, 409, "0111"),
        (_without("00741200"), 400, "0120"),
        (NEW_WORKITEM | {"00741204": {"vr": "LO"}}, 400, "0121"),
        (NEW_WORKITEM | {"00741200": {"vr": "CS", "Value": ["URGENT"]}}, 400, "0106"),
        (NEW_WORKITEM | {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}}, 400, "C309"),
        (NEW_WORKITEM | {"00080016": {"vr": "UI", "Value": ["1.2"]}}, 400, "0105"),
    ],
)
def test_not_created(client: Client, body: Any, code: int, status: str) -> None:
    """With the DIMSE status that says why."""
    uid = STEP if code == 409 else NO_STEP
    client.create()
    answer = client.ask("POST", f"/workitems?{uid}", body)
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json")
    assert answer.json()["dicomStatus"] == status
    assert client.ask("GET", f"/workitems/{NO_STEP}").status_code == 404


def test_retrieved(client: Client) -> None:
    """All but the Transaction UID, which is the performer's (PS3.4 CC.2.7.3)."""
    client.create(attributes={"00100010": NAME})
    assert client.change("IN PROGRESS").status_code == 200
    answer = client.ask("GET", f"/workitems/{STEP}")
    (workitem,) = answer.json()
    assert answer.headers["content-type"] == "application/dicom+json"
    assert (workitem["00100010"], workitem["00080018"]["Value"]) == (NAME, [STEP])
    assert "00081195" not in workitem
    assert answer.headers["cache-control"] == "no-store"
    assert client.ask("HEAD", f"/workitems/{STEP}").status_code == 200


@pytest.mark.parametrize("path", ["workitems/1.2.", "workitems/x", f"workitems/{'1.' * 40}1", "workitems/01.2"])
def test_what_is_no_uid_is_a_bad_request(client: Client, path: str) -> None:
    """PS3.5 9.1."""
    assert client.ask("GET", f"/{path}").status_code == 400


#: State, wanted state, with which Transaction UID; HTTP status, DIMSE status, Warning.
_INCONSISTENT = "The submitted request is inconsistent with the state of the UPS Instance."
_ILLEGAL = [
    ("SCHEDULED", "COMPLETED", CLAIM, 409, "C310", _INCONSISTENT),
    ("SCHEDULED", "CANCELED", CLAIM, 409, "C310", _INCONSISTENT),
    ("SCHEDULED", "SCHEDULED", CLAIM, 400, "C303", _INCONSISTENT),
    ("SCHEDULED", "IN PROGRESS", None, 400, "C301", "The Transaction UID is missing."),
    ("IN PROGRESS", "IN PROGRESS", CLAIM, 409, "C302", _INCONSISTENT),
    ("IN PROGRESS", "IN PROGRESS", "2.25.9", 400, "C301", "The Transaction UID is incorrect."),
    ("IN PROGRESS", "COMPLETED", CLAIM, 409, "C304", _INCONSISTENT),
    ("IN PROGRESS", "COMPLETED", "2.25.9", 400, "C301", "The Transaction UID is incorrect."),
    ("IN PROGRESS", "COMPLETED", None, 400, "C301", "The Transaction UID is missing."),
    ("IN PROGRESS", "CANCELED", "2.25.9", 400, "C301", "The Transaction UID is incorrect."),
    ("IN PROGRESS", "SCHEDULED", CLAIM, 400, "C303", _INCONSISTENT),
    ("COMPLETED", "IN PROGRESS", CLAIM, 409, "C300", _INCONSISTENT),
    ("COMPLETED", "CANCELED", CLAIM, 409, "C300", _INCONSISTENT),
    ("COMPLETED", "SCHEDULED", CLAIM, 400, "C303", _INCONSISTENT),
    ("CANCELED", "IN PROGRESS", CLAIM, 409, "C300", _INCONSISTENT),
    ("CANCELED", "COMPLETED", CLAIM, 409, "C300", _INCONSISTENT),
    ("CANCELED", "SCHEDULED", CLAIM, 400, "C303", _INCONSISTENT),
]


@pytest.mark.parametrize(("state", "wanted", "claim", "code", "status", "warning"), _ILLEGAL)
def test_illegal_transitions(
    client: Client,
    state: str,
    wanted: str,
    claim: str | None,
    code: int,
    status: str,
    warning: str,
) -> None:
    """PS3.4 Table CC.1.1-2 by HTTP: refused with the standard's words, and nothing has changed."""
    client.bring_to(state)
    answer = client.change(wanted, claim=claim)
    assert (answer.status_code, answer.json()["dicomStatus"], warnings_of(answer)) == (code, status, [warning])
    assert client.state() == state


@pytest.mark.parametrize("state", ["COMPLETED", "CANCELED"])
def test_already_there(each_client: Client, state: str) -> None:
    """Done, with a Warning (PS3.18 11.7.3.2)."""
    each_client.bring_to(state)
    answer = each_client.change(state)
    assert (answer.status_code, warnings_of(answer)) == (
        200,
        [f"The UPS is already in the requested state of {state}."],
    )


@pytest.mark.parametrize(
    ("state", "query", "code", "status", "warning"),
    [
        ("SCHEDULED", "", 200, None, None),
        ("SCHEDULED", f"?{CLAIM}", 409, "C310", "The target URI did not reference a claimed Workitem."),
        ("IN PROGRESS", f"?{CLAIM}", 200, None, None),
        ("IN PROGRESS", f"?transaction-uid={CLAIM}", 200, None, None),
        ("IN PROGRESS", "", 400, "C301", "The Transaction UID is missing."),
        ("IN PROGRESS", "?2.25.9", 400, "C301", "The Transaction UID is incorrect."),
        (
            "COMPLETED",
            f"?{CLAIM}",
            400,
            "C300",
            "The submitted request is inconsistent with the current state of the Workitem.",
        ),
    ],
)
def test_updated(client: Client, state: str, query: str, code: int, status: str | None, warning: str | None) -> None:
    """By anybody before it is claimed, then by its performer (PS3.18 Tables 11.6.3-1 and 11.6.3-2)."""
    client.bring_to(state)
    label = {"00741204": {"vr": "LO", "Value": ["First"]}}
    answer = client.ask("POST", f"/workitems/{STEP}{query}", label)
    said = answer.json()["dicomStatus"] if answer.content else None
    assert (answer.status_code, said, warnings_of(answer)) == (code, status, [warning] if warning else [])
    (workitem,) = client.ask("GET", f"/workitems/{STEP}").json()
    assert (workitem["00741204"]["Value"] == ["First"]) == (code == 200)


@pytest.mark.parametrize(
    ("state", "code", "warning"),
    [
        ("SCHEDULED", 202, None),
        ("IN PROGRESS", 409, "The performer cannot be contacted."),
        ("COMPLETED", 409, "The UPS is already COMPLETED."),
        ("CANCELED", 202, "The UPS is already in the requested state of CANCELED."),
    ],
)
def test_cancellation_requested(client: Client, state: str, code: int, warning: str | None) -> None:
    """PS3.18 Tables 11.8.3-1 and 11.8.3-2; the payload may be left out."""
    client.bring_to(state)
    reason = {"00741238": {"vr": "LT", "Value": ["Taken twice"]}} if state == "SCHEDULED" else None
    answer = client.ask("POST", f"/workitems/{STEP}/cancelrequest", reason)
    assert (answer.status_code, warnings_of(answer)) == (code, [warning] if warning else [])
    assert client.state() == ("CANCELED" if state == "SCHEDULED" else state)


def test_a_performer_that_says_who_it_is_hears_of_the_wish(each_client: Client) -> None:
    """It subscribed, so the request reaches it; what becomes of the Workitem is its own matter."""
    each_client.create()
    assert each_client.change("IN PROGRESS", by=SUBSCRIBER).status_code == 200
    assert each_client.ask("POST", f"/workitems/{STEP}/subscribers/{SUBSCRIBER}").status_code == 201
    answer = each_client.ask("POST", f"/workitems/{STEP}/cancelrequest/OTHER")
    assert (answer.status_code, warnings_of(answer), each_client.state()) == (202, [], "IN PROGRESS")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/workitems/{NO_STEP}"),
        ("POST", f"/workitems/{NO_STEP}"),
        ("PUT", f"/workitems/{NO_STEP}/state"),
        ("POST", f"/workitems/{NO_STEP}/cancelrequest"),
        ("POST", f"/workitems/{NO_STEP}/subscribers/{SUBSCRIBER}"),
        ("DELETE", f"/workitems/{NO_STEP}/subscribers/{SUBSCRIBER}"),
        ("POST", f"/workitems/{NO_STEP}/subscribers/{SUBSCRIBER}/suspend"),
    ],
)
def test_unknown_workitem(client: Client, method: str, path: str) -> None:
    """404 everywhere."""
    body = {"00741000": {"vr": "CS", "Value": ["IN PROGRESS"]}, "00081195": {"vr": "UI", "Value": [CLAIM]}}
    label = {"00741204": {"vr": "LO", "Value": ["First"]}} if path.endswith(NO_STEP) else None
    answer = client.ask(method, path, body if method == "PUT" else label if method == "POST" else None)
    assert (answer.status_code, answer.json()["dicomStatus"]) == (404, "C307")


def test_subscribed(each_client: Client) -> None:
    """To one, to all, to those that match; suspended, and ended (PS3.18 11.10-11.12)."""
    each_client.create(attributes={"00100010": NAME})
    channel = f"ws://127.0.0.1:8080/subscribers/{SUBSCRIBER}"
    for path in (
        f"{STEP}/subscribers/{SUBSCRIBER}",
        f"{WORKLIST}/subscribers/{SUBSCRIBER}?deletionlock=true",
        f"{FILTERED_WORKLIST}/subscribers/{SUBSCRIBER}?filter=PatientName=W*,00741200=HIGH",
        f"{FILTERED_WORKLIST}/subscribers/{SUBSCRIBER}?PatientName=W*",
    ):
        answer = each_client.ask("POST", f"/workitems/{path}")
        assert (answer.status_code, answer.headers["content-location"], warnings_of(answer)) == (201, channel, [])
    suspended = each_client.ask("POST", f"/workitems/{WORKLIST}/subscribers/{SUBSCRIBER}/suspend")
    ended = each_client.ask("DELETE", f"/workitems/{WORKLIST}/subscribers/{SUBSCRIBER}")
    assert (suspended.status_code, ended.status_code) == (200, 200)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{STEP}/subscribers/NOBODY", 403),
        (f"{STEP}/subscribers/SEVENTEENLETTERSX", 400),
        (f"{WORKLIST}/subscribers/{SUBSCRIBER}?deletionlock=perhaps", 400),
        (f"{FILTERED_WORKLIST}/subscribers/{SUBSCRIBER}", 400),
        (f"{STEP}/subscribers/{SUBSCRIBER}/suspend", 400),
    ],
)
def test_not_subscribed(client: Client, path: str, code: int) -> None:
    """Who may be told is the site's decision."""
    client.create()
    assert client.ask("POST", f"/workitems/{path}").status_code == code
