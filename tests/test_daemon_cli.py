"""The command line, as a process: what it prints, and how it fails."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from builders import finding
from command_lines import STUDY, CommandLine, run
from cxr_triage.daemon.reference import example_configuration, reference_page


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


def test_command_of_an_extra_that_is_not_installed_says_what_to_install() -> None:
    """One line, no traceback: the service runs without the packages that training needs."""
    script = (
        "import sys; sys.modules['sklearn'] = None; sys.argv = ['cxr-triage', 'evaluate', '--data', '.']\n"
        "from cxr_triage.daemon.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "needs the package sklearn: install the extra, `pip install cxr-triage[train]`" in done.stderr


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
