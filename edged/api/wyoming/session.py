"""One Wyoming client on its connection: it asks, sends audio, and may do so again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from edged.api.race import race
from edged.api.wyoming.frame import HEADER_BYTES, Frame, NoWyomingError, encode_frame, read_frame
from edged.api.wyoming.info import MICROPHONE_FORMAT, info, served_model
from edged.api.wyoming.request import Request
from edged.daemon import Daemon
from edged.errors import EdgedError
from edged.log import fields, get_logger

log = get_logger(__name__)

MOST_UNREAD = 1 << 20
"""Bytes that a client may leave unread: half a minute of the microphone"""
SEND_SECONDS = 5.0
"""Longest wait for a client to read answers to what it asks"""
LINGER_SECONDS = 1.0
"""How long a client is heard out that was told of a mistake"""
QUIET_SECONDS = 1.0
"""A client that says nothing for so long after it has connected wants to hear the microphone"""
SILENT_SECONDS = 10.0
"""Without a microphone to hear it is let go: browsers open connections that they may need"""


class Session:
    """Speaks with one client until either is done."""

    def __init__(
        self, daemon: Daemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._daemon = daemon
        self._reader = reader
        self._writer = writer
        self._request: Request | None = None
        self._spoke = asyncio.Event()
        """Whether the client has sent anything"""
        self._overflow = asyncio.Event()

    async def run(self) -> None:
        """Raises nothing that a client can cause."""
        try:
            await race(self._receive(), self._stop(), self._let_go(), self._play())
        except EdgedError as error:
            await self.refuse(error)
        except NoWyomingError:
            log.debug("a client is dropped that does not speak Wyoming")
        except TimeoutError:
            gone = fields("client_let_go", protocol="wyoming")
            log.warning("a client of wyoming is let go: it reads too slowly", extra=gone)
            self._writer.transport.abort()
        except ConnectionError:
            pass
        finally:
            await self._end_request()

    async def refuse(self, error: EdgedError) -> None:
        """Say what is wrong; the connection's end tells those who do not listen.

        What the client still sends is taken for a moment: to close before would be a reset, which
        makes the system forget what was sent to it.
        """
        self._send("error", {"text": error.message, "code": error.code})
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                while await self._reader.read(HEADER_BYTES):
                    pass

    async def _receive(self) -> None:
        most = self._daemon.configuration.server.max_message_bytes
        while frame := await read_frame(self._reader, most):
            self._spoke.set()
            await self._take(frame)
            async with asyncio.timeout(SEND_SECONDS):
                await self._writer.drain()

    async def _stop(self) -> None:
        """When the daemon stops: the transcript of what was said, then the end."""
        await self._daemon.stopping.wait()
        if self._request:
            await self._request.finish_in_time()

    async def _let_go(self) -> None:
        await self._overflow.wait()
        raise TimeoutError

    # -- what a client says -----------------------------------------------------------------------

    async def _take(self, frame: Frame) -> None:
        """Do what an event says; those of other services are none of our business."""
        known: dict[str, Callable[[Frame], Awaitable[None]]] = {
            "describe": self._describe,
            "ping": self._answer_ping,
            "audio-start": self._start,
            "audio-chunk": self._hear,
            "audio-stop": self._finish,
        }
        if act := known.get(frame.type):
            await act(frame)

    async def _describe(self, frame: Frame) -> None:
        self._send("info", info(self._daemon))

    async def _answer_ping(self, frame: Frame) -> None:
        self._send("pong", {"text": frame.data.get("text")})

    async def _start(self, frame: Frame) -> None:
        await self._end_request()
        self._begin(frame)

    async def _hear(self, frame: Frame) -> None:
        request = self._request or self._begin(frame)
        await request.hear(frame.data, frame.payload)

    async def _finish(self, frame: Frame) -> None:
        if self._request:
            await self._request.finish()
            await self._end_request()
        else:
            self._send("transcript", {"text": ""})
            self._send("transcript-stop", {})

    def _begin(self, frame: Frame) -> Request:
        model = served_model(self._daemon)
        language = model.language if model else None
        self._request = Request(self._daemon, frame.data, language, self._send)
        return self._request

    async def _end_request(self) -> None:
        request, self._request = self._request, None
        if request:
            await request.leave()

    # -- what it is told --------------------------------------------------------------------------

    def _send(self, kind: str, data: dict[str, Any], payload: bytes = b"") -> None:
        if self._writer.transport.get_write_buffer_size() > MOST_UNREAD:
            self._overflow.set()
        elif not self._writer.is_closing():
            self._writer.write(encode_frame(kind, data, payload))

    async def _play(self) -> None:
        """The microphone, to a client that says nothing: what satellites expect of a microphone."""
        microphone = self._daemon.configuration.wyoming.microphone
        try:
            async with asyncio.timeout(QUIET_SECONDS if microphone else SILENT_SECONDS):
                await self._spoke.wait()
        except TimeoutError:
            if not microphone:
                return
            with self._daemon.tap.open(self._send_audio):
                self._send("audio-start", MICROPHONE_FORMAT)
                await self._spoke.wait()
        await asyncio.Event().wait()

    def _send_audio(self, pcm: bytes) -> None:
        self._send("audio-chunk", MICROPHONE_FORMAT, pcm)
