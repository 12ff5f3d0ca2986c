"""Events of procedure steps by WebSocket (PS3.18 8.10.4 and 8.10.5): in order, at least once, the same bytes each time.

A message counts as taken once the connection has it. One that is lost with its connection before that is sent again
on the next, which goes on where the last one was.
"""

import asyncio
from collections.abc import Callable, Container
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from cxr_triage.daemon.logs import get_logger
from cxr_triage.daemon.web.operations import problem
from cxr_triage.daemon.web.ups.endpoint import Guard
from cxr_triage.model.errors import StaleAttemptError, StorageError
from cxr_triage.storage.clock import Clock
from cxr_triage.storage.ledger.announcements import Announcements
from cxr_triage.storage.step_records import UPS_FACE, Announcement

#: How often to look for an event.
POLL_SECONDS: Final = 0.5
#: RFC 6455 7.4.1: policy violation.
SUPERSEDED: Final = (1008, "another connection of this AE title has taken its place")

log = get_logger(__name__)


class EventChannels:
    """The open connections, one for an AE title: a peer that lost its own may be back before we notice."""

    def __init__(
        self,
        announcements: Announcements,
        *,
        owner_id: str,
        subscribers: Container[str],
        guard: Guard,
        give_up: timedelta,
        before: Callable[[], None],
        clock: Clock,
    ) -> None:
        """Serve them.

        Args:
            announcements: the ledger's messages.
            owner_id: who has the messages that are being sent.
            subscribers: AE titles that may have a connection.
            guard: whose requests are answered.
            give_up: age at which a message is not sent any more.
            before: done before each look for a message.
            clock: gives the present.
        """
        self._announcements = announcements
        self._owner_id = owner_id
        self._subscribers = subscribers
        self._guard = guard
        self._give_up = give_up
        self._before = before
        self._clock = clock
        self._newest: dict[str, WebSocket] = {}

    async def serve(self, websocket: WebSocket) -> None:
        """Open a connection, and send the events of its AE title until it ends."""
        refusal = self._refusal(websocket)
        if refusal is not None:
            await websocket.send_denial_response(refusal)
            return
        receiver = websocket.path_params["aetitle"]
        await websocket.accept()
        self._newest[receiver] = websocket
        log.info("event channel open", receiver=receiver)
        ended = asyncio.create_task(_ended(websocket))
        try:
            await self._tell(websocket, receiver, ended)
        finally:
            ended.cancel()
            if self._newest.get(receiver) is websocket:
                del self._newest[receiver]
            log.info("event channel closed", receiver=receiver)

    def _refusal(self, websocket: WebSocket) -> Response | None:
        refused = self._guard.refusal(websocket.headers.get("host", ""), websocket.headers.get("origin"))
        if refused is not None:
            return problem(*refused)
        if websocket.path_params["aetitle"] not in self._subscribers:
            return problem(HTTPStatus.FORBIDDEN, "this AE title is not among web.ups_subscribers")
        return None

    async def _tell(self, websocket: WebSocket, receiver: str, ended: asyncio.Task[None]) -> None:
        while not ended.done():
            if self._newest.get(receiver) is not websocket:
                await websocket.close(*SUPERSEDED)
                return
            if not await self._tell_next(websocket, receiver):
                await asyncio.wait({ended}, timeout=POLL_SECONDS)

    async def _tell_next(self, websocket: WebSocket, receiver: str) -> bool:
        """Send the next event; whether there was one, and it went."""
        try:
            told = await run_in_threadpool(self._next, receiver)
            return told is not None and await self._send(websocket, told)
        except StaleAttemptError:
            return True  # sent, and yet not recorded in time: it is sent again
        except StorageError as error:
            log.exception("ledger not reached", exc_info=error)
            return False

    def _next(self, receiver: str) -> Announcement | None:
        """Claim the next message that is not too old; older ones are given up."""
        self._before()
        while told := self._announcements.claim(self._owner_id, UPS_FACE, receiver):
            if self._clock() - told.created_at < self._give_up:
                return told
            log.warning("event given up", **told.log_context())
            self._announcements.record_failure(told, error="nobody came for it", retry_at=None)
        return None

    async def _send(self, websocket: WebSocket, told: Announcement) -> bool:
        try:
            await websocket.send_text(told.payload.decode("utf-8"))
        except (WebSocketDisconnect, RuntimeError):
            log.info("event not taken: the channel is closed", **told.log_context())
            await run_in_threadpool(
                self._announcements.record_failure, told, error="the channel is closed", retry_at=self._clock()
            )
            return False
        await run_in_threadpool(self._announcements.record_acknowledged, told)
        return True


async def _ended(websocket: WebSocket) -> None:
    """Wait for the end of a connection; what a peer says meanwhile means nothing."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
