"""The daemon under chaos: kept running as an init system would, and killed."""

import os
import random
import select
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from chaos.points.kill_points import TOKENS_VARIABLE
from chaos.world import World
from cxr_triage.daemon.roles import INFER
from cxr_triage.daemon.service import ROLES
from daemons import READY, Daemon, children, descendants, kill_process, lives, wait_until

SUPERVISOR = "supervisor"
POINTS_FOLDER = Path(__file__).with_name("points")
START_SECONDS = 240.0
#: A process of a kind that is to be killed may not be there yet.
VICTIM_SECONDS = 5.0
#: Each is as likely to be hit: drawn from the processes that there are, most kills would hit a supervisor that has just
#: been started and is still alone.
KINDS = (SUPERVISOR, *(role for role in ROLES), f"{INFER}'s child")
NEVER = float("inf")
#: How often the supervisor's process is looked at, and how long nothing is done when it has ended.
LOOK_SECONDS = 0.02
RESTART_SECONDS = 0.2
SETTINGS = """
[infer]
# A kill counts as an attempt at the image that it hit; here chance decides how often that happens.
maximum_attempts = 1000
retry_first_seconds = 0.5
retry_longest_seconds = 2
[deliver]
retry_first_seconds = 0.5
retry_longest_seconds = 2
[upkeep]
interval_seconds = 2
leftover_seconds = 2
[service]
restart_first_seconds = 0.2
restart_longest_seconds = 1
[logs]
level = "debug"
"""
#: Everything that is done with may go at once.
RETENTION = {"CXR_TRIAGE_UPKEEP__FINISH_AFTER_HOURS": "0.00001", "CXR_TRIAGE_UPKEEP__KEEP_FILES_HOURS": "0.00001"}


class Service:
    """`serve`, started anew whenever it ends."""

    def __init__(self, world: World, *, pacs_port: int, database_url: str) -> None:
        """Describe it; `running` starts it."""
        self._world = world
        self.daemon = Daemon(
            world.data,
            destinations={"pacs": ("TESTPACS", pacs_port)},
            extra=SETTINGS,
            environment={
                "CXR_TRIAGE_STORAGE__DATABASE": database_url,
                TOKENS_VARIABLE: str(world.tokens),
                # So many that chance does not kill all of them within the second that one takes to be back.
                "CXR_TRIAGE_DICOM__RECEIVERS": "4",
                "PYTHONPATH": str(POINTS_FOLDER),
            },
        )
        #: Ends of the supervisor that no kill explains.
        self.odd_ends: list[str] = []
        #: From when till when the whole service was down, monotonic seconds; the last one may go on.
        self._down: list[tuple[float, float]] = [(0.0, NEVER)]
        self._heard = 0
        self._kept = threading.Event()
        self._keeper = threading.Thread(target=self._keep_running, daemon=True)

    @contextmanager
    def running(self) -> Iterator[Self]:
        """Keep it running until the end of the block; gives it when it is ready."""
        _end_leftovers(self.daemon.config)
        self._start()
        self._keeper.start()
        try:
            self.wait_until_ready()
            yield self
        finally:
            self._kept.set()
            self._keeper.join()
            self.daemon.kill()

    @property
    def ready(self) -> bool:
        """Whether it has said that every port answers, and has not ended since."""
        return self._down[-1][1] < NEVER

    def down(self) -> list[tuple[float, float]]:
        """From when till when it was down."""
        return list(self._down)

    def wait_until_ready(self) -> None:
        """Return when it is; it is a failure when that takes too long."""
        wait_until(lambda: self.ready, seconds=START_SECONDS, what="the service is ready")

    def processes(self) -> list[tuple[int, str]]:
        """Every living process and its role: who is dead and not yet buried cannot be killed again."""
        supervisor = self.daemon.process
        if supervisor is None or supervisor.poll() is not None:
            return []
        found = [(supervisor.pid, SUPERVISOR)]
        for child in children(supervisor.pid):
            role = _role(child)
            found += [(child, role), *((pid, f"{role}'s child") for pid in descendants(child))]
        return [(pid, role) for pid, role in found if lives(pid)]

    def kill_one(self, kind: str, chance: random.Random) -> int | None:
        """Kill a process of a kind, as soon as there is one; which one. None: there was none for a while."""
        deadline = time.monotonic() + VICTIM_SECONDS
        while not (processes := [pid for pid, name in self.processes() if name == kind]):
            if time.monotonic() > deadline:
                return None
            time.sleep(LOOK_SECONDS)
        victim = chance.choice(processes)
        kill_process(victim)
        return victim

    def kill(self, pid: int) -> None:
        """Kill a process; return when it is dead."""
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            kill_process(pid)
            select.select([handle], [], [], START_SECONDS)
        finally:
            os.close(handle)

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Kill and start it with some settings changed, None: with its own; return when it is ready."""
        for name in RETENTION:
            self.daemon.environment.pop(name, None)
        self.daemon.environment.update(settings or {})
        before = len(self._down)
        assert self.daemon.process is not None
        kill_process(self.daemon.process.pid)
        wait_until(lambda: len(self._down) > before, seconds=START_SECONDS, what="the service ended")
        self.wait_until_ready()

    def _start(self) -> None:
        """Start it; ready is what it says from now on."""
        self._heard = len(self.daemon.said)
        self.daemon.start(wait=False)

    def _keep_running(self) -> None:
        """Start it when it has ended, and note when it was ready."""
        while not self._kept.wait(LOOK_SECONDS):
            assert self.daemon.process is not None
            status = self.daemon.process.poll()
            if status is not None:
                self._note_end(status)
                self._kept.wait(RESTART_SECONDS)
                self._start()
            elif not self.ready and any(line.startswith(READY) for line in self.daemon.said[self._heard :]):
                self._down[-1] = (self._down[-1][0], time.monotonic())

    def _note_end(self, status: int) -> None:
        self._world.log(f"serve ended with status {status}")
        if status != -signal.SIGKILL:
            self.odd_ends.append(f"serve ended by itself with status {status}")
        if self.ready:
            self._down.append((time.monotonic() - 2 * LOOK_SECONDS, NEVER))


def _role(pid: int) -> str:
    """The role that a process' command line names."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return arguments[arguments.index("--role") + 1] if "--role" in arguments[:-1] else "starting"


def _end_leftovers(config: Path) -> None:
    """End what an interrupted run of this world has left: processes that were started with its configuration."""
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = command_line.read_text(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(config) in arguments:
            kill_process(int(command_line.parent.name))
