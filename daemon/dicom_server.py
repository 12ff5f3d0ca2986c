"""What our DICOM services share: associations on a socket that somebody else may hold, limits, and a drain."""

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom import AE, _config, evt, timer
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import ThreadedAssociationServer

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.places import Places
from cxr_triage.daemon.results.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from cxr_triage.daemon.steady import measure_by_monotonic_clock

log = get_logger(__name__)
measure_by_monotonic_clock(timer)

#: PS3.4 Table A.4-1.
VERIFICATION: Final = UID("1.2.840.10008.1.1")

#: PS3.8 Table 9-21: rejected-transient, by the service provider (presentation related), local-limit-exceeded.
LOCAL_LIMIT_EXCEEDED: Final = (2, 3, 2)

#: How often the accept loop looks whether it should stop, seconds.
POLL_SECONDS: Final = 0.2

#: accept(2): too many open files here or on the machine, no memory for one more.
_NO_HANDLES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# pynetdicom's own handlers print command sets and identifiers, and those hold names: none of them is ever bound.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = False
_config.LOG_RESPONSE_IDENTIFIERS = False
logging.getLogger("pynetdicom").setLevel(logging.WARNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one peer may take of us."""

    #: Associations at the same time; one more is rejected as "local limit exceeded" (PS3.8 9.3.4).
    maximum_associations: int = 10
    #: Where the processes that share the port count them together; None: this one has the port for itself.
    places_file: Path | None = None
    #: Largest P-DATA-TF PDU that we offer to receive, bytes (PS3.8 D.1).
    maximum_pdu_bytes: int = 131072
    #: Longest wait within association set-up and release, seconds.
    acse_timeout_seconds: float = 30
    #: Longest wait for the rest of a DIMSE message, seconds.
    dimse_timeout_seconds: float = 60
    #: Longest silence of a peer before its association is aborted, seconds.
    network_timeout_seconds: float = 60
    #: When stopping: how long associations may take to end by themselves before they are aborted, seconds.
    drain_seconds: float = 30


class DicomServer:
    """Accepts associations on one listening socket until told to stop."""

    def __init__(
        self,
        *,
        ae_title: str,
        listener: socket.socket,
        contexts: list[PresentationContext],
        handlers: list[EventHandlerType],
        limits: Limits,
        allowed_ae_titles: Sequence[str] = (),
        require_called_ae_title: bool = False,
    ) -> None:
        self._limits = limits
        self._places = Places(limits.maximum_associations, limits.places_file)
        entity = AE(ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # pynetdicom counts its own process only: `_admit` counts instead.
        entity.maximum_associations = sys.maxsize
        entity.maximum_pdu_size = limits.maximum_pdu_bytes
        entity.acse_timeout = limits.acse_timeout_seconds
        entity.dimse_timeout = limits.dimse_timeout_seconds
        entity.network_timeout = limits.network_timeout_seconds
        entity.require_calling_aet = list(allowed_ae_titles)
        entity.require_called_aet = require_called_ae_title
        self._server = entity.make_server(
            listener.getsockname()[:2],
            contexts=contexts,
            evt_handlers=[
                *_LOGGED_EVENTS,
                silence_limit(limits.network_timeout_seconds),
                (evt.EVT_CONN_OPEN, _give_back_at_end, [self._places]),
                (evt.EVT_REQUESTED, _admit, [self._places]),
                (evt.EVT_CONN_CLOSE, _end_unasked),
                *handlers,
            ],
            server_class=_Server,
            listener=listener,
        )

    def serve(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop`, then accept no more, let associations in progress end, and abort what is left."""
        ready()
        while not stop.is_set():
            self._server.handle_request()
            self._server.service_actions()
        self._server.server_close()
        self._drain()
        self._places.close()

    def _drain(self) -> None:
        deadline = time.monotonic() + self._limits.drain_seconds
        while (left := self._server.active_associations) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 4)
        for association in left:
            log.warning("association cut off", calling_ae_title=association.requestor.ae_title)
            association.abort()


def silence_limit(seconds: float) -> EventHandlerType:
    """Give the handler that ends a connection whose peer stops in the middle of a PDU, sending or reading it.

    pynetdicom's own network timeout does not: its thread waits for the socket for ever, and the association with it.
    """

    def limit(event: Event) -> None:
        transport = event.assoc.dul.socket
        if transport is not None and transport.socket is not None:
            transport.socket.settimeout(seconds)

    return evt.EVT_CONN_OPEN, limit


def _give_back_at_end(event: Event, places: Places) -> None:
    """Let the association hold its place as long as its thread runs: its connection may end while it still stores."""
    association = event.assoc
    serve = association.run

    def run() -> None:
        try:
            serve()
        finally:
            places.give_back(association)

    association.run = run  # type: ignore[method-assign]


def _admit(event: Event, places: Places) -> None:
    """Take a place for who asks for an association, or reject it: pynetdicom then negotiates no further."""
    association = event.assoc
    if places.take(association):
        return
    requestor = association.requestor
    requestor.ae_title = requestor.primitive.calling_ae_title if requestor.primitive else ""
    association.acse.send_reject(*LOCAL_LIMIT_EXCEEDED)
    evt.trigger(association, evt.EVT_REJECTED)
    association.kill()


def _end_unasked(event: Event) -> None:
    """End an association whose peer went away before it asked for one, as whoever probes a port does.

    pynetdicom would wait for the request until `acse_timeout_seconds` have passed, and keep its threads meanwhile.
    """
    association = event.assoc
    dul = association.dul
    # PS3.8 Table 9-10: in Sta2 no request has come; Sta13 may follow on it when the first PDU is none.
    before_request = dul.state_machine.current_state in {"Sta2", "Sta13"}
    if before_request and association.requestor.primitive is None and dul.to_user_queue.empty():
        dul.to_user_queue.put(None)  # what its own time-out gives


class _Server(ThreadedAssociationServer):
    """pynetdicom's server on a socket that listens already."""

    def __init__(self, *arguments: Any, listener: socket.socket, **options: Any) -> None:
        self._listener = listener
        self._short_of_handles = False
        super().__init__(*arguments, **options)
        # Several processes may share the socket: who comes too late for a connection must not wait for the next.
        listener.settimeout(POLL_SECONDS)
        self.timeout = POLL_SECONDS

    def server_bind(self) -> None:
        """Take the given socket in place of the one that was made for us."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._listener
        self.server_address = self._listener.getsockname()

    def server_activate(self) -> None:
        """Leave the socket as it is: it listens already."""

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Where the machine has no handle left for it, it waits in line, and so do we.

        Raises:
            OSError: it cannot be accepted now, or another process was faster; the caller tries again.
        """
        try:
            accepted: tuple[socket.socket, Any] = super().get_request()
        except OSError as error:
            if error.errno in _NO_HANDLES:
                if not self._short_of_handles:
                    log.exception("connection waits: no file handle is left", exc_info=error)
                self._short_of_handles = True
                time.sleep(POLL_SECONDS)  # the caller asks again at once, and again
            raise
        self._short_of_handles = False
        return accepted

    def server_close(self) -> None:
        """Close our descriptor only: a shutdown would end the port for every process that shares it."""
        self._listener.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log in our way what socketserver would print."""
        del request, client_address
        log.error("connection failed", exc_info=sys.exception())


def _log_association(event: Event, what: str) -> None:
    requestor = event.assoc.requestor
    called = requestor.primitive.called_ae_title if requestor.primitive else ""
    log.info(what, calling_ae_title=requestor.ae_title, called_ae_title=called, address=_address(event))


def _log_nothing_agreed(event: Event) -> None:
    """Name what was offered where we took none of it: the sender's user sees only that it does not work."""
    if event.assoc.accepted_contexts:
        return
    offered = {str(context.abstract_syntax) for context in event.assoc.rejected_contexts}
    log.warning(
        "no presentation context accepted",
        calling_ae_title=event.assoc.requestor.ae_title,
        address=_address(event),
        sop_class_uids=sorted(offered),
    )


def _log_rejection(event: Event) -> None:
    requestor, answer = event.assoc.requestor, event.assoc.acceptor.primitive
    log.warning(
        "association rejected",
        calling_ae_title=requestor.ae_title,
        address=_address(event),
        reason=answer.reason_str if answer else "",
    )


def _address(event: Event) -> str:
    info = event.assoc.requestor.address_info
    return info.address if info else ""


_LOGGED_EVENTS: list[EventHandlerType] = [
    (evt.EVT_ACCEPTED, _log_association, ["association accepted"]),
    (evt.EVT_ACCEPTED, _log_nothing_agreed),
    (evt.EVT_RELEASED, _log_association, ["association released"]),
    (evt.EVT_ABORTED, _log_association, ["association aborted"]),
    (evt.EVT_REJECTED, _log_rejection),
]
