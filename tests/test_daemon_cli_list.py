"""The commands around the reading list: what they show, and what they change."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from builders import finding
from command_lines import OTHER, STUDY, CommandLine
from cxr_triage.storage.ledger import Announcements
from cxr_triage.storage.schema import ListChangeRow
from cxr_triage.storage.step_records import GLOBAL_SUBSCRIPTION, UPS_FACE
from placing import service


@pytest.fixture
def line(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """A command line on an empty ledger."""
    made = CommandLine(tmp_path, sqlite_url, capsys)
    yield made
    made.database.close()


def test_worklist_shows_the_new_order_and_why(line: CommandLine) -> None:
    """A study with a finding passes one that came earlier."""
    line.steps.clock.move(timedelta(minutes=-5))
    line.steps.score(OTHER, finding(probability=0.1))
    line.steps.clock.move(timedelta(minutes=5))
    line.steps.score(STUDY, finding())
    rows = line.listed()
    assert [(row["study"], row["rank"], row["ordered_rank"]) for row in rows] == [(STUDY, 1, 2), (OTHER, 2, 1)]
    assert "Pneumothorax" in rows[0]["reason"]
    assert "1.2.840.2" in line.said("worklist")


def test_tables_lose_nothing_in_a_narrow_terminal(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """They fold words; an ellipsis would take away what a person came for."""
    monkeypatch.setenv("COLUMNS", "80")
    line.steps.score(STUDY, finding(probability=0.1))
    line.said("order", "set", STUDY, "LOW")
    for command in (["worklist"], ["worklist", "explain", STUDY], ["status"]):
        assert "\N{HORIZONTAL ELLIPSIS}" not in line.said(*command)


def test_worklist_names_no_patient(line: CommandLine) -> None:
    """It is for terminals and scripts, whose output goes anywhere."""
    line.steps.score(STUDY, finding())
    shown = line.said("worklist", "--json") + line.said("worklist") + line.said("status", "--json")
    assert [word for word in ("Muster", "PAT-0001", "ACC-0001", "19640812") if word in shown] == []


def test_order_set_is_remembered_before_the_first_image(line: CommandLine) -> None:
    """Until the RIS tells it."""
    assert line.said("order", "set", STUDY, "stat") == f"{STUDY} is ordered STAT; it is not on the reading list now\n"
    line.steps.score(STUDY, finding(probability=0.1))
    assert line.said("order", "set", STUDY, "stat") == f"{STUDY} is ordered STAT\n"
    assert line.listed()[0]["ordered"] == "STAT"


def test_order_set_refuses_what_is_none(line: CommandLine) -> None:
    """A level, a UID."""
    assert "'SOON' is none: write one of STAT" in line.complaint("order", "set", STUDY, "SOON", status=2)
    assert "is no UID" in line.complaint("order", "set", "DOE^JOHN", "STAT", status=2)


def test_done_takes_a_study_off_the_list(line: CommandLine) -> None:
    """Once; then it is not there."""
    line.steps.score(STUDY, finding())
    assert line.said("done", STUDY) == f"{STUDY} is done\n"
    assert line.listed() == []
    assert "is not on the reading list" in line.complaint("done", STUDY)


def test_history_tells_why_a_study_stood_where_it_stood(line: CommandLine) -> None:
    """Who did what, and when, oldest first; of a study that is not known, nothing."""
    line.steps.score(STUDY, finding("Effusion", 0.9, 0.5))
    line.said("order", "set", STUDY, "LOW")
    told = json.loads(line.said("worklist", "explain", STUDY, "--json"))["history"]
    assert [entry["event"] for entry in told][-2:] == ["ordered", "prioritised"]
    assert "LOW -> HIGH" in told[-1]["detail"]
    (image,) = {entry["sop_instance_uid"] for entry in told if entry["event"] in {"indexed", "scored"}}
    assert [word in line.said("worklist", "explain", STUDY) for word in ("Effusion", image)] == [True, True]
    assert "nothing is known of study" in line.complaint("worklist", "explain", "1.2.3.4")


def test_explain_says_where_a_study_stands_and_stood(line: CommandLine) -> None:
    """Now, with the most probable finding of all images and the image that it is of; and at a time in the past."""
    start = line.steps.clock()
    line.steps.score(OTHER, finding("Effusion", 0.9, 0.5))
    line.steps.clock.move(timedelta(minutes=1))
    line.steps.score(STUDY, finding("Pneumothorax", 0.1, 0.5))
    line.steps.clock.move(timedelta(minutes=1))
    image = line.steps.score(STUDY, finding("Pneumothorax", 0.8, 0.5))
    now = json.loads(line.said("worklist", "explain", STUDY, "--json"))
    assert (now["rank"], now["of"], now["ordered_rank"], now["priority"]) == (1, 2, 2, "HIGH")
    assert "Pneumothorax 0.800 (threshold 0.500, severity weight 1; frontal image 2" in now["reason"]
    assert now["list_version"] == json.loads(line.said("worklist", "--json"))["list_version"]
    assert [(row["label"], row["probability"], row["present"], row["sop_instance_uid"]) for row in now["findings"]] == [
        ("Pneumothorax", 0.8, True, image.sop_instance_uid)
    ]
    assert [row["change"] for row in now["changes"]] == ["listed", "moved"]
    between = (start + timedelta(seconds=90)).isoformat()
    then = json.loads(line.said("worklist", "explain", STUDY, "--at", between, "--json"))
    assert (then["rank"], then["of"], then["priority"]) == (2, 2, "ROUTINE")
    assert "rank 2 of 2" in line.said("worklist", "explain", STUDY, "--at", between)
    assert "is not on the list at" in line.said("worklist", "explain", STUDY, "--at", start.isoformat())
    assert "is no time: write it as in" in line.complaint("worklist", "explain", STUDY, "--at", "noon", status=2)


def test_explain_says_by_which_rules_a_past_place_was_given(line: CommandLine) -> None:
    """The mode and the pause of then, not of now; and what was not kept."""
    line.steps.score(OTHER, finding("Effusion", 0.1, 0.5))
    line.steps.clock.move(timedelta(minutes=1))
    line.steps.score(STUDY, finding("Pneumothorax", 0.8, 0.5))
    line.steps.clock.move(timedelta(minutes=1))
    line.steps.reading_list.pause("drift", actor="physicist", policy=line.steps.policy)
    line.steps.clock.move(timedelta(minutes=1))
    at = line.steps.clock().isoformat()
    line.steps.clock.move(timedelta(minutes=1))
    line.steps.reading_list.resume(actor="physicist", policy=line.steps.policy)
    then = json.loads(line.said("worklist", "explain", STUDY, "--at", at, "--json"))
    assert (then["rank"], then["mode"], then["paused"]["reason"], then["not_kept"]) == (2, "reorder", "drift", [])
    assert json.loads(line.said("worklist", "explain", STUDY, "--json"))["rank"] == 1
    assert "mode: reorder, PAUSED since" in line.said("worklist", "explain", STUDY, "--at", at)
    with line.database.transaction() as session:
        session.execute(delete(ListChangeRow).where(ListChangeRow.study_instance_uid == OTHER))
        session.execute(update(ListChangeRow).values(mode=None))
    told = line.said("worklist", "explain", STUDY, "--at", at)
    assert "not counted, since nothing was kept of them yet: 1." in told
    assert "The mode of then was not kept" in told
    assert "where it stood is not known" in line.said("worklist", "explain", OTHER, "--at", at)


def test_a_claimed_study_keeps_the_front_until_it_is_put_back(line: CommandLine) -> None:
    """Whatever comes; nobody else is given it."""
    line.steps.score(OTHER, finding(probability=0.1))
    assert line.said("worklist", "claim", OTHER) == f"{OTHER} is yours\n"
    line.steps.score(STUDY, finding())
    assert [(row["study"], bool(row["claimed_by"])) for row in line.listed()] == [(OTHER, True), (STUDY, False)]
    assert "Being read by command line" in line.said("worklist")
    assert line.said("worklist", "release", OTHER) == f"{OTHER} waits again\n"
    assert [row["study"] for row in line.listed()] == [STUDY, OTHER]
    assert "nobody reads study" in line.complaint("worklist", "release", OTHER)
    line.steps.reading_list.claim(OTHER, by="WORKSTATION", actor="WORKSTATION")
    assert "is another's" in line.complaint("worklist", "claim", OTHER)


def test_what_subscribers_were_told_is_seen(line: CommandLine) -> None:
    """Per subscriber in the status, with what they did not take; per study in its explanation."""
    procedure = service(line.steps)
    assert procedure.subscribe(GLOBAL_SUBSCRIPTION, "WATCHER", deletion_lock=False, caller="WATCHER").done
    line.steps.score(STUDY, finding())
    [watcher] = json.loads(line.said("status", "--json"))["subscribers"]
    assert (watcher["ae_title"], watcher["events"]["pending"] > 0, watcher["last_error"]) == ("WATCHER", True, "")
    announcements = Announcements(line.database, lease=timedelta(minutes=5))
    told = announcements.claim("worklist-1-host-1", UPS_FACE, "WATCHER")
    assert told is not None
    announcements.record_failure(told, error="it is down", retry_at=None)
    assert "given up or refused: 1: it is down" in " ".join(line.said("status").split())
    explained = json.loads(line.said("worklist", "explain", STUDY, "--json"))["told"]
    assert ("WATCHER", "dead", "it is down") in [
        (each["receiver"], each["state"], each["last_error"]) for each in explained
    ]
    assert told.message_id in line.said("worklist", "explain", STUDY)


def test_a_pause_is_seen_and_lets_findings_move_nothing(line: CommandLine) -> None:
    """At once; and back again at once."""
    line.steps.score(OTHER, finding(probability=0.1))
    line.steps.clock.move(timedelta(minutes=1))
    line.steps.score(STUDY, finding("Effusion"))
    assert [row["study"] for row in line.listed()] == [STUDY, OTHER]
    line.said("pause", "recalibration")
    assert [row["study"] for row in line.listed()] == [OTHER, STUDY]
    assert {row["priority"] for row in line.listed()} == {"ROUTINE"}
    status = json.loads(line.said("status", "--json"))
    assert (status["mode"], status["paused"]["reason"]) == ("reorder", "recalibration")
    assert "PAUSED since" in line.said("status")
    assert "paused already" in line.complaint("pause", "again")
    line.steps.score("1.2.840.3", finding("Effusion"))
    assert [row["priority"] for row in line.listed()] == ["ROUTINE"] * 3
    line.said("resume")
    assert [row["priority"] for row in line.listed()] == ["HIGH", "HIGH", "ROUTINE"]
    assert "is not paused" in line.complaint("resume")
    assert json.loads(line.said("status", "--json"))["paused"] is None
