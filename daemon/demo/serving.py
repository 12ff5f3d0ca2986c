"""The demo's daemon: `cxr-triage serve` as a process of its own, with a configuration made for it."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from cxr_triage.daemon.demo import pacs
from cxr_triage.daemon.settings import CONFIG_VARIABLE, ENVIRONMENT_PREFIX
from cxr_triage.model.errors import TriageError

#: How the readiness line of `cxr-triage serve` begins.
READY: Final = "cxr-triage ready:"
#: `MODEL` settings of the caller's environment apply to the demo, for instance to try another bundle; no others do.
INHERITED_PREFIX: Final = f"{ENVIRONMENT_PREFIX}MODEL__"
AE_TITLE: Final = "CXRTRIAGE"
DATABASE: Final = "triage.db"
START_SECONDS: Final = 180
#: Longer than `service.drain_seconds`.
STOP_SECONDS: Final = 90

TEMPLATE: Final = """\
# Written by `cxr-triage demo`.
[dicom]
ae_title = "{ae_title}"
port = {dicom}

[storage]
root = "."
database = "sqlite:///{database}"

[infer]
retry_first_seconds = 1

[[destination]]
name = "demo-pacs"
ae_title = "{pacs_ae_title}"
host = "127.0.0.1"
port = {pacs}

[worklist]
enabled = true
port = {worklist}

[web]
port = {web}
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """A configuration file, and what the demo must know of it."""

    path: Path
    dicom_port: int

    @property
    def database_url(self) -> str:
        """Where the daemon keeps its ledger."""
        return f"sqlite:///{self.path.parent / DATABASE}"


def write_configuration(folder: Path, *, pacs_port: int) -> Configuration:
    """Write a configuration that uses nothing but this folder and free loopback ports."""
    dicom, worklist, web = free_ports(3)
    text = TEMPLATE.format(
        ae_title=AE_TITLE,
        dicom=dicom,
        database=DATABASE,
        pacs_ae_title=pacs.AE_TITLE,
        pacs=pacs_port,
        worklist=worklist,
        web=web,
    )
    path = folder / "cxr-triage.toml"
    path.write_text(text, encoding="utf-8")
    return Configuration(path=path, dicom_port=dicom)


def free_ports(count: int) -> list[int]:
    """Ask the operating system for loopback ports that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Service:
    """A running daemon, for as long as the `with` block lasts."""

    def __init__(self, configuration: Configuration, *, log: Path) -> None:
        self.configuration = configuration
        #: What the daemon writes to standard error.
        self.log = log
        self._environment = _environment(configuration.path)
        self._process: subprocess.Popen[str] | None = None
        #: What the daemon says when every port answers.
        self.readiness = ""

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops the daemon in order.
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                _command("serve"),
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        try:
            self.readiness = self._wait_until_ready(self._process)
        except BaseException:  # Ctrl-C too must leave nothing running; it is raised again
            self._stop(self._process)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._stop(self._process)

    def run(self, *arguments: str) -> str:
        """Run another `cxr-triage` command on the same configuration; its standard output.

        Raises:
            TriageError: The command failed.
        """
        done = subprocess.run(  # noqa: S603 - our own command
            _command(*arguments), env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise TriageError(f"`cxr-triage {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def require_running(self) -> None:
        """Raise when the daemon has ended.

        Raises:
            TriageError: Saying where its log is.
        """
        assert self._process is not None, "used outside of its `with` block"
        if self._process.poll() is not None:
            raise TriageError(f"the daemon ended with {self._process.returncode}: read {self.log}")

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None, "opened with a pipe"
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        try:
            while (line := lines.get(timeout=START_SECONDS)) is not None:
                if line.startswith(READY):
                    return line.strip()
        except queue.Empty:
            raise TriageError(f"the daemon was not ready after {START_SECONDS} s: read {self.log}") from None
        process.wait()
        raise TriageError(f"the daemon ended with {process.returncode} before it was ready: read {self.log}")

    def _stop(self, process: subprocess.Popen[str]) -> None:
        process.terminate()
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cxr_triage.daemon", *arguments]


def _environment(configuration: Path) -> Mapping[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ENVIRONMENT_PREFIX) or name.startswith(INHERITED_PREFIX)
    }
    return {**kept, CONFIG_VARIABLE: str(configuration)}


def _read_lines(stream: IO[str], lines: "queue.SimpleQueue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)
