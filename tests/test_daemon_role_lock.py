"""One process per role and data folder: the second is refused, the next one is let in."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cxr_triage.daemon.role_lock import held_alone
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.model.errors import ConfigurationError, StorageError
from peers import eventually

POSTGRES = "postgresql+psycopg://triage@db.example.org/triage"


def settings_of(folder: Path, storage: str = "") -> Settings:
    """Give the settings of a data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "cxr-triage.toml"
    file.write_text(f"[storage]\n{storage}\n")
    settings = load_settings(file)
    settings.prepare_folders()
    return settings


def refused(name: str, settings: Settings) -> str:
    """Try to be a second process; gives what it is told."""
    with pytest.raises(ConfigurationError) as raised, held_alone(name, settings, patience_seconds=0):
        pass
    return str(raised.value)


def test_a_second_process_is_told_who_where_and_what_to_do(tmp_path: Path) -> None:
    """By its process ID, so that a person finds the first."""
    settings = settings_of(tmp_path)
    with held_alone("receive", settings):
        said = refused("receive", settings)
    assert f"another receive works in the folder {tmp_path}/run (process " in said
    assert "end that one first, or give this one a storage.root of its own" in said


def test_others_are_not_in_the_way(tmp_path: Path) -> None:
    """Another role, another number of the same role, another data folder; and the same one afterwards."""
    settings, elsewhere = settings_of(tmp_path / "here"), settings_of(tmp_path / "there")
    with held_alone("receive", settings):
        for name, place in (("infer", settings), ("receive-2", settings), ("receive", elsewhere)):
            with held_alone(name, place, patience_seconds=0):
                pass
    with held_alone("receive", settings, patience_seconds=0):
        pass


def test_another_run_folder_does_not_get_round_the_lock_of_a_database_file(tmp_path: Path) -> None:
    """Whatever the file is called there."""
    first = settings_of(tmp_path / "first")
    (tmp_path / "link.db").symlink_to(tmp_path / "first" / "triage.db")
    with held_alone("infer", first):
        for name in ("first/triage.db", "link.db"):
            second = settings_of(tmp_path / "second", f'database = "sqlite:///{tmp_path}/{name}"')
            assert f"another infer works on the database {tmp_path}/first/triage.db" in refused("infer", second)


def test_daemons_with_run_folders_of_their_own_may_share_a_postgres(tmp_path: Path) -> None:
    """They share the work; in the same run folder they would take each other's bell."""
    first = settings_of(tmp_path / "first", f'database = "{POSTGRES}"')
    second = settings_of(tmp_path / "second", f'database = "{POSTGRES}"')
    with held_alone("infer", first), held_alone("infer", second, patience_seconds=0):
        assert "another infer works in the folder" in refused("infer", first)


def test_a_predecessor_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    """A restart does not fail by it."""
    settings, taken, go = settings_of(tmp_path), threading.Event(), threading.Event()

    def hold() -> None:
        with held_alone("deliver", settings):
            taken.set()
            go.wait()

    predecessor = threading.Thread(target=hold)
    predecessor.start()
    taken.wait()
    threading.Timer(0.5, go.set).start()
    with held_alone("deliver", settings, patience_seconds=60):
        assert go.is_set()
    predecessor.join()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """Nor do the programs that it had started keep it."""
    settings = settings_of(tmp_path)
    program = f"""
import subprocess, sys, time
from pathlib import Path
from cxr_triage.daemon.role_lock import held_alone
from cxr_triage.daemon.settings import load_settings
with held_alone("upkeep", load_settings(Path({str(tmp_path / "cxr-triage.toml")!r}))):
    print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        started = int(holder.stdout.readline())
        said = refused("upkeep", settings)
        holder.kill()
    with held_alone("upkeep", settings, patience_seconds=0):
        assert f"(process {holder.pid})" in said
        assert Path(f"/proc/{started}").exists()
    subprocess.run(["kill", f"-{signal.SIGKILL:d}", str(started)], check=True)


def test_a_lock_that_cannot_be_written_is_no_fault_of_the_configuration(tmp_path: Path) -> None:
    """The disk may be back later: the role is started again."""
    settings = settings_of(tmp_path)
    (tmp_path / "run" / "web.lock").mkdir()
    with pytest.raises(StorageError, match=r"cannot write the lock .*web\.lock"), held_alone("web", settings):
        pass


def test_a_second_service_is_refused(tmp_path: Path, sqlite_url: str) -> None:
    """By the command line with status 2, and the first goes on."""
    settings = settings_of(tmp_path, f'database = "{sqlite_url}"')
    command = [sys.executable, "-m", "cxr_triage.daemon", "--config", str(tmp_path / "cxr-triage.toml")]
    serve = [*command, "serve", "--role", "upkeep"]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as first:
        eventually((settings.run_folder / "upkeep.heartbeat").exists)
        began = time.monotonic()
        second = subprocess.run(serve, capture_output=True, text=True, check=False)
        waited = time.monotonic() - began
        assert first.poll() is None
        first.terminate()
        assert first.wait() == 0
    assert second.returncode == 2
    assert f"cxr-triage: another upkeep works in the folder {tmp_path}/run (process {first.pid})" in second.stderr
    assert waited > 10
