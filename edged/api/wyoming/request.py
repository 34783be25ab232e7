"""One transcription for a Wyoming client: from its audio's start to its transcript."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from edged.api.intake import Intake, place
from edged.audio.pcm import PcmFormat
from edged.daemon import Daemon
from edged.errors import AudioError
from edged.messages import Event, Final, Partial, SpeechStarted

Send = Callable[[str, dict[str, Any]], None]
"""An event's type and data, to the client"""


class Request:
    """Takes one stream of audio and sends what is heard."""

    def __init__(
        self, daemon: Daemon, data: dict[str, Any], language: str | None, send: Send
    ) -> None:
        """`data` is the format, of `audio-start` or `audio-chunk`. Raises AudioError for audio
        that cannot be read, EngineError when all places are taken."""
        self._layout = layout_of(data)
        self._send = send
        self._language = {"language": language} if language else {}
        self._growth = Growth()
        self._texts: list[str] = []
        self._over = False
        with contextlib.ExitStack() as places:
            places.enter_context(place(daemon))
            self._intake = Intake(daemon, "wyoming", self._layout, self._note)
            self._places = places.pop_all()
        send("transcript-start", self._language)

    async def hear(self, data: dict[str, Any], payload: bytes) -> None:
        """Take a chunk. Raises AudioError if it is of another kind than the first."""
        if layout_of(data) != self._layout:
            raise AudioError("The format of the audio changed on its way", code="bad_encoding")
        await self._intake.hear(payload)

    async def finish(self) -> None:
        """Recognise all that came, and send the transcript."""
        await self._intake.finish()
        self._conclude()

    async def finish_in_time(self) -> None:
        """The same, with what is recognised after a while: the daemon is about to stop."""
        await self._intake.finish_in_time()
        self._conclude()

    def _conclude(self) -> None:
        """Once: client and daemon may end it together."""
        if not self._over:
            self._over = True
            self._send("transcript", {"text": " ".join(self._texts), **self._language})
            self._send("transcript-stop", {})

    async def leave(self) -> None:
        """Free its place, whatever became of it."""
        with self._places:
            await self._intake.leave()

    def _note(self, event: Event) -> None:
        match event:
            case SpeechStarted():
                self._send("voice-started", {"timestamp": _milliseconds(event.start)})
            case Partial():
                self._chunk(self._growth.partial(event.stable))
            case Final():
                self._chunk(self._growth.final(event.text))
                if event.text:
                    self._texts.append(event.text)
                self._send("voice-stopped", {"timestamp": _milliseconds(event.end)})

    def _chunk(self, text: str) -> None:
        if text and not self._over:
            self._send("transcript-chunk", {"text": text})


class Growth:
    """Text that only grows, a piece at a time: what was sent cannot be taken back.

    A stable word may yet be written otherwise in the final; the transcript at the end has it right.
    """

    def __init__(self) -> None:
        self._sent = 0
        """Words of the open utterance"""
        self._any = False

    def partial(self, stable: str) -> str:
        """What is new in an utterance's stable text."""
        words = stable.split()
        new = words[self._sent :]
        self._sent = max(self._sent, len(words))
        return self._piece(new)

    def final(self, text: str) -> str:
        """What is new in an utterance's text, which ends it."""
        new = text.split()[self._sent :]
        self._sent = 0
        return self._piece(new)

    def _piece(self, words: list[str]) -> str:
        """The words, apart from those before."""
        if not words:
            return ""
        space, self._any = " " if self._any else "", True
        return space + " ".join(words)


def layout_of(data: dict[str, Any]) -> PcmFormat:
    """The format that an event names. Raises AudioError."""
    rate, width, channels = (data.get(name) for name in ("rate", "width", "channels"))
    if not (isinstance(rate, int) and isinstance(channels, int)):
        raise AudioError("Audio needs rate, width and channels", code="bad_rate")
    if width != 2:
        raise AudioError("Send samples of 16 bits: width 2", code="bad_encoding")
    layout = PcmFormat(rate, "s16le", channels)
    layout.check()
    return layout


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
