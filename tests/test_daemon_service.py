"""One role as a process: signals, readiness, heartbeat, and what is refused before it starts."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr_triage.daemon.heartbeat import beating, is_alive
from cxr_triage.daemon.notify import NOTIFY_VARIABLE, READY, NotifyListener, notify
from cxr_triage.daemon.service import ROLES, create_or_require_schema, enabled_roles, require_schema, run_role
from cxr_triage.daemon.settings import Settings, load_settings
from cxr_triage.model.errors import ConfigurationError, StorageError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.migrate import is_new
from cxr_triage.storage.service_clock import boottime_seconds

#: `run_role` as a process: signals go to processes. The role says on standard output what happens to it.
PROCESS = """
    import sys, threading
    from pathlib import Path
    from cxr_triage.daemon.service import run_role
    from cxr_triage.daemon.settings import load_settings
    from cxr_triage.daemon.wakeup import Doorbell

    class Stand:
        def __init__(self, settings):
            self.run_folder = settings.run_folder

        def run(self, stop, ready):
            bell = Doorbell.listen(self.run_folder, "stand")
            ready()
            print("ready", flush=True)
            if "poll" in sys.argv:
                bell.wait(3600)
            stop.wait()
            print("asked to stop", flush=True)
            if "hang" in sys.argv:
                threading.Event().wait()
            print("drained", flush=True)

    run_role("stand", load_settings(Path(sys.argv[1])), roles={"stand": "__main__:Stand"})
    print("ended", flush=True)
"""


@pytest.fixture
def config(tmp_path: Path, sqlite_url: str) -> Path:
    """A configuration whose database has the schema."""
    path = tmp_path / "cxr-triage.toml"
    path.write_text(f'[storage]\ndatabase = "{sqlite_url}"\n')
    return path


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifyListener]:
    """Somebody who hears what roles say to their manager."""
    heard = NotifyListener()
    monkeypatch.setenv(NOTIFY_VARIABLE, heard.address)
    yield heard
    heard.close()


def _start(tmp_path: Path, config: Path, *more: str) -> "subprocess.Popen[str]":
    script = tmp_path / "role.py"
    script.write_text(textwrap.dedent(PROCESS))
    return subprocess.Popen([sys.executable, str(script), str(config), *more], stdout=subprocess.PIPE, text=True)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_a_role(tmp_path: Path, config: Path, listener: NotifyListener, number: signal.Signals) -> None:
    """Ready is said, life is shown, work is finished, and both are taken back."""
    settings = load_settings(config)
    with _start(tmp_path, config) as process:
        assert _line(process) == "ready"
        assert is_alive(settings.run_folder, "stand", settings.service.heartbeat_seconds)
        process.send_signal(number)
        assert [_line(process) for _ in range(3)] == ["asked to stop", "drained", "ended"]
        assert process.wait() == 0
    assert [message for _, message in listener.receive()] == ["READY=1", "STOPPING=1"]
    assert not is_alive(settings.run_folder, "stand", settings.service.heartbeat_seconds)


def test_a_signal_wakes_a_role_that_waits_for_work(tmp_path: Path, config: Path) -> None:
    """However long its poll is, it stops before its manager loses patience."""
    with _start(tmp_path, config, "poll") as process:
        assert _line(process) == "ready"
        process.terminate()
        assert _line(process) == "asked to stop"
        assert process.wait() == 0


def test_a_second_signal_ends_a_role_at_once(tmp_path: Path, config: Path) -> None:
    """Whoever asks twice does not want to wait."""
    with _start(tmp_path, config, "hang") as process:
        assert _line(process) == "ready"
        process.terminate()
        assert _line(process) == "asked to stop"
        process.terminate()
        assert process.wait() == -signal.SIGTERM


def test_messages_name_their_sender(listener: NotifyListener) -> None:
    """The kernel says who sent a message, so that no role can speak for another."""
    script = f"from cxr_triage.daemon.notify import notify; notify({READY!r})"
    child = subprocess.Popen([sys.executable, "-c", script])
    child.wait()
    notify("STATUS=here")
    assert listener.receive() == [(child.pid, READY), (os.getpid(), "STATUS=here")]


def test_nobody_to_notify_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role may be started by hand, and its manager may be gone."""
    monkeypatch.delenv(NOTIFY_VARIABLE, raising=False)
    notify(READY)
    gone = NotifyListener()
    monkeypatch.setenv(NOTIFY_VARIABLE, gone.address)
    gone.close()
    notify(READY)


def test_notify_reaches_a_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemd's socket is /run/systemd/notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv(NOTIFY_VARIABLE, str(tmp_path / "notify"))
        notify(READY)
        assert manager.recv(100) == b"READY=1"


def test_a_silent_heart_is_dead(tmp_path: Path) -> None:
    """After three beats without a sign; while it beats, and before it has ever beaten."""
    assert not is_alive(tmp_path, "infer", 5)
    with beating(tmp_path, "infer", 5):
        assert is_alive(tmp_path, "infer", 5)
        os.utime(tmp_path / "infer.heartbeat", (0, 0))
        assert not is_alive(tmp_path, "infer", 5)
    assert not (tmp_path / "infer.heartbeat").exists()


def test_a_heart_beats_by_no_clock_that_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set by years, forward or back: who lives lives, and who is silent is dead."""
    for years in (5, -10):
        with beating(tmp_path, "infer", 5):
            now = time.time() + years * 365 * 86400
            monkeypatch.setattr(time, "time", lambda now=now: now)
            assert is_alive(tmp_path, "infer", 5)
        (tmp_path / "infer.heartbeat").touch()
        os.utime(tmp_path / "infer.heartbeat", (boottime_seconds() - 16,) * 2)
        assert not is_alive(tmp_path, "infer", 5)


def test_a_heart_of_the_boot_before_is_dead(tmp_path: Path) -> None:
    """The machine ran for longer then than it does now."""
    (tmp_path / "infer.heartbeat").touch()
    os.utime(tmp_path / "infer.heartbeat", (boottime_seconds() + 1000,) * 2)
    assert not is_alive(tmp_path, "infer", 5)


def test_a_heart_goes_on_beating(tmp_path: Path) -> None:
    """The file is touched again and again."""
    with beating(tmp_path, "infer", 0.01):
        os.utime(tmp_path / "infer.heartbeat", (0, 0))
        while not is_alive(tmp_path, "infer", 5):
            time.sleep(0.01)


def test_the_modality_worklist_is_a_role_only_where_it_is_enabled() -> None:
    """It is off by default: a modality must not take finished studies for work."""
    listed = Settings.model_validate({"worklist": {"enabled": True}})
    assert set(ROLES) - set(enabled_roles(Settings())) == {"worklist", "orders"}
    assert set(ROLES) - set(enabled_roles(listed)) == {"orders"}


def test_the_ris_is_asked_by_a_role_only_where_it_is_named() -> None:
    """Nothing is asked of anybody whom the site has not named."""
    named = Settings.model_validate({"ris": {"host": "ris.example.org", "port": 104, "ae_title": "RIS"}})
    assert set(ROLES) - set(enabled_roles(named)) == {"worklist"}


def test_an_unknown_role_is_refused(config: Path) -> None:
    """Naming those that there are."""
    with pytest.raises(ConfigurationError, match="'infre' is no role: write one of receive"):
        run_role("infre", load_settings(config))


def test_a_number_that_no_process_has_is_refused(config: Path) -> None:
    """As many receivers as are configured, and one process of every other role."""
    with pytest.raises(ConfigurationError, match=r"--number 3: dicom\.receivers = 2"):
        run_role("receive", load_settings(config), number=3)
    with pytest.raises(ConfigurationError, match="--number 2: infer is one process"):
        run_role("infer", load_settings(config), number=2)


def test_a_role_that_is_switched_off_is_refused(config: Path) -> None:
    """Also when a unit or a person starts it by name."""
    with pytest.raises(ConfigurationError, match=r"worklist\.enabled = false"):
        run_role("worklist", load_settings(config))
    with pytest.raises(ConfigurationError, match=r"ris\.host is not set: name the RIS, or do not start this role"):
        run_role("orders", load_settings(config))


def _with_database(tmp_path: Path, url: str) -> Settings:
    path = tmp_path / "other.toml"
    path.write_text(f'[storage]\ndatabase = "{url}"\n')
    return load_settings(path)


def test_roles_refuse_a_database_without_tables(tmp_path: Path, empty_database_url: str) -> None:
    """Creating them is for one process: the command, or plain `serve`."""
    with pytest.raises(StorageError, match="cxr-triage migrate"):
        require_schema(_with_database(tmp_path, empty_database_url))


def test_serve_creates_an_empty_database(tmp_path: Path, empty_database_url: str) -> None:
    """The first start needs no other command."""
    settings = _with_database(tmp_path, empty_database_url)
    create_or_require_schema(settings)
    require_schema(settings)
    database = open_database(empty_database_url)
    assert not is_new(database)
    database.close()
