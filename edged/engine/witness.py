"""Somebody who sees what the engine is given and what it answers, of streams that are traced."""

from __future__ import annotations

from edged.engine.stream import Stream
from edged.messages import Message


class Witness:
    """Sees nothing. Those who do must not wait: they are told where the audio passes."""

    def heard(self, stream: Stream, start: int, end: int) -> None:
        """The engine may read this stretch of the ring from now on."""

    def missed(self, stream: Stream, end: int) -> None:
        """There is no audio before `end` that the engine does not yet have."""

    def told(self, stream: Stream, message: Message) -> None:
        """What the engine was told of a stream, or has told; and the events that came of it."""
