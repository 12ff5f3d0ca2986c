"""The command line, as a process: what it prints, and how it fails."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from builders import finding, prediction
from cxr_triage.daemon.__main__ import main
from cxr_triage.daemon.reference import example_configuration, reference_page
from cxr_triage.storage.database import open_database
from cxr_triage.storage.ledger import Announcements, Circuits, ClockChange
from cxr_triage.storage.locks import at_work
from cxr_triage.storage.records import Circuit
from cxr_triage.storage.schema import ListChangeRow
from cxr_triage.storage.service_clock import ServiceClock
from cxr_triage.storage.step_records import GLOBAL_SUBSCRIPTION, UPS_FACE
from kept_logging import kept_logging
from ordering import Desk, identity, order
from peers import free_port
from placing import service
from steps import Steps

STUDY, OTHER = "1.2.840.1", "1.2.840.2"


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class CommandLine:
    """`cxr-triage` with a configuration and its database; commands run in this process, which is quicker."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.folder = folder
        self.config = folder / "cxr-triage.toml"
        self.url = url
        ports = f"[dicom]\nport = {free_port()}\n[web]\nport = {free_port()}\n"
        pacs = f'[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = {free_port()}\n'
        self.config.write_text(f'{ports}[storage]\ndatabase = "{url}"\n{pacs}')
        self.database = open_database(url)
        self.steps = Steps(self.database)
        self.steps.clock.now = datetime.now(UTC)

    def run(self, *arguments: str) -> Done:
        """Run a command on this configuration."""
        return self.run_bare("--config", str(self.config), *arguments)

    def run_bare(self, *arguments: str) -> Done:
        """Run a command as it is."""
        with kept_logging(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["cxr-triage", *arguments])
            with pytest.raises(SystemExit) as ended:
                main()
        status, said = ended.value.code, self._capsys.readouterr()
        assert isinstance(status, int)
        return Done(returncode=status, stdout=said.out, stderr=said.err)

    def said(self, *arguments: str) -> str:
        """Standard output of a command that succeeds and complains of nothing."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        """Give the reading list, in order."""
        studies: list[dict[str, Any]] = json.loads(self.said("worklist", "--json"))["studies"]
        return studies

    def complaint(self, *arguments: str, status: int = 1) -> str:
        """The one line of a command that fails."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
        return done.stderr


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as a user does, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CXR_TRIAGE_")}
    command = [sys.executable, "-m", "cxr_triage.daemon", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=clean | environment)


@pytest.fixture
def line(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """A command line on an empty ledger."""
    made = CommandLine(tmp_path, sqlite_url, capsys)
    yield made
    made.database.close()


def test_version_and_help_are_quick_and_loaded_with_nothing() -> None:
    """The list names the commands of other rooms without loading them."""
    assert run("--version").stdout == f"cxr-triage {version('cxr-triage')}\n"
    script = "import sys; from cxr_triage.daemon.__main__ import app; app(['--help'], standalone_mode=False);"
    script += "print([m for m in ('torch', 'cxr_triage.training', 'sqlalchemy', 'pynetdicom') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    listed = [name for name in ("serve", "demo", "check", "train", "evaluate", "migrate") if f" {name} " in done.stdout]
    assert (listed, done.stdout.splitlines()[-1]) == (["serve", "demo", "check", "train", "evaluate", "migrate"], "[]")


def test_config_example_and_reference(line: CommandLine) -> None:
    """Both are made from the declarations."""
    assert line.said("config", "example") == example_configuration()
    assert line.said("config", "reference") == reference_page()


def test_config_is_taken_before_and_after_the_command(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """And from the environment."""
    before = line.said("worklist", "--json")
    after = line.run_bare("worklist", "--json", "--config", str(line.config))
    monkeypatch.setenv("CXR_TRIAGE_CONFIG", str(line.config))
    named = line.run_bare("worklist", "--json")
    assert [json.loads(said)["studies"] for said in (before, after.stdout, named.stdout)] == [[]] * 3


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


def test_command_of_an_extra_that_is_not_installed_says_what_to_install() -> None:
    """One line, no traceback: the service runs without the packages that training needs."""
    script = (
        "import sys; sys.modules['sklearn'] = None; sys.argv = ['cxr-triage', 'evaluate', '--data', '.']\n"
        "from cxr_triage.daemon.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs the package sklearn: install the extra, `pip install cxr-triage[train]`" in done.stderr


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


def test_replay_brings_back_what_was_given_up(line: CommandLine) -> None:
    """An image, every failed image, a destination's deliveries; and says how many, or that there is nothing."""
    image = line.steps.receive()
    claim = line.steps.claim_to_index()
    line.steps.scoring.record_failure(claim, error_class="crash", explanation="it crashed", retry_at=None)
    assert line.said("replay", image.sop_instance_uid) == f"{image.sop_instance_uid} is tried again\n"
    assert "was set aside" in line.complaint("replay", image.sop_instance_uid)
    assert "no image has failed" in line.complaint("replay", "--failed")
    assert "nothing was given up" in line.complaint("replay", "--dead", "pacs")


@pytest.mark.parametrize("what", [[], ["1.2.3", "--failed"], ["1.2.3", "--dead", "pacs"], ["--failed", "--dead", "x"]])
def test_replay_needs_to_know_what(line: CommandLine, what: list[str]) -> None:
    """Exactly one thing."""
    words = "name exactly one of: a UID, --failed, --dead DESTINATION"
    assert words in line.complaint("replay", *what, status=2)


def test_withdraw_takes_results_back_and_replay_brings_them_back(line: CommandLine) -> None:
    """Signed, for a reason from the list, once; list, status and history tell of it."""
    line.steps.score(STUDY, finding("Effusion", 0.9, 0.5))
    line.steps.report(STUDY)
    words = "withdraw", STUDY, "--reason", "patient-safety"
    assert line.said(*words) == f"the results of study {STUDY} are withdrawn: images: 1, finished objects: 2\n"
    assert line.said(*words) == f"the results of study {STUDY} were withdrawn before\n"
    assert "Withdrawn by a person: the results of 1 of 1 images." in line.said("worklist")
    status = json.loads(line.said("status", "--json"))
    assert (status["revisions"]["withdrawn"], status["destinations"][0]["deliveries"]["withdrawn"]) == (1, 2)
    assert "pacs: objects not sent, since their results were withdrawn: 2" in line.said("status")
    told = json.loads(line.said("worklist", "explain", STUDY, "--json"))["history"]
    [entry] = [entry for entry in told if entry["event"] == "withdrawn"]
    assert entry["detail"] == "patient-safety: 1 images, 2 objects"
    assert entry["actor"].startswith("command line")
    assert line.said("replay", STUDY) == f"the results of study {STUDY} count again, and are made anew: images: 1\n"
    assert "Withdrawn" not in line.said("worklist")
    assert "nothing is known of study" in line.complaint("withdraw", "9.9", "--reason", "quality")
    complaint = line.complaint("withdraw", STUDY, "--reason", "it was Mr Jones", status=2)
    assert "write one of quality, patient-safety, worklist-entry" in complaint


def test_migrate_makes_the_tables(line: CommandLine) -> None:
    """And other commands say that it is needed."""
    other = line.folder / "other.toml"
    other.write_text('[storage]\nroot = "data"\n')
    (line.folder / "data").mkdir()
    refused = line.run_bare("--config", str(other), "status")
    assert (refused.returncode, "cxr-triage migrate" in refused.stderr, refused.stderr.count("\n")) == (1, True, 1)
    assert line.run_bare("--config", str(other), "migrate").returncode == 0
    assert line.run_bare("--config", str(other), "status").returncode == 0
    # Patient data is for the service's own user, whatever the shell's umask says.
    assert {stat.S_IMODE(file.stat().st_mode) for file in (line.folder / "data").glob("triage.db*")} == {0o600}


@pytest.mark.parametrize("command", [["serve"], ["serve", "--role", "web"], ["check"], ["worklist"], ["migrate"]])
def test_a_configuration_that_cannot_be_used_is_one_line(line: CommandLine, command: list[str]) -> None:
    """Whatever the command; no traceback."""
    line.config.write_text("[dicom]\nport = 70000\n")
    assert line.complaint(*command, status=2).startswith(f"cxr-triage: {line.config}")


def test_a_real_process_ends_the_same_way(line: CommandLine) -> None:
    """Installed or as a module."""
    line.config.write_text("[dicom]\nport = 70000\n")
    done = run("--config", str(line.config), "serve")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_unknown_commands_and_options_are_refused(line: CommandLine) -> None:
    """With status 2, as Unix tools do."""
    for arguments in (["sreve"], ["status", "--jsno"], ["serve", "--role", "x"]):
        assert line.run(*arguments).returncode == 2


def test_other_rooms_read_their_own_arguments(line: CommandLine) -> None:
    """Entry points get everything behind their name, --help too."""
    done = line.run("evaluate", "--help")
    assert (done.returncode, "--data" in done.stdout) == (0, True)


def test_check_says_what_is_wrong_and_what_to_do(line: CommandLine) -> None:
    """Everything is looked at, also after the first finding."""
    (line.folder / "outbox").write_text("")
    done = line.run("check")
    lines = dict(text.split(": ", 1) for text in done.stdout.splitlines())
    assert done.returncode == 1
    assert (lines["ok    database"].endswith("has this version's schema"), "ok    port dicom" in lines) == (True, True)
    assert "create it for the user" in lines["wrong storage.outbox"]
    assert "127.0.0.1" in lines["wrong destination pacs"]
