"""`WS /v1/realtime`: OpenAI's Realtime protocol, for transcription."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from edged.api.intake import attendance, place
from edged.api.live import CLOSE_SECONDS, DONE, GOING_AWAY, TOO_MANY, TOO_SLOW, reason
from edged.api.openai import check_engine
from edged.api.problems import openai_error
from edged.api.race import race
from edged.api.realtime.conversation import new_id
from edged.api.realtime.session import Session
from edged.daemon import Daemon
from edged.errors import EdgedError, EngineError
from edged.log import fields, get_logger

log = get_logger(__name__)

router = APIRouter()


@router.websocket("/v1/realtime")
async def transcribe_live(websocket: WebSocket) -> None:
    """Audio in, items out."""
    daemon: Daemon = websocket.app.state.daemon
    # A browser gives up unless one of the subprotocols that it offered is taken.
    offered = websocket.scope.get("subprotocols", ())
    await websocket.accept("realtime" if "realtime" in offered else None)
    try:
        check_engine(daemon, strict=websocket.query_params.get("fallback") == "fail")
        with attendance(daemon), place(daemon):
            await _Connection(websocket, daemon, _knows_beta_only(websocket)).run()
    except EdgedError as error:
        await _refuse(websocket, error)


def _knows_beta_only(websocket: WebSocket) -> bool:
    offered = websocket.scope.get("subprotocols", ())
    return "openai-beta" in websocket.headers or "openai-beta.realtime-v1" in offered


async def _refuse(websocket: WebSocket, error: EdgedError) -> None:
    event = {"type": "error", "event_id": new_id("event"), "error": openai_error(error)}
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await websocket.send_text(msgspec.json.encode(event).decode())
        await websocket.close(TOO_MANY, reason(error.message))


class _Connection:
    """A session on its socket."""

    def __init__(self, websocket: WebSocket, daemon: Daemon, beta: bool) -> None:
        self._websocket = websocket
        self._daemon = daemon
        self._outbox: asyncio.Queue[dict[str, Any] | int] = asyncio.Queue(
            daemon.configuration.server.client_queue
        )
        """Events, and at the end the code to close with"""
        self._overflow = asyncio.Event()
        self._session = Session(daemon, self._put, beta=beta)

    async def run(self) -> None:
        self._session.greet()
        try:
            await race(
                self._forward(),
                self._receive(),
                self._session.complete_commits(),
                self._let_go(),
                self._stop(),
            )
        finally:
            await self._session.leave()

    def _put(self, event: dict[str, Any] | int) -> None:
        try:
            self._outbox.put_nowait(event)
        except asyncio.QueueFull:
            self._overflow.set()

    async def _forward(self) -> None:
        while not isinstance(event := await self._outbox.get(), int):
            await self._websocket.send_text(msgspec.json.encode(event).decode())
        await self._websocket.close(event)

    async def _receive(self) -> None:
        """Take events until the client is gone, or says nothing for too long."""
        idle = self._daemon.configuration.server.idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle):
                    message = await self._websocket.receive()
            except TimeoutError:
                await self._expire(idle)
                return
            if message["type"] == "websocket.disconnect":
                return
            await self._session.obey(message.get("text") or "")

    async def _expire(self, idle: float) -> None:
        self._session.complain(
            EngineError(f"Nothing was sent for {idle:.0f} s", code="session_expired")
        )
        self._put(DONE)
        await asyncio.sleep(CLOSE_SECONDS)

    async def _let_go(self) -> None:
        """Close a client that reads too slowly; it is cut off if it does not even notice."""
        await self._overflow.wait()
        gone = fields("client_let_go", protocol="openai")
        log.warning("a client is let go: it reads too slowly", extra=gone)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._websocket.close(TOO_SLOW, "too slow"), CLOSE_SECONDS)

    async def _stop(self) -> None:
        """When the daemon stops: texts first."""
        await self._daemon.stopping.wait()
        await self._session.finish()
        self._put(GOING_AWAY)
        await asyncio.Event().wait()
