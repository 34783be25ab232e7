"""The items of a Realtime session, as its client is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from edged.api.logprobs import logprobs
from edged.messages import Final
from edged.subtitles import plain

BUFFER = "input_audio_buffer"
TRANSCRIPTION = "conversation.item.input_audio_transcription"


def new_id(kind: str) -> str:
    """An id that no other has: item_0123..."""
    return f"{kind}_{uuid4().hex[:20]}"


@dataclass(slots=True)
class Item:
    """What was said in one go, or between two commits."""

    id: str = field(default_factory=lambda: new_id("item"))
    told: str = ""
    """The text that went out as deltas, which cannot be taken back"""


class Conversation:
    """Tells of items in the order in which they come about."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self._last: str | None = None
        self.beta = False
        """Whether the client knows the beta schema only"""

    def tell(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self._send({"type": kind, "event_id": new_id("event"), **fields})

    def begin(self, item: Item, seconds: float) -> None:
        """Somebody speaks."""
        milliseconds = round(seconds * 1000)
        self.tell(f"{BUFFER}.speech_started", audio_start_ms=milliseconds, item_id=item.id)

    def stop(self, item: Item, seconds: float) -> None:
        """Nobody does any more."""
        milliseconds = round(seconds * 1000)
        self.tell(f"{BUFFER}.speech_stopped", audio_end_ms=milliseconds, item_id=item.id)

    def commit(self, item: Item) -> None:
        """Its audio is complete; its text will come."""
        previous, self._last = self._last, item.id
        place = {"previous_item_id": previous}
        self.tell(f"{BUFFER}.committed", **place, item_id=item.id)
        for step in ("created",) if self.beta else ("added", "done"):
            self.tell(f"conversation.item.{step}", **place, item=_described(item))

    def hear(self, item: Item, stable: str) -> None:
        """So much of its text will not change; what went out before is never taken back."""
        if len(stable) > len(item.told) and stable.startswith(item.told):
            self._transcribed(item, "delta", delta=stable[len(item.told) :])
            item.told = stable

    def complete(
        self, item: Item, finals: Sequence[Final], seconds: float, with_logprobs: bool
    ) -> None:
        """This is its text, whatever the deltas were."""
        finals = [final for final in finals if final.text]
        text = plain(finals)
        self.hear(item, text)
        more = {"logprobs": logprobs(finals)} if with_logprobs else {}
        usage = {"type": "duration", "seconds": round(seconds, 3)}
        self._transcribed(item, "completed", transcript=text, **more, usage=usage)

    def fail(self, item: Item, code: str, message: str) -> None:
        """It will have no text."""
        error = {"type": "server_error", "code": code, "message": message, "param": None}
        self._transcribed(item, "failed", error=error)

    def _transcribed(self, item: Item, step: str, **fields: Any) -> None:
        self.tell(f"{TRANSCRIPTION}.{step}", item_id=item.id, content_index=0, **fields)


def _described(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
