"""Vosk's WebSocket protocol: a text reply for every frame of audio.

A frame is answered with the next final that is owed, or else with the text of the utterance that
is being spoken. A reply does not wait for the engine: it says what is known by then.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from starlette.websockets import WebSocket

from edged.activation import Sockets
from edged.api.frames import frames
from edged.api.guest import DONE, GOING_AWAY, guest_server, tell
from edged.api.intake import Intake
from edged.api.race import race
from edged.api.server import GuestServer
from edged.audio.pcm import PcmFormat
from edged.daemon import Daemon
from edged.errors import ClientError
from edged.messages import Event, EventWord, Final, Partial, SpeechStarted

DEFAULT_RATE = 8000
"""Hertz, of a client that does not say: as Vosk's server has it"""


def listen(daemon: Daemon, passed: Sockets = ()) -> GuestServer:
    """The server, bound. Raises PortInUseError."""
    return guest_server(daemon, "vosk", daemon.configuration.vosk.port, converse, passed)


async def converse(websocket: WebSocket, daemon: Daemon) -> None:
    """Speak with one client. Raises EdgedError for what it does wrong, TimeoutError if it does
    not read."""
    await _Conversation(websocket, daemon).run()


class _Conversation:
    def __init__(self, websocket: WebSocket, daemon: Daemon) -> None:
        self._websocket = websocket
        self._daemon = daemon
        self._rate = DEFAULT_RATE
        self._words = True
        self._alternatives = False
        self._intake: Intake | None = None
        """From the first frame of audio on, which settles the rate"""
        self._finals: deque[Final] = deque()
        """Not yet sent"""
        self._partial = ""

    async def run(self) -> None:
        try:
            await race(self._receive(), self._stop())
        finally:
            if self._intake:
                await self._intake.leave()

    async def _receive(self) -> None:
        async for frame in frames(self._websocket):
            if isinstance(frame, bytes):
                await self._hear(frame)
            elif await self._obey(frame):
                return

    async def _stop(self) -> None:
        """When the daemon stops: what was said, then the end."""
        await self._daemon.stopping.wait()
        if self._intake:
            await self._intake.finish_in_time()
            await self._tell(self._result_of_all())
        await self._websocket.close(GOING_AWAY)

    # -- what a client says -----------------------------------------------------------------------

    async def _hear(self, data: bytes) -> None:
        if self._intake is None:
            layout = PcmFormat(rate=self._rate)
            self._intake = Intake(
                self._daemon, "vosk", layout, self._note, words=True, awaited=True
            )
        await self._intake.hear(data)
        await self._tell(self._result(1) if self._finals else {"partial": self._partial})

    async def _obey(self, text: str) -> bool:
        """Do what a text frame says; whether that was the last."""
        order = _order(text)
        if "config" in order:
            self._configure(order["config"])
        if not (order.get("eof") or order.get("reset")):
            return False
        if self._intake:
            await (self._intake.finish() if order.get("eof") else self._finish_utterance())
        await self._tell(self._result_of_all())
        if order.get("eof"):
            await self._websocket.close(DONE)
        return bool(order.get("eof"))

    def _configure(self, wishes: Any) -> None:
        """What is not known here is ignored, as Vosk does."""
        if not isinstance(wishes, dict):
            raise ClientError('Send {"config": {"sample_rate": 16000}}')
        rate = _number(wishes, "sample_rate", self._rate)
        PcmFormat(rate=rate).check()
        self._rate = rate
        self._words = bool(wishes.get("words", self._words))
        self._alternatives = _number(wishes, "max_alternatives", self._alternatives) > 0

    async def _finish_utterance(self) -> None:
        assert self._intake
        await self._intake.stream.reached(await self._intake.flush())

    # -- what it is told --------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        match event:
            case Partial():
                self._partial = event.text
            case SpeechStarted():
                self._partial = ""
            case Final():
                self._partial = ""
                if event.text:
                    self._finals.append(event)

    def _result_of_all(self) -> dict[str, Any]:
        return self._result(len(self._finals))

    def _result(self, count: int) -> dict[str, Any]:
        """The next finals as one."""
        finals = [self._finals.popleft() for _ in range(count)]
        text = " ".join(final.text for final in finals)
        words = [word for final in finals for word in final.words or ()] if self._words else []
        if self._alternatives:
            confidence = min((final.confidence for final in finals), default=1.0)
            said = {"confidence": confidence} | _timed(words) | {"text": text}
            return {"alternatives": [said]}
        return _timed(words, confidence=True) | {"text": text}

    async def _tell(self, reply: dict[str, Any]) -> None:
        # With its spaces: there are clients that look for `"text" : "` and parse nothing.
        text = json.dumps(reply, ensure_ascii=False, indent=2, separators=(",", " : "))
        await tell(self._websocket, text)


def _order(text: str) -> dict[str, Any]:
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict) or not order.keys() & {"config", "eof", "reset"}:
        raise ClientError(
            'Send audio as binary frames, or {"config": {}}, {"eof": 1}, {"reset": 1}'
        )
    return order


def _number(wishes: dict[str, Any], name: str, default: int) -> int:
    try:
        return int(float(wishes.get(name, default)))
    except (TypeError, ValueError, OverflowError) as error:
        raise ClientError(f"{name} is no number") from error


def _timed(words: Sequence[EventWord], *, confidence: bool = False) -> dict[str, Any]:
    """Words as `result`; Vosk leaves it out where there are none."""
    if not words:
        return {}
    result: list[dict[str, Any]] = [
        ({"conf": word.confidence} if confidence else {})
        | {"end": word.end, "start": word.start, "word": word.word}
        for word in words
    ]
    return {"result": result}
