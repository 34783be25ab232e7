"""sherpa-onnx's streaming WebSocket protocol: float32 samples in, `Done`; results out, `Done!`."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from edged.activation import Sockets
from edged.api.frames import frames
from edged.api.guest import DONE, GOING_AWAY, guest_server, tell
from edged.api.intake import Intake
from edged.api.race import race
from edged.api.server import GuestServer
from edged.audio.pcm import PcmFormat
from edged.daemon import Daemon
from edged.hub import Subscriber
from edged.messages import Closed, Event, Final, Partial

END, GOODBYE = "Done", "Done!"


def listen(daemon: Daemon, passed: Sockets = ()) -> GuestServer:
    """The server, bound. Raises PortInUseError."""
    return guest_server(daemon, "sherpa", daemon.configuration.sherpa.port, converse, passed)


async def converse(websocket: WebSocket, daemon: Daemon) -> None:
    """Speak with one client. Raises TimeoutError if it does not read."""
    await _Conversation(websocket, daemon).run()


class _Conversation:
    def __init__(self, websocket: WebSocket, daemon: Daemon) -> None:
        self._websocket = websocket
        self._daemon = daemon
        layout = PcmFormat(daemon.configuration.sherpa.sample_rate, "f32le")
        self._subscriber = Subscriber(daemon.configuration.server.client_queue, words=True)
        self._segment = 0
        self._ending = False
        """Whether the last result is being waited for, which alone may say that it is"""
        self._last: dict[str, Any] | None = None
        """The newest final since then: the last, unless there is another"""
        self._over = False
        """Whether it has been sent"""
        self._intake = Intake(daemon, "sherpa", layout, self._note, words=True)

    async def run(self) -> None:
        try:
            await race(self._receive(), self._forward(), self._let_go(), self._stop())
        finally:
            await self._intake.leave()

    async def _receive(self) -> None:
        """Take audio and `Done` until the client is gone; other text is ignored, as there."""
        async for frame in frames(self._websocket):
            if isinstance(frame, bytes):
                await self._intake.hear(frame)
            elif frame == END and not self._ending:
                self._ending = True
                await self._intake.finish()
                self._say_goodbye()

    async def _forward(self) -> None:
        while True:
            _, encoded = await self._subscriber.get()
            text = encoded.decode()
            await tell(self._websocket, text)
            if text == GOODBYE:
                stopping = self._daemon.stopping.is_set()
                await self._websocket.close(GOING_AWAY if stopping else DONE)
                return

    async def _let_go(self) -> None:
        await self._subscriber.overflow()
        raise TimeoutError

    async def _stop(self) -> None:
        """When the daemon stops: finals first."""
        await self._daemon.stopping.wait()
        self._ending = True
        await self._intake.finish_in_time()
        self._say_goodbye()
        await asyncio.Event().wait()

    # -- what it is told --------------------------------------------------------------------------

    def _note(self, event: Event) -> None:
        match event:
            # After a final that is kept, more would overtake it; and it may come to nothing.
            case Partial() if not self._last:
                self._put(event, self._result(event.text, event.start))
            case Final() if event.text:
                self._settle(event)

    def _settle(self, final: Final) -> None:
        words = final.words or []
        result = self._result(final.text, final.start) | {
            "tokens": [f" {word.word}" for word in words],
            "timestamps": [round(word.start - final.start, 3) for word in words],
            "is_final": True,
        }
        self._segment += 1
        if self._ending:
            if self._last:
                self._put(final, self._last)
            self._last = result
        else:
            self._put(final, result)

    def _say_goodbye(self) -> None:
        """Once, though client and daemon may end it together."""
        if self._over:
            return
        self._over = True
        over = Closed("done")
        last = self._last or self._result("", 0.0)
        self._put(over, last | {"is_final": True, "is_eof": True})
        self._subscriber.put(over, GOODBYE.encode())

    def _result(self, text: str, start: float) -> dict[str, Any]:
        return {
            "text": text,
            "tokens": [],
            "timestamps": [],
            "ys_probs": [],
            "lm_probs": [],
            "context_scores": [],
            "segment": self._segment,
            "words": [],
            "start_time": start,
            "is_final": False,
            "is_eof": False,
        }

    def _put(self, event: Event, result: dict[str, Any]) -> None:
        self._subscriber.put(event, msgspec.json.encode(result))
