"""What starts and what stops: the roles by name, and the life of one of them as a process."""

import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from cxr_triage.daemon.core_dumps import forbid_core_dumps
from cxr_triage.daemon.heartbeat import beating, count_alive
from cxr_triage.daemon.logs import configure_logs, get_logger
from cxr_triage.daemon.notify import READY, STOPPING, notify
from cxr_triage.daemon.role_lock import held_alone
from cxr_triage.daemon.roles import DELIVER, INFER, ORDERS, RECEIVE, REPORT, UPKEEP, WEB, WORKLIST, process_name
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.supervisor import STOP_SIGNALS, Supervisor
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.locks import at_work
from cxr_triage.storage.migrate import is_new, migrate, require_current_schema

#: Where each role lives. Imported when it is run, so that only `infer` loads torch and only `report` highdicom.
ROLES: Final[Mapping[str, str]] = {
    RECEIVE: "cxr_triage.daemon.receive:ReceiveRole",
    WEB: "cxr_triage.daemon.web.app:WebRole",
    WORKLIST: "cxr_triage.daemon.worklist.mwl:WorklistRole",
    INFER: "cxr_triage.daemon.infer:InferRole",
    REPORT: "cxr_triage.daemon.report:ReportRole",
    DELIVER: "cxr_triage.daemon.deliver:DeliverRole",
    ORDERS: "cxr_triage.daemon.orders.role:OrdersRole",
    UPKEEP: "cxr_triage.daemon.upkeep:UpkeepRole",
}
#: Which role answers on which port; the names are those of the `.socket` units and of the settings' tables.
PORTS: Final[Mapping[str, str]] = {RECEIVE: "dicom", WORKLIST: "worklist", WEB: "web"}

#: What the process of plain `serve` is called in logs and locks.
SUPERVISOR: Final = "supervisor"

log = get_logger(__name__)


class Role(Protocol):
    """One part of the service, as a process of its own."""

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then finish what was begun and return; call `ready` once it serves."""


def enabled_roles(settings: Settings) -> tuple[str, ...]:
    """The roles that these settings ask for, in the order of their start."""
    off = {role for role, why in _switched_off(settings).items() if why}
    return tuple(role for role in ROLES if role not in off)


def _switched_off(settings: Settings) -> dict[str, str]:
    """Why a role that a site need not have is not run; empty: it is."""
    return {
        WORKLIST: "" if settings.worklist.is_open else "worklist.enabled = false: set it to true, or worklist.ups",
        ORDERS: "" if settings.ris.host is not None else "ris.host is not set: name the RIS",
    }


def processes(role: str, settings: Settings) -> tuple[str, ...]:
    """The names of a role's processes, in order."""
    count = settings.dicom.receivers if role == RECEIVE else 1
    return tuple(process_name(role, number) for number in range(1, count + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Presence:
    """How many processes of a role show signs of life; the role lives while one does."""

    alive: int
    #: How many there should be.
    of: int


def presences(settings: Settings) -> dict[str, Presence]:
    """Who is there, by enabled role."""
    return {role: presence(role, settings) for role in enabled_roles(settings)}


def presence(role: str, settings: Settings) -> Presence:
    """Who is there of one role."""
    names = processes(role, settings)
    alive = count_alive(settings.run_folder, names, settings.service.heartbeat_seconds)
    return Presence(alive=alive, of=len(names))


def run_role(role: str, settings: Settings, *, number: int = 1, roles: Mapping[str, str] = ROLES) -> None:
    """Be one role until SIGTERM or SIGINT; a second signal ends the process at once.

    Args:
        role: which.
        settings: as loaded.
        number: which of the role's processes, from 1.
        roles: where each role lives.

    Raises:
        ConfigurationError: there is no such role or number, it is switched off, another process has it, or a folder
            cannot be written.
        StorageError: the database does not answer or has another schema.
    """
    forbid_core_dumps()
    name = process_name(role, number)
    configure_logs(settings.logs, role=name)
    role_class = _find(role, settings, roles)
    _require_number(role, number, settings)
    settings.prepare_folders()
    with held_alone(name, settings), at_work(settings.database_url, check_seconds=settings.service.heartbeat_seconds):
        require_schema(settings)
        _run(name, role_class(settings), settings)
    log.info("role stopped")


def _run(name: str, role: Role, settings: Settings) -> None:
    stop = threading.Event()
    # The bell: whoever waits for work looks at `stop` at once, and not after its next poll.
    with ExitStack() as while_ready, _stopping_on_signal(stop, wake=partial(ring, settings.run_folder, name)):

        def ready() -> None:
            while_ready.enter_context(beating(settings.run_folder, name, settings.service.heartbeat_seconds))
            notify(READY)
            log.info("role ready")

        role.run(stop, ready)


def run_all(settings: Settings, *, config: Path | None, announce: Callable[[str], None]) -> None:
    """Be the supervisor of every enabled role until SIGTERM or SIGINT.

    Args:
        settings: read from `config` and the environment; the roles read them again.
        config: the configuration file, if there is one.
        announce: takes the one line that says that every port answers.

    Raises:
        TriageError: it could not start, or was aborted.
    """
    forbid_core_dumps()
    configure_logs(settings.logs, role=SUPERVISOR)
    settings.prepare_folders()
    with held_alone(SUPERVISOR, settings):
        _supervise(settings, config, announce)


def _supervise(settings: Settings, config: Path | None, announce: Callable[[str], None]) -> None:
    create_or_require_schema(settings)

    def on_ready() -> None:
        announce(_readiness(settings))
        notify(READY)

    with ExitStack() as stack:
        commands: dict[str, list[str]] = {}
        sockets: dict[str, dict[str, socket.socket]] = {}
        for role in enabled_roles(settings):
            # All processes of a role inherit the same socket: whoever is free takes the next connection.
            ports = {PORTS[role]: stack.enter_context(_listen(settings, role))} if role in PORTS else {}
            for number, name in enumerate(processes(role, settings), start=1):
                commands[name], sockets[name] = _command(role, number, config), ports
        Supervisor(commands, sockets=sockets, settings=settings.service, on_ready=on_ready).run()


def require_schema(settings: Settings) -> None:
    """Refuse a database that is missing or of another schema.

    Raises:
        StorageError: it is; the message says which command helps.
    """
    database = open_database(settings.database_url)
    try:
        require_current_schema(database)
    finally:
        database.close()


def create_or_require_schema(settings: Settings) -> None:
    """Give an empty database its schema; refuse one of another schema: upgrading it is a person's decision.

    Raises:
        StorageError: it is; the message says which command helps.
    """
    database = open_database(settings.database_url)
    try:
        if is_new(database):
            log.info("creating the schema of an empty database", database=settings.printable_database)
            migrate(settings.database_url)
        require_current_schema(database)
    finally:
        database.close()


def _listen(settings: Settings, role: str) -> socket.socket:
    host, port = settings.address(PORTS[role])
    return listening_socket(host, port, name=PORTS[role])


def _command(role: str, number: int, config: Path | None) -> list[str]:
    command = [sys.executable, "-m", "cxr_triage.daemon", "serve", "--role", role]
    if role == RECEIVE:
        command += ["--number", str(number)]
    return command if config is None else [*command, "--config", str(config.absolute())]


def _readiness(settings: Settings) -> str:
    parts = [f"dicom {settings.dicom.host}:{settings.dicom.port} AE {settings.dicom.ae_title}"]
    if settings.worklist.is_open:
        parts.append(f"worklist {settings.worklist.host}:{settings.worklist.port} AE {settings.worklist.ae_title}")
    parts.append(f"web http://{settings.web.host}:{settings.web.port}")
    return f"cxr-triage ready: {', '.join(parts)}"


def _find(name: str, settings: Settings, roles: Mapping[str, str]) -> Callable[[Settings], Role]:
    if name not in roles:
        raise ConfigurationError(f"--role {name!r} is no role: write one of {', '.join(roles)}")
    if name in ROLES and name not in enabled_roles(settings):
        raise ConfigurationError(f"{_switched_off(settings)[name]}, or do not start this role")
    module, _, attribute = roles[name].partition(":")
    found: Callable[[Settings], Role] = getattr(importlib.import_module(module), attribute)
    return found


def _require_number(role: str, number: int, settings: Settings) -> None:
    if number <= len(processes(role, settings)):
        return
    if role != RECEIVE:
        raise ConfigurationError(f"--number {number}: {role} is one process, leave it out")
    raise ConfigurationError(
        f"--number {number}: dicom.receivers = {settings.dicom.receivers}: raise it, or do not start this receiver"
    )


@contextmanager
def _stopping_on_signal(stop: threading.Event, *, wake: Callable[[], None]) -> Iterator[None]:
    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            # The impatient second signal: everything acknowledged is on disk, so dying here loses nothing.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()
        wake()
        notify(STOPPING)

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
