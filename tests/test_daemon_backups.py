"""`cxr-triage backup` and `restore`: what they say, and how they end."""

import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from backed_up import Ward
from command_lines import CommandLine
from cxr_triage.daemon.heartbeat import beating
from cxr_triage.storage.migrate import migrate
from test_docs import ROOT


@pytest.fixture
def line(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    """A command line on a service with something in every state."""
    ward = Ward(tmp_path, sqlite_url)
    ward.fill()
    ward.close()
    made = CommandLine(tmp_path, sqlite_url, capsys)
    yield made
    made.database.close()


def other(line: CommandLine, url: str, folder: str = "new") -> str:
    """Write the configuration of another service."""
    (line.folder / folder).mkdir(exist_ok=True)
    config = line.folder / folder / "cxr-triage.toml"
    config.write_text(f'[storage]\ndatabase = "{url}"\n')
    return str(config)


def test_backup_says_what_is_in_it(line: CommandLine) -> None:
    """In one line; so does the check of it, and neither names a patient."""
    said = line.said("backup", str(line.folder / "backup"))
    contents = "8 images (8 with their files), 5 studies, 6 result files, as of"
    assert said.startswith(f"backup in {line.folder / 'backup'}: {contents}")
    checked = line.said("restore", "--check", str(line.folder / "backup"))
    assert checked.startswith(f"{line.folder / 'backup'} is whole: {contents}")
    assert [word for word in ("Muster", "PAT-0001", "ACC-0001") if word in said + checked] == []
    assert stat.S_IMODE((line.folder / "backup").stat().st_mode) == 0o700


def test_backup_that_lacks_a_file_fails_and_names_it(line: CommandLine) -> None:
    """It is there all the same, and can be restored without it."""
    [lost, *_] = sorted((line.folder / "inbox").rglob("*.dcm"))
    lost.unlink()
    done = line.run("backup", str(line.folder / "backup"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"not in it: inbox/{lost.relative_to(line.folder / 'inbox')} is missing (SOP Instance UID" in done.stdout
    assert "lacks 1 files, named above" in done.stderr
    assert line.said("restore", "--check", str(line.folder / "backup")).startswith(str(line.folder / "backup"))


def test_restore_says_what_is_there_now(line: CommandLine, new_database: Callable[[str], str]) -> None:
    """And what is not; on another kind of database."""
    line.said("backup", str(line.folder / "backup"))
    config = other(line, new_database("postgresql"))
    done = line.run_bare("--config", config, "restore", str(line.folder / "backup"))
    assert (done.returncode, done.stderr) == (0, "")
    restored, missing = done.stdout.splitlines()
    assert restored.startswith("restored into postgresql")
    assert missing.startswith("images that were acknowledged after")
    assert line.run_bare("--config", config, "status").returncode == 0
    again = line.run_bare("--config", config, "restore", str(line.folder / "backup"))
    assert (again.returncode, "not empty" in again.stderr) == (1, True)


def test_restore_into_a_service_at_work_is_refused(line: CommandLine) -> None:
    """Its folders are its own, whatever database is named."""
    line.said("backup", str(line.folder / "backup"))
    config = other(line, f"sqlite:///{line.folder / 'new.db'}")
    run_folder = line.folder / "new" / "run"
    run_folder.mkdir()
    with beating(run_folder, "receive-1", 5):
        done = line.run_bare("--config", config, "restore", str(line.folder / "backup"))
    assert (done.returncode, "(receive): stop it first" in done.stderr) == (1, True)


def test_damaged_backup_is_refused_unless_a_person_says_so(line: CommandLine) -> None:
    """What is left out is named."""
    line.said("backup", str(line.folder / "backup"))
    [lost, *_] = sorted((line.folder / "backup" / "inbox").rglob("*.dcm"))
    lost.write_bytes(b"rotten")
    config = other(line, f"sqlite:///{line.folder / 'new.db'}")
    for arguments in (["--check"], []):
        refused = line.run_bare("--config", config, "restore", *arguments, str(line.folder / "backup"))
        assert (refused.returncode, f"the first is {lost}" in refused.stderr) == (1, True)
    done = line.run_bare("--config", config, "restore", "--leave-out-damaged", str(line.folder / "backup"))
    name = lost.relative_to(line.folder / "backup" / "inbox")
    assert (done.returncode, f"left out: inbox/{name}" in done.stdout) == (0, True)


COMMANDS = (
    ["serve"],
    ["serve", "--role", "web"],
    ["status"],
    ["worklist"],
    ["migrate"],
    ["backup", "out"],
    ["restore"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_schema_of_a_newer_version_is_refused_in_one_line(line: CommandLine, command: list[str]) -> None:
    """Whatever the command, with what to do."""
    backup = str(line.folder / "backup")
    line.said("backup", backup)
    with line.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    complaint = line.complaint(*command, *([backup] if command == ["restore"] else []))
    assert "newer version: use that version, or restore the backup that was made before the upgrade" in complaint


@pytest.mark.parametrize("command", COMMANDS[:-1], ids=" ".join)
def test_unfinished_restore_is_refused_in_one_line(line: CommandLine, command: list[str]) -> None:
    """The service does not start on half of its data."""
    with line.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'restoring 0001'"))
    assert "has not come to its end: run `cxr-triage restore` again" in line.complaint(*command)


def test_check_says_the_same(line: CommandLine) -> None:
    """Of the database alone."""
    with line.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "wrong database: the database's schema was made by a newer version" in line.run("check").stdout


def test_backup_needs_a_schema(line: CommandLine) -> None:
    """An empty database has nothing to back up; migrated, it can be."""
    url = f"sqlite:///{line.folder / 'none.db'}"
    config = other(line, url)
    done = line.run_bare("--config", config, "backup", str(line.folder / "backup"))
    assert (done.returncode, "cxr-triage migrate" in done.stderr) == (1, True)
    migrate(url)
    assert line.run_bare("--config", config, "backup", str(line.folder / "backup")).returncode == 0


def test_how_to_does_what_it_says(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in their order; where it says so, a new empty database and empty folders are named first."""
    page = (ROOT / "docs" / "how-to" / "backup.md").read_text()
    commands = re.findall(r"^ {4,}cxr-triage (.+)$", page, re.MULTILINE)
    monkeypatch.chdir(line.folder)
    config = str(line.config)
    ran = []
    for command in commands:
        words = [word.replace("/srv/backup", str(line.folder)) for word in command.split()]
        if words[0] == "restore" and "--check" not in words:
            config = other(line, f"sqlite:///{line.folder / 'new.db'}")
        if words[0] == "check":  # looks at ports and PACS, which are not there
            continue
        done = line.run_bare("--config", config, *words)
        assert (done.returncode, done.stderr) == (0, "")
        ran.append(words[0])
    assert ran == ["backup", "restore", "restore", "backup", "migrate"]
