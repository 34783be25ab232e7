"""A WebSocket client for tests: sends audio, collects events."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from websockets.sync.client import connect

from edged.audio.files import open_recording

CHUNK = 320
"""Samples: 20 ms"""

Event = dict[str, Any]


def load(path: Path) -> np.ndarray:
    """A recording as float32 mono at 16 kHz."""
    return np.concatenate(list(open_recording(path)))


def s16(samples: np.ndarray) -> bytes:
    """Of what was 16 bits before, the same bits."""
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()


def recognize(
    url: str, samples: np.ndarray, *, query: str = "", pace: float | None = None
) -> list[Event]:
    """Send float32 audio through `WS /v1/stream`; all events until `closed`.

    `pace` 1.0 is the pace of time in 20 ms chunks, 2.0 twice as fast; None is as fast as it goes.
    """
    address = url.replace("http", "ws", 1) + f"/v1/stream?rate=16000{query}"
    with connect(address, max_size=None) as websocket:
        sender = threading.Thread(target=_send, args=(websocket, samples, pace), daemon=True)
        sender.start()
        events = [json.loads(message) for message in websocket]
        sender.join()
    return events


def _send(websocket: Any, samples: np.ndarray, pace: float | None) -> None:
    started = time.monotonic()
    step = CHUNK if pace else 16000
    for first in range(0, len(samples), step):
        piece = samples[first : first + step]
        if pace:
            due = started + (first + len(piece)) / 16000 / pace
            time.sleep(max(0.0, due - time.monotonic()))
        websocket.send(s16(piece))
    websocket.send('{"type": "close"}')


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def texts(events: list[Event]) -> list[str]:
    """The texts of the finals."""
    return [event["text"] for event in of_type(events, "final")]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * 16000), np.float32)
