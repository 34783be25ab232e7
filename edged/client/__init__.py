"""A client of the daemon: follow its microphone, send it audio or recordings, from this machine or
another.

    from edged.client import Client

    for event in Client().listen():
        ...

`AsyncClient` is the same with `async for` and `await`. Events are those of `edged.messages`.
"""

from __future__ import annotations

from edged.client.asynchronous import AsyncClient
from edged.client.requests import Segment, Transcription, Word
from edged.client.sync import Client
from edged.messages import (
    Closed,
    EngineChanged,
    Error,
    Event,
    Final,
    Gap,
    Hello,
    MicrophoneChanged,
    Partial,
    Playback,
    SpeechStarted,
)

__all__ = [
    "AsyncClient",
    "Client",
    "Closed",
    "EngineChanged",
    "Error",
    "Event",
    "Final",
    "Gap",
    "Hello",
    "MicrophoneChanged",
    "Partial",
    "Playback",
    "Segment",
    "SpeechStarted",
    "Transcription",
    "Word",
]
