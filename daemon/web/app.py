"""The web port: is it alive, is it ready, how much is where. Nothing here names a patient."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import uvicorn
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.service import presences
from cxr_triage.daemon.settings import Settings
from cxr_triage.daemon.sockets import listening_socket
from cxr_triage.daemon.web.health import reasons_against
from cxr_triage.daemon.web.metrics import registry
from cxr_triage.model.errors import StorageError, TriageError
from cxr_triage.storage.database import Database, open_database
from cxr_triage.storage.service_clock import ServiceClock

#: How often to look after the server's thread.
POLL_SECONDS: Final = 0.1

log = get_logger(__name__)


def create_app(settings: Settings, database: Database) -> Starlette:
    """The application; its handlers run in threads, since the database blocks."""
    metrics = registry(settings, database, clock=ServiceClock.of(settings.run_folder))

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

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", show_metrics)],
    )


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
        database = open_database(self._settings.database_url)
        listener = listening_socket(self._settings.web.host, self._settings.web.port, name="web")
        try:
            server = uvicorn.Server(self._configuration(database))
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
        finally:
            listener.close()
            database.close()

    def _configuration(self, database: Database) -> uvicorn.Config:
        return uvicorn.Config(
            create_app(self._settings, database),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(self._settings.service.drain_seconds) + 1,
        )
