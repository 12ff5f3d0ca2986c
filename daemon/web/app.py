"""The web port: is it alive, is it ready, how much is where, and, where the site wants it, the worklist over HTTP."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from http import HTTPStatus
from typing import Final

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydicom import config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, WebSocketRoute

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.roles import WEB
from cxr_triage.daemon.service import presences
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.ups.service import ProcedureSteps
from cxr_triage.daemon.web import openapi
from cxr_triage.daemon.web.health import reasons_against
from cxr_triage.daemon.web.metrics import registry
from cxr_triage.daemon.web.operations import Answered, Content, Operation, Payload, problem, routes
from cxr_triage.daemon.web.ups.endpoint import Guard
from cxr_triage.daemon.web.ups.events import EventChannels
from cxr_triage.daemon.web.ups.operations import operations
from cxr_triage.model.errors import StorageError, TriageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.ledger.announcements import Announcements
from cxr_triage.storage.owners import Owner
from cxr_triage.storage.service_clock import ReadableClock, ServiceClock

#: How often to look after the server's thread.
POLL_SECONDS: Final = 0.1
#: A peer of an event channel is asked for a sign of life that often, and has that long for it, seconds.
HEARTBEAT_SECONDS: Final = 20
#: Nothing that a peer of an event channel says means anything: bytes.
MAXIMUM_MESSAGE_BYTES: Final = 4096

log = get_logger(__name__)


def create_app(settings: Settings, database: Database, *, owner_id: str = WEB) -> Starlette:
    """The application; its handlers run in threads, since the database blocks.

    Args:
        settings: of the service.
        database: of the ledger.
        owner_id: who has the events that are being sent.
    """
    clock = ServiceClock.of(settings.run_folder)
    table, sockets = _watching(settings, database, clock), list[BaseRoute]()
    if settings.web.ups:
        steps, guard = _steps(settings, database, clock), Guard(only_here=not settings.web.allow_remote)
        channels = _channels(settings, database, clock, owner_id, steps, guard)
        table += operations(steps, guard, _subscribers(settings))
        sockets.append(WebSocketRoute("/subscribers/{aetitle}", channels.serve))
    table += _documents(table)
    app = Starlette(routes=[*routes(table), *sockets], exception_handlers={HTTPException: _say})
    app.router.redirect_slashes = False
    return app


def _watching(settings: Settings, database: Database, clock: ReadableClock) -> list[Operation]:
    metrics = registry(settings, database, clock=clock)

    def healthz(_request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    def readyz(_request: Request) -> Response:
        reasons = reasons_against(settings, database)
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        processes = {role: {"alive": found.alive, "of": found.of} for role, found in presences(settings).items()}
        return JSONResponse({"ready": not reasons, "reasons": reasons, "processes": processes}, status_code=status)

    def show_metrics(_request: Request) -> Response:
        try:
            return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)
        except StorageError as error:
            log.warning("metrics not available", reason=error)
            return PlainTextResponse("the database does not answer\n", status_code=HTTPStatus.SERVICE_UNAVAILABLE)

    as_json, as_text = Payload(content={"application/json": Content()}), Payload(content={"text/plain": Content()})
    ready = {
        HTTPStatus.OK: Answered(description="it can do its work", payload=as_json),
        HTTPStatus.SERVICE_UNAVAILABLE: Answered(description="why it cannot", payload=as_json),
    }
    counts = {
        HTTPStatus.OK: Answered(description="Prometheus metrics", payload=as_text),
        HTTPStatus.SERVICE_UNAVAILABLE: Answered(description="the database does not answer", payload=as_text),
    }
    return [
        _get("healthz", "Whether the process answers", _always("alive", as_json), healthz),
        _get("readyz", "Whether the service can do its work now", ready, readyz),
        _get("metrics", "How much is where", counts, show_metrics),
    ]


def _documents(table: list[Operation]) -> list[Operation]:
    """The operations that tell of all operations, those that the table has by then, themselves included."""

    def show_document(_request: Request) -> Response:
        return JSONResponse(openapi.document(table))

    def show_page(_request: Request) -> Response:
        return HTMLResponse(openapi.page(table), headers={"Content-Security-Policy": openapi.POLICY})

    as_json, as_html = Payload(content={"application/json": Content()}), Payload(content={"text/html": Content()})
    return [
        _get("openapi.json", "This document", _always("OpenAPI 3.1", as_json), show_document),
        _get("api", "The same for people", _always("a page", as_html), show_page),
    ]


def _get(name: str, summary: str, answers: dict[HTTPStatus, Answered], endpoint: Callable[..., Response]) -> Operation:
    return Operation(name=name, method="GET", path=f"/{name}", summary=summary, answers=answers, endpoint=endpoint)


def _always(description: str, payload: Payload) -> dict[HTTPStatus, Answered]:
    return {HTTPStatus.OK: Answered(description=description, payload=payload)}


def _subscribers(settings: Settings) -> list[str]:
    """Who may be subscribed: those who are told by WebSocket, and those who are told by DIMSE."""
    return sorted({*settings.web.ups_subscribers, *(each.ae_title for each in settings.ups_subscriber)})


def _steps(settings: Settings, database: Database, clock: ReadableClock) -> ProcedureSteps:
    return ProcedureSteps(
        database,
        policy=settings.policy(),
        receivers=_subscribers(settings),
        retrieve_ae_titles=[each.ae_title for each in settings.destinations if each.ae_title],
        clock=clock,
    )


def _channels(
    settings: Settings,
    database: Database,
    clock: ReadableClock,
    owner_id: str,
    steps: ProcedureSteps,
    guard: Guard,
) -> EventChannels:
    lease = timedelta(seconds=settings.deliver.lease_seconds)
    return EventChannels(
        Announcements(database, lease=lease, clock=clock),
        owner_id=owner_id,
        subscribers=settings.web.ups_subscribers,
        guard=guard,
        give_up=timedelta(hours=settings.worklist.ups_event_hours),
        before=steps.consider,
        clock=clock,
    )


def _say(_request: Request, error: Exception) -> Response:
    """Answer where there is no such path, or no such method on it."""
    assert isinstance(error, HTTPException)
    return problem(HTTPStatus(error.status_code), headers=error.headers)


class WebRole:
    """Serves the application on the web port."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop`, then let requests in progress end.

        Raises:
            ConfigurationError: the port cannot be listened on.
            TriageError: the server ended by itself.
        """
        with ExitStack() as held:
            database = open_database(self._settings.database_url)
            held.callback(database.close)
            listener = listening_socket(self._settings.web.host, self._settings.web.port, name="web")
            held.callback(listener.close)
            owner = Owner.take(self._settings.run_folder, WEB)
            held.callback(owner.release)
            # pydicom's own checks quote what they find, and it keeps whether it makes them for all threads together.
            held.enter_context(config.disable_value_validation())
            server = uvicorn.Server(self._configuration(database, owner.id))
            # In a thread of its own, or it would take the signals, which are the service's.
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="web")
            thread.start()
            while thread.is_alive() and not server.started:
                stop.wait(POLL_SECONDS)
            if server.started:
                ready()
            while thread.is_alive() and not stop.wait(POLL_SECONDS):
                pass
            if not stop.is_set():  # a failure, so that systemd too starts the role again
                raise TriageError("the web server ended by itself: the log says why")
            server.should_exit = True
            thread.join()

    def _configuration(self, database: Database, owner_id: str) -> uvicorn.Config:
        return uvicorn.Config(
            create_app(self._settings, database, owner_id=owner_id),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(self._settings.service.drain_seconds) + 1,
            ws="websockets-sansio" if self._settings.web.ups else "none",
            ws_max_size=MAXIMUM_MESSAGE_BYTES,
            ws_ping_interval=HEARTBEAT_SECONDS,
            ws_ping_timeout=HEARTBEAT_SECONDS,
        )
