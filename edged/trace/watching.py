"""What the daemon does with audio, reports and events, noted from outside.

All of a class is watched: this process is traced from its start to its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from edged.engine.stream import Stream
from edged.hub import Hub
from edged.messages import EngineChanged, Event, Final
from edged.recognizer import SAMPLE_RATE
from edged.tracer import About, Tracer

AUDIO, REPORT, PUBLISH, SEND = "take audio", "take", "publish", "send"
SOCKETS = 1
"""The row of what is sent"""


class Told(msgspec.Struct):
    """What of an event says which one it is."""

    type: str = ""
    utterance: int = 0
    end: float = 0.0
    """Seconds of the stream"""


_decode = msgspec.json.Decoder(Told).decode


def watch(folder: Path) -> None:
    """Note all that follows. Raises EdgedError where nothing can be written."""
    tracer = Tracer(folder, "daemon")
    tracer.row(SOCKETS, "sockets")

    def wrote(_result: None, stream: Stream, written: int, _clock: float) -> About:
        tracer.counter("ring", "ms", round((written - stream.floor) / SAMPLE_RATE * 1000, 1))
        return AUDIO, {"stream": stream.number, "written": written}

    tracer.watch(Stream, "wrote", wrote)
    tracer.watch(Stream, "take", _took)
    tracer.watch(Hub, "publish", _published)
    tracer.watch_async(WebSocket, "send_text", _sent, SOCKETS)


def _took(_result: None, stream: Stream, report: Any) -> About:
    name = report.__struct_config__.tag
    return f"{REPORT} {name}", {"stream": stream.number, **msgspec.to_builtins(_place(report))}


def _place(report: Any) -> dict[str, Any]:
    """Where in the stream it belongs."""
    return {k: getattr(report, k) for k in ("start", "end", "resume") if hasattr(report, k)}


def _published(_result: None, _hub: Hub, event: Event) -> About:
    more: dict[str, Any] = {}
    if isinstance(event, Final):
        more = {"latency": event.latency.total}
    elif isinstance(event, EngineChanged):
        more = {"to": str(event.to), "reason": event.reason}
    return f"{PUBLISH} {event.__struct_config__.tag}", {**told(event), **more}


def _sent(_result: None, _socket: WebSocket, text: str) -> About:
    try:
        event = _decode(text)
    except msgspec.DecodeError:
        return SEND, {}  # of another protocol
    return f"{SEND} {event.type}", told(event)


def told(event: Any) -> dict[str, Any]:
    """Which event it is, of all of its kind."""
    return {k: getattr(event, k) for k in ("utterance", "end") if hasattr(event, k)}
