"""What starts and what stops: the roles by name, and the life of one of them as a process."""

import importlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from cxr_triage.daemon.core_dumps import forbid_core_dumps
from cxr_triage.daemon.heartbeat import beating
from cxr_triage.daemon.logs import configure_logs, get_logger
from cxr_triage.daemon.notify import READY, STOPPING, notify
from cxr_triage.daemon.roles import DELIVER, INFER, RECEIVE, REPORT, UPKEEP, WEB, WORKLIST
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.supervisor import STOP_SIGNALS, Supervisor
from cxr_triage.daemon.wakeup import ring
from cxr_triage.model.errors import ConfigurationError
from cxr_triage.storage.database import open_database
from cxr_triage.storage.migrate import is_new, migrate, require_current_schema

#: Where each role lives. Imported when it is run, so that only `infer` loads torch and only `report` highdicom.
ROLES: Final[Mapping[str, str]] = {
    RECEIVE: "cxr_triage.daemon.receive:ReceiveRole",
    WEB: "cxr_triage.daemon.web.app:WebRole",
    WORKLIST: "cxr_triage.daemon.worklist.mwl:WorklistRole",
    INFER: "cxr_triage.daemon.infer:InferRole",
    REPORT: "cxr_triage.daemon.report:ReportRole",
    DELIVER: "cxr_triage.daemon.deliver:DeliverRole",
    UPKEEP: "cxr_triage.daemon.upkeep:UpkeepRole",
}
#: Which role answers on which port; the names are those of the `.socket` units and of the settings' tables.
PORTS: Final[Mapping[str, str]] = {RECEIVE: "dicom", WORKLIST: "worklist", WEB: "web"}

log = get_logger(__name__)


class Role(Protocol):
    """One part of the service, as a process of its own."""

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set, then finish what was begun and return; call `ready` once it serves."""


def enabled_roles(settings: Settings) -> tuple[str, ...]:
    """The roles that these settings ask for, in the order of their start."""
    return tuple(role for role in ROLES if role != "worklist" or settings.worklist.enabled)


def run_role(name: str, settings: Settings, *, roles: Mapping[str, str] = ROLES) -> None:
    """Be one role until SIGTERM or SIGINT; a second signal ends the process at once.

    Raises:
        ConfigurationError: there is no such role, it is switched off, or a folder cannot be written.
        StorageError: the database does not answer or has another schema.
    """
    forbid_core_dumps()
    configure_logs(settings.logs, role=name)
    role_class = _find(name, settings, roles)
    settings.prepare_folders()
    require_schema(settings)
    role = role_class(settings)
    stop = threading.Event()
    # The bell: whoever waits for work looks at `stop` at once, and not after its next poll.
    with ExitStack() as while_ready, _stopping_on_signal(stop, wake=partial(ring, settings.run_folder, name)):

        def ready() -> None:
            while_ready.enter_context(beating(settings.run_folder, name, settings.service.heartbeat_seconds))
            notify(READY)
            log.info("role ready")

        role.run(stop, ready)
    log.info("role stopped")


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
    configure_logs(settings.logs, role="supervisor")
    settings.prepare_folders()
    create_or_require_schema(settings)
    roles = enabled_roles(settings)

    def on_ready() -> None:
        announce(_readiness(settings))
        notify(READY)

    with ExitStack() as stack:
        sockets = {role: {PORTS[role]: stack.enter_context(_listen(settings, role))} for role in roles if role in PORTS}
        commands = {role: _command(role, config) for role in roles}
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


def _command(role: str, config: Path | None) -> list[str]:
    command = [sys.executable, "-m", "cxr_triage.daemon", "serve", "--role", role]
    return command if config is None else [*command, "--config", str(config.absolute())]


def _readiness(settings: Settings) -> str:
    parts = [f"dicom {settings.dicom.host}:{settings.dicom.port} AE {settings.dicom.ae_title}"]
    if settings.worklist.enabled:
        parts.append(f"worklist {settings.worklist.host}:{settings.worklist.port} AE {settings.worklist.ae_title}")
    parts.append(f"web http://{settings.web.host}:{settings.web.port}")
    return f"cxr-triage ready: {', '.join(parts)}"


def _find(name: str, settings: Settings, roles: Mapping[str, str]) -> Callable[[Settings], Role]:
    if name not in roles:
        raise ConfigurationError(f"--role {name!r} is no role: write one of {', '.join(roles)}")
    if name in ROLES and name not in enabled_roles(settings):
        raise ConfigurationError(f"{name}.enabled = false: set it to true, or do not start this role")
    module, _, attribute = roles[name].partition(":")
    found: Callable[[Settings], Role] = getattr(importlib.import_module(module), attribute)
    return found


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
