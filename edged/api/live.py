"""The WebSockets: follow the microphone, or send audio and get its text."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from edged.audio.pcm import PcmConverter, PcmFormat
from edged.daemon import FINISH_SECONDS, MICROPHONE, Daemon
from edged.errors import AudioError, EngineError
from edged.hub import Subscriber
from edged.log import get_logger
from edged.messages import Closed, EngineChanged, Error, Event, Partial, encode
from edged.recognizer import SAMPLE_RATE

log = get_logger(__name__)

DONE, GOING_AWAY, POLICY, TOO_MANY, TOO_SLOW = 1000, 1001, 1008, 1013, 4000
CLOSE_SECONDS = 2.0
"""Longest wait for a client that is let go to notice"""
PIECE = SAMPLE_RATE
"""Samples written to the ring at once"""
WAITED_SECONDS = 0.002
"""Audio that took longer to come was waited for; what is there at once had been kept back"""

router = APIRouter()
_numbers = itertools.count(1)


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
    try:
        await _send(websocket, daemon.hello(MICROPHONE))
        partials = _flag(websocket, "partials", True)
        await _race(
            _forward(websocket, subscriber, partials),
            _until_gone(websocket),
            _let_go(websocket, subscriber),
        )
    finally:
        daemon.hub.unsubscribe(subscriber)
        daemon.clients -= 1


@router.websocket("/v1/stream")
async def recognize_stream(websocket: WebSocket) -> None:
    """Audio in, events out."""
    daemon: Daemon = websocket.app.state.daemon
    if not await _admit(websocket, daemon):
        return
    try:
        if daemon.streams >= daemon.configuration.server.max_streams:
            await _refuse(websocket, "too_many_clients", "Too many streams; try later", TOO_MANY)
            return
        daemon.streams += 1
        try:
            await _StreamSession(websocket, daemon).run()
        finally:
            daemon.streams -= 1
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
        await websocket.close(close, _reason(message))


def _reason(message: str) -> str:
    """As much of a message as fits into a close frame."""
    return message.encode()[:120].decode("utf-8", "ignore")


async def _send(websocket: WebSocket, event: Event) -> None:
    await websocket.send_text(encode(event).decode())


async def _race(*awaitables: Awaitable[None]) -> None:
    """Run until the first is over, then end the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not _is_disconnect(result):
            raise result


def _is_disconnect(error: Exception) -> bool:
    # Starlette raises RuntimeError for a send after the close that a client's end brought about.
    return isinstance(error, (WebSocketDisconnect, RuntimeError))


async def _until_gone(websocket: WebSocket) -> None:
    """Read and ignore until the client is gone: only a read notices that."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return


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
    log.warning("a client is let go: it reads too slowly")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(websocket.close(TOO_SLOW, "too slow a reader"), CLOSE_SECONDS)


class _StreamSession:
    """One client that sends audio."""

    def __init__(self, websocket: WebSocket, daemon: Daemon) -> None:
        self._websocket = websocket
        self._daemon = daemon
        self._name = f"stream-{next(_numbers)}"
        self._subscriber = Subscriber(
            daemon.configuration.server.client_queue,
            _flag(websocket, "words", False),
        )
        self._partials = _flag(websocket, "partials", True)
        self._bad_samples = 0
        self._unheard = bytearray()
        """Audio that came and is not yet converted"""
        self._unwritten: deque[Any] = deque()
        """Converted, and waiting for room in the ring"""
        self._listening_since = 0.0
        """When we began to wait for what is now unheard, by the monotonic clock, in seconds"""
        self._order = asyncio.Lock()
        """One at a time converts and writes: the client's audio keeps its order"""
        self._strict = websocket.query_params.get("fallback") == "fail"
        """Whether the client wants nothing less than what is configured"""
        self._refusals: asyncio.Queue[EngineError] = asyncio.Queue()
        """Why it has to be let go after all"""
        self._finishing = False
        """Whether no more audio is taken: the client or the daemon has had its last word"""

    async def run(self) -> None:
        try:
            layout = self._format()
            self._converter = PcmConverter(layout)
            self._bytes_per_second = layout.rate * layout.frame_bytes
        except AudioError as error:
            await _refuse(self._websocket, error.code, error.message, POLICY)
            return
        if self._strict and (refusal := self._daemon.refusal):
            await _refuse(self._websocket, refusal.code, refusal.message, TOO_MANY)
            return
        self._stream = self._daemon.open_stream(
            self._publish, partials=self._partials, words=self._subscriber.words
        )
        self._daemon.engine_listeners.add(self._engine_changed)
        try:
            await _send(self._websocket, self._daemon.hello(self._name))
            await _race(
                _forward(self._websocket, self._subscriber, self._partials),
                self._receive(),
                self._give_up(),
                _let_go(self._websocket, self._subscriber),
                self._stop(),
            )
        finally:
            self._daemon.engine_listeners.discard(self._engine_changed)
            await self._leave()

    def _engine_changed(self, event: EngineChanged) -> None:
        self._publish(event)
        if self._strict and (refusal := self._daemon.refusal):
            self._refusals.put_nowait(refusal)

    async def _give_up(self) -> None:
        """What serves is less than the client wants."""
        refusal = await self._refusals.get()
        await _refuse(self._websocket, refusal.code, refusal.message, TOO_MANY)

    def _format(self) -> PcmFormat:
        parameters = self._websocket.query_params
        return PcmFormat(
            rate=_integer(parameters.get("rate"), SAMPLE_RATE, "bad_rate"),
            encoding=parameters.get("encoding", "s16le"),
            channels=_integer(parameters.get("channels"), 1, "bad_channels"),
        )

    def _publish(self, event: Event) -> None:
        event = self._daemon.remember(self._name, event)
        self._subscriber.put(event, encode(event))

    async def _receive(self) -> None:
        """Take audio and orders until the client is gone."""
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await self._hear(message["bytes"])
            elif message.get("text") is not None:
                await self._obey(message["text"])

    async def _hear(self, data: bytes) -> None:
        """Keep what came until it is worth a wake-up: handling a small frame costs more than it."""
        if self._finishing:
            return
        self._unheard += data
        if len(self._unheard) >= self._stream.chunk_seconds * self._bytes_per_second:
            waited = time.monotonic() - self._listening_since
            await self._take_in()
            if waited > WAITED_SECONDS:
                await self._rest()
            self._listening_since = time.monotonic()

    async def _rest(self) -> None:
        """While nobody speaks, leave the next frames in the socket: one wake-up takes them all.

        Only for a client at the pace of time, so that one with a backlog is not held up.
        """
        if not self._stream.speaking:
            await asyncio.sleep(self._stream.chunk_seconds)

    async def _take_in(self, last: bool = False) -> None:
        """Everything that has come, into the ring; `last` with what the resampler holds."""
        async with self._order:
            self._queue(self._convert())
            if last:
                self._queue(self._converter.finish())
            await self._write()

    def _queue(self, samples: Any) -> None:
        self._unwritten += (samples[i : i + PIECE] for i in range(0, len(samples), PIECE))

    def _convert(self) -> Any:
        if not self._unheard:
            return ()
        data, self._unheard = bytes(self._unheard), bytearray()
        samples = self._converter.feed(data)
        if self._converter.bad_samples > self._bad_samples:
            if not self._bad_samples:
                self._publish(
                    Error("bad_samples", "Samples that are no numbers are taken as silence")
                )
            self._bad_samples = self._converter.bad_samples
        return samples

    async def _write(self) -> None:
        """Into the ring, as room is made: a client that is too fast is not read meanwhile.

        What is not yet written when this is cancelled is written by the next call.
        """
        while self._unwritten:
            await self._stream.room(len(self._unwritten[0]))
            self._stream.write(self._unwritten.popleft())
            self._daemon.supervisor.notify(self._stream)

    async def _obey(self, text: str) -> None:
        orders: dict[str, Callable[[], Awaitable[None]]] = {
            "flush": self._flush,
            "close": self._close,
        }
        try:
            order = msgspec.json.decode(text)
            obey = orders[order["type"]]
        except (msgspec.DecodeError, UnicodeError, RecursionError, KeyError, TypeError):
            known = ", ".join(f'{{"type":"{name}"}}' for name in orders)
            self._publish(Error("bad_message", f"Send audio as binary frames, or {known}"))
            return
        await obey()

    async def _flush(self) -> None:
        await self._take_in()
        self._daemon.supervisor.flush(self._stream)

    async def _close(self) -> None:
        """Finish, say goodbye; the close follows the event out."""
        await self._finish()
        self._publish(Closed("done"))

    async def _finish(self) -> None:
        if not self._finishing:
            self._finishing = True
            await self._take_in(last=True)
        elif self._unwritten:
            await self._take_in()
        await self._stream.reached(self._daemon.supervisor.flush(self._stream))

    async def _stop(self) -> None:
        """When the daemon stops: finals first."""
        await self._daemon.stopping.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._finish(), FINISH_SECONDS)
        self._publish(Closed("stopping"))
        await asyncio.Event().wait()

    async def _leave(self) -> None:
        """The client is gone; what it had sent is still recognised and stored."""
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._finish(), FINISH_SECONDS)
        finally:
            self._daemon.supervisor.close(self._stream)


def _integer(text: str | None, default: int, code: str) -> int:
    if text is None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise AudioError(f"{text[:40]!r} is no whole number", code=code) from error
