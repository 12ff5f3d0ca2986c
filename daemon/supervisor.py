"""Plain `serve`: the roles' processes, restarted when they die, stopped in order. systemd has units instead."""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from cxr_triage.daemon.backoff import doubled
from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.notify import READY, STOPPING, NotifyListener, notify
from cxr_triage.daemon.roles import RECEIVE, role_of
from cxr_triage.daemon.setting_sections import ServiceSettings
from cxr_triage.daemon.spawn import end_group, spawn
from cxr_triage.model.errors import ConfigurationError, TriageError

#: The first to stop: nothing new comes in while the others finish.
INTAKE: Final = RECEIVE
#: What a role exits with when a person must change the configuration; trying again would not help.
EXIT_CONFIGURATION: Final = 2
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = get_logger(__name__)


class RoleStartError(TriageError):
    """A role did not start."""


class AbortedError(TriageError):
    """The service was told to stop twice, and has stopped without waiting."""


class Child:
    """One process of a role: the one now, and when to start the next. All times are monotonic seconds."""

    def __init__(self, name: str, command: Sequence[str], sockets: Mapping[str, socket.socket]) -> None:
        #: As in `roles.process_name`.
        self.name = name
        self.is_intake = role_of(name) == INTAKE
        #: When the process said that it serves; None: not yet.
        self.ready_at: float | None = None
        #: Crashes since it last ran well.
        self.crashes = 0
        #: How long the process now or last was made to wait for its start, seconds.
        self.waited = 0.0
        self.started_at = 0.0
        #: When to start the next process; only while none runs.
        self.due_at = 0.0
        #: Becomes readable when the process ends (pidfd_open(2)); None: no process runs.
        self.descriptor: int | None = None
        self._command = command
        self._sockets = sockets
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process now or last."""
        assert self._process is not None
        return self._process

    @property
    def ready(self) -> bool:
        """Whether the process has said that it serves."""
        return self.ready_at is not None

    def start(self, notify_address: str) -> int:
        """Start a process; the descriptor that tells its end."""
        self._process = spawn(self._command, self._sockets, notify_address=notify_address)
        try:
            self.descriptor = os.pidfd_open(self._process.pid)
        except OSError:
            end_group(self._process)
            raise
        self.ready_at, self.started_at = None, time.monotonic()
        log.info("role started", job=self.name, process=self._process.pid)
        return self.descriptor

    def bury(self, settings: ServiceSettings) -> int:
        """Take note that the process ended, and when to start the next; its exit status."""
        assert self.descriptor is not None
        os.close(self.descriptor)
        self.descriptor = None
        status = self.process.wait()
        # What a role has started must not outlive it: a decoding child would go on with a job that is given back.
        end_group(self.process)
        now = time.monotonic()
        if self.ready_at is not None and now - self.ready_at > self._proven_after(settings):
            self.crashes = 0
        self.crashes += 1
        self.waited = self._wait(settings)
        self.due_at, self.ready_at = now + self.waited, None
        return status

    def _proven_after(self, settings: ServiceSettings) -> float:
        """How long it must have served for its earlier crashes to be forgotten.

        Modalities wait for an intake: it has made up for a crash when it has served longer than it was away.
        """
        if self.is_intake:
            return max(settings.restart_first_seconds, self.waited)
        return settings.restart_longest_seconds

    def _wait(self, settings: ServiceSettings) -> float:
        """How long to wait before the next start: an intake comes back at once, unless it has just failed."""
        failures = self.crashes - 1 if self.is_intake else self.crashes
        if failures == 0:
            return 0.0
        return doubled(settings.restart_first_seconds, settings.restart_longest_seconds, failures=failures)


class Supervisor:
    """The roles as children. Single-threaded: one loop waits for signals, messages, deaths and times."""

    def __init__(
        self,
        processes: Mapping[str, Sequence[str]],
        *,
        sockets: Mapping[str, Mapping[str, socket.socket]],
        settings: ServiceSettings,
        on_ready: Callable[[], None],
    ) -> None:
        """Prepare; `run` starts.

        Args:
            processes: command line per process, in the order of start, by `roles.process_name`.
            sockets: listening sockets per process, which outlive it: a restart refuses no connection. Processes of
                one role share theirs.
            settings: times.
            on_ready: called once, when every process has said that it serves.
        """
        self._children = [Child(name, command, sockets.get(name, {})) for name, command in processes.items()]
        self._settings = settings
        self._on_ready = on_ready
        self._announced = False
        self._signals = 0
        self._selector = selectors.DefaultSelector()
        self._listener = NotifyListener()

    def run(self) -> None:
        """Start everything, keep it running, and return when a signal has stopped it.

        Raises:
            RoleStartError: a role was not ready in time at the start.
            ConfigurationError: a role refused its configuration at the start; it has said why.
            AbortedError: a second signal came while the roles were finishing.
        """
        self._selector.register(self._listener, selectors.EVENT_READ, self._hear)
        started_at = time.monotonic()
        with self._catching_signals():
            try:
                while not self._signals:
                    self._start_due()
                    self._wait(self._next_deadline(started_at))
                    self._announce_or_give_up(started_at)
                    self._end_unready()
                self._drain()
            finally:
                self._close()

    def _start_due(self) -> None:
        for child in self._children:
            if child.descriptor is None and child.due_at <= time.monotonic():
                self._start(child)

    def _start(self, child: Child) -> None:
        try:
            self._selector.register(child.start(self._listener.address), selectors.EVENT_READ, child)
        except OSError as error:  # no process, memory or handle to be had now: the other roles go on
            log.exception("role not started", job=child.name, exc_info=error)
            child.due_at = time.monotonic() + self._settings.restart_longest_seconds

    def _wait(self, until: float | None) -> None:
        timeout = None if until is None else max(0.0, until - time.monotonic())
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Child):
                self._bury(key.data)
            else:
                key.data()

    def _next_deadline(self, started_at: float) -> float | None:
        times = [child.due_at for child in self._children if child.descriptor is None]
        times += [self._ready_by(child) for child in self._children if self._is_starting(child)]
        if not self._announced:
            times.append(started_at + self._settings.ready_seconds)
        return min(times, default=None)

    def _is_starting(self, child: Child) -> bool:
        return child.descriptor is not None and not child.ready

    def _ready_by(self, child: Child) -> float:
        return child.started_at + self._settings.ready_seconds

    def _hear(self) -> None:
        by_process = {child.process.pid: child for child in self._children if child.descriptor is not None}
        for process, message in self._listener.receive():
            if process in by_process and READY in message.splitlines():
                by_process[process].ready_at = time.monotonic()

    def _bury(self, child: Child) -> None:
        assert child.descriptor is not None
        self._selector.unregister(child.descriptor)
        status = child.bury(self._settings)
        if self._signals:
            return
        if status == EXIT_CONFIGURATION and not self._announced:
            raise ConfigurationError(f"role {role_of(child.name)} refused to start: see its message above")
        seconds = round(child.due_at - time.monotonic(), 1)
        log.error("role died", job=child.name, exit_status=status, restart_in_seconds=seconds)

    def _announce_or_give_up(self, started_at: float) -> None:
        if self._announced or self._signals:
            return
        unready = [child.name for child in self._children if not child.ready]
        if not unready:
            self._announced = True
            self._on_ready()
        elif time.monotonic() >= started_at + self._settings.ready_seconds:
            raise RoleStartError(
                f"not ready within {self._settings.ready_seconds:g} seconds: {', '.join(unready)}; "
                "the log says why, service.ready_seconds gives more time"
            )

    def _end_unready(self) -> None:
        for child in self._children:
            if self._is_starting(child) and time.monotonic() >= self._ready_by(child):
                log.error("role not ready in time", job=child.name)
                end_group(child.process)

    def _drain(self) -> None:
        notify(STOPPING)
        log.info("stopping")
        deadline = time.monotonic() + self._settings.drain_seconds
        self._stop([child for child in self._children if child.is_intake], deadline)
        self._stop([child for child in self._children if not child.is_intake], deadline)

    def _stop(self, stopping: Sequence[Child], deadline: float) -> None:
        for child in stopping:
            if child.descriptor is not None:
                child.process.send_signal(signal.SIGTERM)
        while (left := [child.name for child in stopping if child.descriptor is not None]) and self._signals == 1:
            if time.monotonic() >= deadline:
                log.warning("role did not stop in time", job=left)
                return
            self._wait(deadline)
        if self._signals > 1:
            raise AbortedError("what was acknowledged is on disk, and the next start goes on with it")

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        inner, outer = socket.socketpair()
        inner.settimeout(0)
        outer.settimeout(0)
        self._selector.register(outer, selectors.EVENT_READ, lambda: outer.recv(1))

        def count(_number: int, _frame: object) -> None:
            self._signals += 1

        before = {number: signal.signal(number, count) for number in STOP_SIGNALS}
        wakeup = signal.set_wakeup_fd(inner.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            inner.close()
            outer.close()

    def _close(self) -> None:
        for child in self._children:
            if child.descriptor is not None:
                end_group(child.process)
                self._selector.unregister(child.descriptor)
                child.bury(self._settings)
        self._selector.close()
        self._listener.close()
