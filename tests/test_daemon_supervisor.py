"""Plain `serve`: real child processes, real signals, real sockets."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxr_triage.daemon.setting_sections import ServiceSettings
from cxr_triage.daemon.supervisor import Child

#: The supervisor as a process of its own, since signals go to processes. Roles: name=script.
SUPERVISOR = """
    import sys
    from cxr_triage.daemon.logs import configure_logs
    from cxr_triage.daemon.setting_sections import LogSettings, ServiceSettings
    from cxr_triage.daemon.sockets import listening_socket
    from cxr_triage.daemon.supervisor import Supervisor
    from cxr_triage.model.errors import TriageError

    configure_logs(LogSettings(), role="supervisor")
    listener = listening_socket("127.0.0.1", 0, name="dicom")
    roles = {part.split("=")[0]: [sys.executable, "-u", part.split("=")[1]] for part in sys.argv[1:]}
    settings = ServiceSettings(
        ready_seconds=READY_SECONDS,
        drain_seconds=DRAIN_SECONDS,
        restart_first_seconds=0.05,
        restart_longest_seconds=0.2,
    )
    supervisor = Supervisor(
        roles, sockets={"receive": {"dicom": listener}}, settings=settings,
        on_ready=lambda: print("ready", listener.getsockname()[1], flush=True),
    )
    try:
        supervisor.run()
    except TriageError as error:
        print(type(error).__name__, error, flush=True)
        sys.exit(1)
    print("stopped", flush=True)
"""

#: A role as it should be: says its process number to a file, serves, stops when asked.
ROLE = """
    import os, signal, sys, threading
    from pathlib import Path
    from cxr_triage.daemon.notify import READY, notify

    name = Path(__file__).stem
    journal = Path(__file__).parent / "journal"

    def write(what):
        with journal.open("a") as file:
            file.write(f"{name} {what} {os.getpid()}\\n")

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    write("started")
    BODY
    write("ready")
    notify(READY)
    stop.wait()
    AFTER
    write("stopped")
"""

#: Answers two connections on the inherited port with its process number.
ANSWERING = """
    from cxr_triage.daemon.sockets import listening_socket
    listener = listening_socket("127.0.0.1", 1, name="dicom")
    accept = lambda: [listener.accept()[0].sendall(str(os.getpid()).encode()) for _ in range(2)]
    threading.Thread(target=accept, daemon=True).start()
"""

#: Starts a child and leaves its process number in a file.
STARTING = """
    import subprocess
    (journal.parent / "child").write_text(str(subprocess.Popen(["/bin/sleep", "1000"]).pid))
"""

#: Crashes until it has been started three times.
CRASHING = """
    if journal.read_text().count("started") < 3:
        sys.exit(1)
"""


class Service:
    """A supervisor under test and what it wrote."""

    def __init__(self, folder: Path, *, ready_seconds: float = 60, drain_seconds: float = 60, **bodies: str) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.journal.touch()
        script = folder / "supervisor.py"
        text = textwrap.dedent(SUPERVISOR).replace("READY_SECONDS", str(ready_seconds))
        script.write_text(text.replace("DRAIN_SECONDS", str(drain_seconds)))
        for name, body in bodies.items():
            before, _, after = body.partition("|")
            role = (
                textwrap.dedent(ROLE)
                .replace("BODY", textwrap.dedent(before) or "pass")
                .replace("AFTER", after or "pass")
            )
            (folder / f"{name}.py").write_text(role)
        roles = [f"{name}={folder / name}.py" for name in bodies]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *roles], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next line of standard output; waits for it."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def entries(self, what: str) -> list[tuple[str, int]]:
        """Roles that have done `what`, in order, with their process numbers."""
        parts = [line.split() for line in self.journal.read_text().splitlines()]
        return [(name, int(process)) for name, done, process in parts if done == what]

    def wait_for(self, what: str, count: int) -> list[tuple[str, int]]:
        """Block until `what` has been written `count` times; pytest's timeout bounds it."""
        while len(found := self.entries(what)) < count:
            time.sleep(0.01)
        return found


@pytest.fixture
def services() -> Iterator[list[Service]]:
    """Whatever is still there is ended at last; killing the supervisor ends its roles."""
    started: list[Service] = []
    yield started
    for service in started:
        service.process.kill()
        service.process.communicate()


def _state(folder: Path) -> str:
    """One letter of proc(5): T is stopped, Z a zombie."""
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]


def _gone(process: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return _state(Path(f"/proc/{process}")) == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _freeze(process: int) -> None:
    """Stop every thread, so that none of them accepts."""
    os.kill(process, signal.SIGSTOP)
    while any(_state(thread) != "T" for thread in Path(f"/proc/{process}/task").iterdir()):
        time.sleep(0.01)


def test_ready_once_every_role_is_ready(tmp_path: Path, services: list[Service]) -> None:
    """One line on standard output; nothing of the roles gets there."""
    service = Service(tmp_path, receive="print('noise')", infer="")
    services.append(service)
    assert service.line().startswith("ready ")
    assert {"receive", "infer"} == {name for name, _ in service.entries("ready")}


def test_stops_intake_first(tmp_path: Path, services: list[Service]) -> None:
    """SIGTERM drains: receive has stopped before anybody else is asked to."""
    service = Service(tmp_path, infer="", receive="|import time; time.sleep(0.3)", report="")
    services.append(service)
    service.line()
    service.process.terminate()
    assert service.line() == "stopped"
    stopped = [name for name, _ in service.entries("stopped")]
    assert ("receive", {"receive", "infer", "report"}) == (stopped[0], set(stopped))
    assert service.process.wait() == 0


def test_a_role_that_cannot_be_started_now_is_started_later(tmp_path: Path, services: list[Service]) -> None:
    """While there is no handle, memory or process to be had, the other roles go on."""
    service = Service(tmp_path, receive="", infer="")
    services.append(service)
    service.line()
    (victim,) = (process for name, process in service.entries("started") if name == "infer")
    before = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    os.kill(victim, signal.SIGKILL)
    assert service.process.stderr is not None
    while "role not started" not in service.process.stderr.readline():
        assert service.process.poll() is None
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, before)
    assert [name for name, _ in service.wait_for("ready", 3)].count("infer") == 2


def test_a_dead_role_is_restarted(tmp_path: Path, services: list[Service]) -> None:
    """Killed, it comes back under another process number; the others stay."""
    service = Service(tmp_path, receive="", infer="")
    services.append(service)
    service.line()
    first = dict(service.entries("ready"))
    os.kill(first["infer"], signal.SIGKILL)
    later = service.wait_for("ready", 3)[2:]
    assert [(name, process == first["infer"]) for name, process in later] == [("infer", False)]
    assert not _gone(first["receive"])


def test_the_port_outlives_its_role(tmp_path: Path, services: list[Service]) -> None:
    """A connection made while the receiver is dead waits for the next one."""
    service = Service(tmp_path, receive=ANSWERING)
    services.append(service)
    port = int(service.line().split()[1])
    ((_, first),) = service.entries("ready")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert str(first) == connection.recv(100).decode()
    _freeze(first)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        os.kill(first, signal.SIGKILL)
        second = service.wait_for("ready", 2)[1][1]
        assert str(second) == connection.recv(100).decode()


def test_roles_die_with_the_supervisor(tmp_path: Path, services: list[Service]) -> None:
    """After kill -9 of the supervisor no role is left, so the next start finds its ports free."""
    service = Service(tmp_path, receive="", infer="")
    services.append(service)
    service.line()
    processes = [process for _, process in service.entries("ready")]
    service.process.kill()
    while not all(_gone(process) for process in processes):
        time.sleep(0.01)


def test_what_a_role_started_dies_with_it(tmp_path: Path, services: list[Service]) -> None:
    """A decoding child does not outlive the worker whose job it did."""
    service = Service(tmp_path, infer=STARTING)
    services.append(service)
    service.line()
    child = int((tmp_path / "child").read_text())
    os.kill(service.entries("ready")[0][1], signal.SIGKILL)
    while not _gone(child):
        time.sleep(0.01)


def test_a_role_that_hangs_is_killed_after_the_deadline(tmp_path: Path, services: list[Service]) -> None:
    """A drain has an end."""
    service = Service(tmp_path, drain_seconds=0.3, receive="", infer="|threading.Event().wait()")
    services.append(service)
    service.line()
    service.process.terminate()
    assert service.line() == "stopped"
    assert [_gone(process) for _, process in service.entries("ready")] == [True, True]


def test_a_second_signal_aborts(tmp_path: Path, services: list[Service]) -> None:
    """Whoever asks twice does not want to wait."""
    service = Service(tmp_path, receive="", infer="|write('draining'); threading.Event().wait()")
    services.append(service)
    service.line()
    service.process.terminate()
    service.wait_for("draining", 1)
    service.process.send_signal(signal.SIGINT)
    assert service.line().startswith("AbortedError")
    assert [_gone(process) for _, process in service.entries("ready")] == [True, True]


def test_a_role_that_refuses_its_configuration_ends_the_start(tmp_path: Path, services: list[Service]) -> None:
    """Trying again would not help, and the other roles must not go on alone."""
    service = Service(tmp_path, receive="", infer="sys.exit(2)")
    services.append(service)
    assert service.line() == "ConfigurationError role infer refused to start: see its message above"
    assert [True] * len(service.entries("started")) == [_gone(process) for _, process in service.entries("started")]


def test_a_role_that_is_never_ready_ends_the_start(tmp_path: Path, services: list[Service]) -> None:
    """It is named."""
    service = Service(tmp_path, ready_seconds=2, receive="", infer="threading.Event().wait()")
    services.append(service)
    said = service.line()
    assert (said.split()[0], "infer" in said) == ("RoleStartError", True)


def _waits(name: str, *served_seconds: float | None) -> list[float]:
    """How long a process waits for its start after each crash; None: it was never ready."""
    settings = ServiceSettings(restart_first_seconds=1, restart_longest_seconds=60)
    child, waits = Child(name, ["/bin/false"], {}), []
    for served in served_seconds:
        ended = child.start("@nobody")
        select.select([ended], [], [])
        child.ready_at = None if served is None else time.monotonic() - served
        child.bury(settings)
        waits.append(child.waited)
    return waits


def test_an_intake_comes_back_at_once() -> None:
    """Modalities wait for it; one that keeps failing waits like others, until it has made up for it."""
    assert _waits("receive-2", 100, 100, 1.5, None, None, 1.5, 0.5, 10, 100) == [0, 0, 0, 1, 2, 4, 8, 0, 0]


def test_other_roles_wait_before_they_come_back() -> None:
    """Each crash doubles it, until one has served for long."""
    assert _waits("infer", 10, None, 10, 100) == [1, 2, 4, 1]


def test_a_role_that_crashes_at_first_may_still_come_up(tmp_path: Path, services: list[Service]) -> None:
    """Crashes during the start are retried until the time for it is over."""
    service = Service(tmp_path, infer=CRASHING)
    services.append(service)
    assert service.line().startswith("ready ")
    assert len(service.entries("started")) == 3
