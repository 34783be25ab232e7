"""WebSockets of other projects' protocols: one door, with our rules; inside, their conversation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from edged.activation import Sockets
from edged.api.access import POLICY, AccessControl, refuse
from edged.api.intake import attendance, place
from edged.api.problems import problem
from edged.api.server import GuestServer
from edged.daemon import Daemon
from edged.errors import EdgedError, EngineError
from edged.log import fields, get_logger

log = get_logger(__name__)

DONE, GOING_AWAY, TOO_SLOW = 1000, 1001, 4000
SEND_SECONDS = 5.0
"""Longest wait for a client to read what it is sent"""
CLOSE_SECONDS = 2.0
"""Longest wait for a client that is let go to notice"""

Conversation = Callable[[WebSocket, Daemon], Awaitable[None]]
"""Speaks with one client, which has been let in, until either is done"""


def guest_server(
    daemon: Daemon,
    protocol: str,
    port: int,
    conversation: Conversation,
    passed: Sockets = (),
) -> GuestServer:
    """A server for a protocol, named as its section of the configuration. Raises PortInUseError."""
    door = AccessControl(_Door(daemon, protocol, conversation), daemon)
    return GuestServer(daemon.configuration.server, door, port, protocol, passed)


class _Door:
    """ASGI application: lets WebSockets in while there is room."""

    def __init__(self, daemon: Daemon, protocol: str, conversation: Conversation) -> None:
        self._daemon = daemon
        self._protocol = protocol
        self._conversation = conversation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            sentence = f"This port is for WebSocket clients of {self._protocol}"
            await problem(scope["path"], 426, "websocket_only", sentence)(scope, receive, send)
            return
        with contextlib.ExitStack() as places:
            try:
                places.enter_context(attendance(self._daemon))
                places.enter_context(place(self._daemon))
            except EngineError as error:
                await refuse(scope, receive, send, 503, error.code, error.message)
                return
            await self._speak(WebSocket(scope, receive, send))

    async def _speak(self, websocket: WebSocket) -> None:
        try:
            await websocket.accept()
            await self._conversation(websocket, self._daemon)
        except EdgedError as error:
            await _close(websocket, POLICY, error.message)
        except TimeoutError:
            gone = fields("client_let_go", protocol=self._protocol)
            log.warning("a client of %s is let go: it reads too slowly", self._protocol, extra=gone)
            await _close(websocket, TOO_SLOW, "too slow a reader")
        except WebSocketDisconnect:
            pass  # it was gone before it was let in


async def tell(websocket: WebSocket, text: str) -> None:
    """Send text. Raises TimeoutError when the client does not read."""
    async with asyncio.timeout(SEND_SECONDS):
        await websocket.send_text(text)


async def _close(websocket: WebSocket, code: int, message: str) -> None:
    """Close with as much of a message as fits; one who does not even notice is cut off."""
    reason = message.encode()[:120].decode("utf-8", "ignore")
    with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        await asyncio.wait_for(websocket.close(code, reason), CLOSE_SECONDS)
