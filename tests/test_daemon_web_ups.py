"""UPS-RS: each transaction with each of its responses (PS3.18 11.4-11.12), on a real database."""

from pathlib import Path
from typing import Any

import pytest

from builders import finding
from cxr_triage.daemon.ups import statuses
from cxr_triage.daemon.web.schemas import NEW_WORKITEM
from cxr_triage.daemon.web.ups import meanings
from cxr_triage.daemon.web.ups.endpoint import MAXIMUM_PAYLOAD_BYTES
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from steps import Steps
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


def test_search_gives_the_lists_order(each_client: Client, database: Database) -> None:
    """The study that findings raised is first, and the version of that order is told."""
    steps = Steps(database)
    steps.clock.now = utc_now()  # or all would be overdue, and in the order of their arrival
    steps.score("1.2.840.1")
    steps.score("1.2.840.2", finding("Effusion"))
    each_client.create(attributes={"00100010": NAME})
    answer = each_client.ask("GET", "/workitems?includefield=StudyInstanceUID")
    found = [each.get("0020000D", {}).get("Value") for each in answer.json()]
    assert (answer.status_code, found) == (200, [["1.2.840.2"], ["1.2.840.1"], None])
    before = answer.headers["cxr-triage-list-version"]
    steps.score("1.2.840.3")
    assert each_client.ask("GET", "/workitems").headers["cxr-triage-list-version"] != before


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientName=W%C3%B6rns*", ["2.1"]),
        ("00100010=*Ann", ["2.1"]),
        ("SOPInstanceUID=2.1,2.3&limit=9", ["2.1", "2.3"]),
        ("ScheduledProcedureStepPriority=LOW", ["2.2"]),
        ("ReferencedRequestSequence.AccessionNumber=A3", ["2.3"]),
        ("ProcedureStepState=SCHEDULED&PatientBirthDate=20000101", []),
        ("NoSuchAttribute=7&limit=1&offset=1", ["2.2"]),
        ("emptyvaluematching=true&PatientName=%22%22", ["2.2", "2.3"]),
        ("PatientName=%22%22", []),
        ("limit=0", []),
        ("=7&limit=0", []),
        ("offset=3", []),
    ],
)
def test_search_matches(client: Client, query: str, found: list[str]) -> None:
    """By keyword or tag, into sequences, with wildcards, lists of UIDs and pages."""
    request = {
        "0020000D": {"vr": "UI", "Value": ["1.2.840.77"]},
        "00080050": {"vr": "SH", "Value": ["A3"]},
        "00401001": {"vr": "SH"},
    }
    client.create("2.1", {"00100010": NAME})
    client.create("2.2", {"00741200": {"vr": "CS", "Value": ["LOW"]}})
    client.create("2.3", {"0040A370": {"vr": "SQ", "Value": [request]}})
    answer = client.ask("GET", f"/workitems?{query}")
    uids = [each["00080018"]["Value"][0] for each in answer.json()] if answer.content else []
    partial = query.startswith("NoSuchAttribute")
    assert (answer.status_code, uids) == (206 if partial else 200 if found else 204, found)
    assert warnings_of(answer) == (
        ["The number of results exceeded the maximum supported by the server. Additional results can be requested."]
        if partial
        else []
    )


@pytest.mark.parametrize("name", ["fuzzymatching", "multiplevaluematching"])
def test_matching_that_is_not_supported_is_said(client: Client, name: str) -> None:
    """PS3.18 8.3.4.2: a Warning, and literal matching."""
    client.create(attributes={"00100010": NAME})
    answer = client.ask("GET", f"/workitems?PatientName=Worns*&{name}=true")
    said = f"The {name} parameter is not supported. Only literal matching has been performed."
    assert (answer.status_code, warnings_of(answer)) == (204, [said])


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=",
        "limit=1&limit=2",
        "offset=x",
        "fuzzymatching=yes",
        "includefield=all&includefield=PatientName",
        "PatientName=%ff",
        "PatientName=a%00b",
        "PatientName=a&PatientName=b",
        "InputInformationSequence=1",
        "&".join(f"a{number}=1" for number in range(101)),
    ],
)
def test_search_refuses_what_is_wrong(client: Client, query: str) -> None:
    """Rather than giving what was not asked for."""
    assert client.ask("GET", f"/workitems?{query}").status_code == 400


def test_includefield_says_what_comes_back(client: Client) -> None:
    """What every Workitem has, what is named, or all."""
    client.create()
    plain, named, everything = (
        set(client.ask("GET", f"/workitems?{query}").json()[0])
        for query in ("", "includefield=ProcedureStepProgressInformationSequence", "includefield=all")
    )
    assert {"00080018", "00741200", "00100010"} <= plain
    assert named - plain == {"00741002"}
    assert named < everything
    assert "00081195" not in everything


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
