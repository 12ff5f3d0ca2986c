"""UPS-RS: a search (PS3.18 11.9) gives what matches, in the order of the reading list."""

from pathlib import Path

import pytest

from builders import finding
from cxr_triage.storage.clock import utc_now
from cxr_triage.storage.database import Database
from steps import Steps
from worklists import Client, settings_of, warnings_of

NAME = {"vr": "PN", "Value": [{"Alphabetic": "Wörns^Ann"}]}


@pytest.fixture
def client(tmp_path: Path, sqlite_database: Database) -> Client:
    """A service whose worklist is served."""
    return Client(settings_of(tmp_path), sqlite_database)


@pytest.fixture
def each_client(tmp_path: Path, database: Database) -> Client:
    """The same: the test runs once per kind of database."""
    return Client(settings_of(tmp_path), database)


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
