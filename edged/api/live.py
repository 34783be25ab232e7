"""The WebSockets: follow the microphone, or send audio and get its text."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractContextManager, nullcontext
from typing import get_args

import msgspec
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from edged.api.frames import frames
from edged.api.intake import Intake, place
from edged.api.levels import LevelMeter
from edged.api.race import race
from edged.audio.pcm import PcmFormat
from edged.daemon import MICROPHONE, Daemon
from edged.errors import AudioError, EngineError
from edged.hub import Subscriber
from edged.log import fields, get_logger
from edged.messages import (
    Closed,
    EngineChanged,
    Error,
    Event,
    Finish,
    Level,
    Order,
    Partial,
    decode_order,
    encode,
)
from edged.recognizer import SAMPLE_RATE

log = get_logger(__name__)

DONE, GOING_AWAY, POLICY, TOO_MANY, TOO_SLOW = 1000, 1001, 1008, 1013, 4000
CLOSE_SECONDS = 2.0
"""Longest wait for a client that is let go to notice"""

router = APIRouter()


def _flag(websocket: WebSocket, name: str, default: bool) -> bool:
    """A query parameter: anything but 0, false and no is yes."""
    value = websocket.query_params.get(name)
    return default if value is None else value.lower() not in {"0", "false", "no", ""}


@router.websocket("/v1/transcripts")
async def follow_microphone(websocket: WebSocket) -> None:
    """Every event of the microphone, as it happens."""
    daemon: Daemon = websocket.app.state.daemon
    if not await _admit(websocket, daemon):
        return
    subscriber = daemon.hub.subscribe(words=_flag(websocket, "words", False))
    levels = _levels(daemon, subscriber) if _flag(websocket, "levels", False) else nullcontext()
    try:
        await _send(websocket, daemon.hello(MICROPHONE))
        partials = _flag(websocket, "partials", True)
        with levels:
            await race(
                _forward(websocket, subscriber, partials),
                _until_gone(websocket),
                _let_go(websocket, subscriber),
            )
    finally:
        daemon.hub.unsubscribe(subscriber)
        daemon.clients -= 1


def _levels(daemon: Daemon, subscriber: Subscriber) -> AbstractContextManager[None]:
    """Tell a subscriber how loud it is; one that is behind can do without."""

    def publish(level: Level) -> None:
        if not subscriber.depth:
            subscriber.put(level, encode(level))

    return daemon.tap.open(LevelMeter(publish).hear)


@router.websocket("/v1/stream")
async def recognize_stream(websocket: WebSocket) -> None:
    """Audio in, events out."""
    daemon: Daemon = websocket.app.state.daemon
    if not await _admit(websocket, daemon):
        return
    try:
        with place(daemon):
            await _StreamSession(websocket, daemon).run()
    except EngineError as error:
        await _refuse(websocket, error.code, error.message, TOO_MANY)
    finally:
        daemon.clients -= 1


async def _admit(websocket: WebSocket, daemon: Daemon) -> bool:
    """Accept a client and count it, or close it again."""
    await websocket.accept()
    if daemon.clients >= daemon.configuration.server.max_clients:
        await _refuse(websocket, "too_many_clients", "Too many clients; try later", TOO_MANY)
        return False
    daemon.clients += 1
    return True


async def _refuse(websocket: WebSocket, code: str, message: str, close: int) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await _send(websocket, Error(code, message, fatal=True))
        await websocket.close(close, reason(message))


def reason(message: str) -> str:
    """As much of a message as fits into a close frame."""
    return message.encode()[:120].decode("utf-8", "ignore")


async def _send(websocket: WebSocket, event: Event) -> None:
    await websocket.send_text(encode(event).decode())


async def _until_gone(websocket: WebSocket) -> None:
    """Read and ignore until the client is gone: only a read notices that."""
    async for _ in frames(websocket):
        pass


async def _forward(websocket: WebSocket, subscriber: Subscriber, partials: bool) -> None:
    while True:
        event, encoded = await subscriber.get()
        if isinstance(event, Partial) and not partials:
            continue
        await websocket.send_text(encoded.decode())
        if isinstance(event, Closed):
            await websocket.close(GOING_AWAY if event.reason == "stopping" else DONE)
            return


async def _let_go(websocket: WebSocket, subscriber: Subscriber) -> None:
    """Close a client that reads too slowly; its connection is cut if it does not even notice."""
    await subscriber.overflow()
    gone = fields("client_let_go", protocol="edged")
    log.warning("a client is let go: it reads too slowly", extra=gone)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(websocket.close(TOO_SLOW, "too slow a reader"), CLOSE_SECONDS)


class _StreamSession:
    """One client that sends audio."""

    def __init__(self, websocket: WebSocket, daemon: Daemon) -> None:
        self._websocket = websocket
        self._daemon = daemon
        self._words = _flag(websocket, "words", False)
        self._subscriber = Subscriber(daemon.configuration.server.client_queue, self._words)
        self._partials = _flag(websocket, "partials", True)
        self._strict = websocket.query_params.get("fallback") == "fail"
        """Whether the client wants nothing less than what is configured"""
        self._refusals: asyncio.Queue[EngineError] = asyncio.Queue()
        """Why it has to be let go after all"""

    async def run(self) -> None:
        if self._strict and (refusal := self._daemon.refusal):
            await _refuse(self._websocket, refusal.code, refusal.message, TOO_MANY)
            return
        try:
            self._intake = Intake(
                self._daemon,
                "edged",
                self._layout(),
                self._publish,
                partials=self._partials,
                words=self._words,
            )
        except AudioError as error:
            await _refuse(self._websocket, error.code, error.message, POLICY)
            return
        self._daemon.engine_listeners.add(self._engine_changed)
        try:
            await _send(self._websocket, self._daemon.hello(self._intake.name))
            await race(
                _forward(self._websocket, self._subscriber, self._partials),
                self._receive(),
                self._give_up(),
                _let_go(self._websocket, self._subscriber),
                self._stop(),
            )
        finally:
            self._daemon.engine_listeners.discard(self._engine_changed)
            await self._intake.leave()

    def _engine_changed(self, event: EngineChanged) -> None:
        self._intake.tell(event)
        if self._strict and (refusal := self._daemon.refusal):
            self._refusals.put_nowait(refusal)

    async def _give_up(self) -> None:
        """What serves is less than the client wants."""
        refusal = await self._refusals.get()
        await _refuse(self._websocket, refusal.code, refusal.message, TOO_MANY)

    def _layout(self) -> PcmFormat:
        parameters = self._websocket.query_params
        return PcmFormat(
            rate=_integer(parameters.get("rate"), SAMPLE_RATE, "bad_rate"),
            encoding=parameters.get("encoding", "s16le"),
            channels=_integer(parameters.get("channels"), 1, "bad_channels"),
        )

    def _publish(self, event: Event) -> None:
        self._subscriber.put(event, encode(event))

    async def _receive(self) -> None:
        """Take audio and orders until the client is gone."""
        async for frame in frames(self._websocket):
            if isinstance(frame, bytes):
                await self._intake.hear(frame)
            else:
                await self._obey(frame)

    async def _obey(self, text: str) -> None:
        try:
            order = decode_order(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            known = ", ".join(encode(order()).decode() for order in get_args(Order))
            self._intake.tell(Error("bad_message", f"Send audio as binary frames, or {known}"))
            return
        if isinstance(order, Finish):
            await self._close()
        else:
            await self._intake.flush()

    async def _close(self) -> None:
        """Finish, say goodbye; the close follows the event out."""
        await self._intake.finish()
        self._intake.tell(Closed("done"))

    async def _stop(self) -> None:
        """When the daemon stops: finals first."""
        await self._daemon.stopping.wait()
        await self._intake.finish_in_time()
        self._intake.tell(Closed("stopping"))
        await asyncio.Event().wait()


def _integer(text: str | None, default: int, code: str) -> int:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise AudioError(f"{text[:40]!r} is no whole number", code=code) from error
