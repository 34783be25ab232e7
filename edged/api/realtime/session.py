"""One Realtime session: what its client says, and what comes of it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from edged.api.languages import check_language, model_language
from edged.api.problems import FieldError, openai_error
from edged.api.realtime.buffer import Buffer
from edged.api.realtime.conversation import Conversation, new_id
from edged.api.realtime.settings import Settings
from edged.daemon import FINISH_SECONDS, Daemon
from edged.errors import EdgedError, EngineError

LEAST_SECONDS = 0.1
"""Of audio that can be committed"""
PIECE = 1 << 16
"""Bytes of audio that are taken at once: others get their turn in between"""
MOST_COMPLETING = 4
"""Committed buffers that may wait for their text before the client has to"""

ClientEvent = dict[str, Any]


class Session:
    """Knows no socket: `send` takes the events for the client and never waits."""

    def __init__(
        self, daemon: Daemon, send: Callable[[dict[str, Any]], None], *, beta: bool
    ) -> None:
        self._daemon = daemon
        self._id = new_id("sess")
        self._settings = Settings()
        self._conversation = Conversation(send)
        self._conversation.beta = beta
        self._buffer: Buffer | None = None
        self._length = 0.0
        """Seconds of audio in the buffers before"""
        self._completing: asyncio.Queue[Buffer] = asyncio.Queue(MOST_COMPLETING)
        self._buffers: set[Buffer] = set()
        """All that are not over"""
        self._ending = False
        """Whether nothing more is taken"""
        self._orders: dict[str, Callable[[ClientEvent], Awaitable[None]]] = {
            "session.update": self._update,
            "transcription_session.update": self._update_beta,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "input_audio_buffer.done": self._done,
        }

    # -- life -----------------------------------------------------------------------------------

    def greet(self) -> None:
        """The first event."""
        self._tell_settings("created")

    async def complete_commits(self) -> None:
        """For ever: the texts of committed buffers, in their order."""
        while True:
            buffer = await self._completing.get()
            await buffer.complete()
            self._buffers.discard(buffer)
            self._completing.task_done()

    async def finish(self) -> None:
        """The daemon stops: take no more, and tell the text of what there is."""
        self._ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await self._retire(commit=self._awaits_commit)
                await self._completing.join()

    async def leave(self) -> None:
        """The client is gone."""
        self._ending = True
        leaving = [buffer.leave() for buffer in self._buffers]
        results = await asyncio.gather(*leaving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, EngineError):
                raise result

    # -- what the client says -------------------------------------------------------------------

    async def obey(self, text: str) -> None:
        """Do what an event says; what cannot be done is answered, and the session goes on."""
        event_id = None
        try:
            event = _read(text)
            event_id = event.get("event_id")
            await self._order(event)(event)
        except EdgedError as error:
            self.complain(error, event_id)

    def complain(self, error: EdgedError, event_id: object = None) -> None:
        """Tell of an error."""
        known = event_id if isinstance(event_id, str) else None
        self._conversation.tell("error", error={**openai_error(error), "event_id": known})

    def _order(self, event: ClientEvent) -> Callable[[ClientEvent], Awaitable[None]]:
        kind = event.get("type")
        order = self._orders.get(kind) if isinstance(kind, str) else None
        if order is None:
            raise FieldError(
                f"{str(kind)[:60]!r} is no event of a transcription session; there are: "
                + ", ".join(self._orders),
                code="invalid_value",
                param="type",
            )
        return order

    async def _update(self, event: ClientEvent) -> None:
        await self._change(self._settings.updated(event.get("session")))
        self._conversation.beta = False
        self._tell_settings("updated")

    async def _update_beta(self, event: ClientEvent) -> None:
        await self._change(self._settings.updated_beta(event.get("session")))
        self._conversation.beta = True
        self._tell_settings("updated")

    async def _change(self, settings: Settings) -> None:
        """Take other settings; all of them, or none."""
        check_language(settings.languages, model_language(self._daemon), "session.language")
        if self._buffer is not None and settings != self._settings:
            if self._awaits_commit:
                raise FieldError(
                    "There is audio in the buffer: commit or clear it before the settings change",
                    code="input_audio_buffer_not_empty",
                    param="session",
                )
            await self._retire(commit=False)
        self._settings = settings

    async def _append(self, event: ClientEvent) -> None:
        data = _decoded(event.get("audio"))
        if self._ending:
            return
        buffer = self._buffer = self._buffer or self._open()
        if self._is_too_long(buffer):
            raise FieldError(
                "The buffer holds more audio than server.max_audio_seconds allows: commit or clear",
                code="audio_too_long",
                param="audio",
            )
        for first in range(0, len(data), PIECE):
            await buffer.hear(data[first : first + PIECE])
            await asyncio.sleep(0)

    def _is_too_long(self, buffer: Buffer) -> bool:
        longest = self._daemon.configuration.server.max_audio_seconds
        return self._settings.detection is None and buffer.pending > longest

    def _open(self) -> Buffer:
        buffer = Buffer(self._daemon, self._settings, self._conversation, self._length)
        self._buffers.add(buffer)
        return buffer

    async def _commit(self, event: ClientEvent) -> None:
        pending = self._buffer.pending if self._buffer else 0.0
        if pending < LEAST_SECONDS:
            raise FieldError(
                f"The buffer holds {pending * 1000:.0f} ms of audio; "
                f"a commit needs {LEAST_SECONDS * 1000:.0f}",
                code="input_audio_buffer_commit_empty",
                param=event["type"],
            )
        await self._retire(commit=True)

    async def _done(self, event: ClientEvent) -> None:
        """NVIDIA's: no more audio will come."""
        if self._buffer and self._buffer.pending >= LEAST_SECONDS:
            await self._commit(event)

    async def _clear(self, event: ClientEvent) -> None:
        if buffer := self._take_buffer():
            buffer.drop()
            self._buffers.discard(buffer)
        self._conversation.tell("input_audio_buffer.cleared")

    async def _retire(self, *, commit: bool) -> None:
        """Let the buffer come to its end; `commit` makes an item of what belongs to none yet."""
        if buffer := self._take_buffer():
            if commit:
                buffer.commit()
            await self._completing.put(buffer)

    @property
    def _awaits_commit(self) -> bool:
        """Whether there is audio that only the client makes an item of."""
        return (
            self._settings.detection is None
            and self._buffer is not None
            and self._buffer.pending >= LEAST_SECONDS
        )

    def _take_buffer(self) -> Buffer | None:
        buffer, self._buffer = self._buffer, None
        if buffer:
            self._length += buffer.length
        return buffer

    def _tell_settings(self, step: str) -> None:
        effective = self._daemon.supervisor.state.effective
        model, language = effective.model if effective else None, model_language(self._daemon)
        beta = self._conversation.beta
        describe = self._settings.described_beta if beta else self._settings.described
        session = {"id": self._id, "object": "realtime.transcription_session"}
        session |= describe(model, language)
        self._conversation.tell(
            f"{'transcription_session' if beta else 'session'}.{step}", session=session
        )


def _read(text: str) -> ClientEvent:
    try:
        event = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise EdgedError(f"An event is one JSON object: {error}", code="invalid_json") from error
    if not isinstance(event, dict):
        raise EdgedError("An event is one JSON object", code="invalid_json")
    return event


def _decoded(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise FieldError(
            "audio is the samples in base64", code="missing_required_parameter", param="audio"
        )
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"audio is no base64: {error}"
        raise FieldError(message, code="invalid_value", param="audio") from error
