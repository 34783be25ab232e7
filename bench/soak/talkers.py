"""Who takes part: a client that sends audio and is cut off, and one that follows the microphone."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from bench.corpus import RATE
from edged.bench.client import CHUNK

AGAIN_SECONDS = 0.5
"""Wait before the next try to connect"""
CATCH_UP = 4.0
"""How much faster than time what was not heard is sent again"""
MARGIN_SECONDS = 0.2
"""After the end of the last final, from where it is sent again"""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and where it was said."""

    at: float
    """Seconds: of the script for a client, CLOCK_MONOTONIC for the microphone"""
    text: str


@dataclass(slots=True)
class Notes:
    """What came."""

    words: list[Word] = field(default_factory=list)
    lags: list[tuple[float, float]] = field(default_factory=list)
    """CLOCK_MONOTONIC of a final's arrival, and seconds from the end of its speech"""
    gaps: list[tuple[float, float, str]] = field(default_factory=list)
    """From, to and why, on the words' axis"""
    finals: int = 0
    ids: list[int] = field(default_factory=list)
    """Numbers that the store has given them"""
    connections: int = 0
    errors: list[str] = field(default_factory=list)


def note_final(notes: Notes, event: dict[str, Any], origin: float) -> None:
    """`origin` is where the stream's time begins on the words' axis."""
    notes.finals += 1
    if event.get("id") is not None:
        notes.ids.append(event["id"])
    for word in event["words"] or ():
        notes.words.append(Word(origin + word["start"], word["word"]))


class Client(threading.Thread):
    """Sends the script at the pace of time; when it is cut off, it goes on where it was understood
    last."""

    def __init__(self, url: str, samples: np.ndarray) -> None:
        super().__init__(daemon=True)
        self.notes = Notes()
        self._address = url.replace("http", "ws", 1) + f"/v1/stream?rate={RATE}&words=1"
        self._samples = samples
        self._began = time.monotonic()
        self._understood = 0
        """Samples of the script about which there is nothing more to come"""
        self._websocket: ClientConnection | None = None
        self._closed = False

    def cut(self) -> None:
        """Lose the connection, as if a cable were pulled: no farewell."""
        if websocket := self._websocket:
            with contextlib.suppress(OSError):
                websocket.socket.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        while not self._closed:
            try:
                with connect(self._address, max_size=None, compression=None) as websocket:
                    self._websocket = websocket
                    self.notes.connections += 1
                    self._talk(websocket)
            except (OSError, ConnectionClosed, TimeoutError) as error:
                if not isinstance(error, ConnectionClosed):
                    self.notes.errors.append(repr(error))
                time.sleep(AGAIN_SECONDS)

    def _talk(self, websocket: ClientConnection) -> None:
        begin = self._understood
        reader = threading.Thread(target=self._read, args=(websocket, begin), daemon=True)
        reader.start()
        try:
            self._send(websocket, begin)
        finally:
            reader.join(120)

    def _send(self, websocket: ClientConnection, begin: int) -> None:
        soonest = time.monotonic()
        for first in range(begin, len(self._samples), CHUNK):
            chunk = self._samples[first : first + CHUNK]
            soonest += len(chunk) / RATE / CATCH_UP
            due = max(soonest, self._began + (first + len(chunk)) / RATE)
            time.sleep(max(0.0, due - time.monotonic()))
            websocket.send(chunk.tobytes())
        websocket.send('{"type": "close"}')

    def _read(self, websocket: ClientConnection, begin: int) -> None:
        origin = begin / RATE
        with contextlib.suppress(ConnectionClosed):
            for message in websocket:
                self._take(json.loads(message), origin)

    def _take(self, event: dict[str, Any], origin: float) -> None:
        match event["type"]:
            case "final":
                note_final(self.notes, event, origin)
                end = origin + event["end"]
                now = time.monotonic()
                self.notes.lags.append((now, now - self._began - end))
                self._understood = round((end + MARGIN_SECONDS) * RATE)
            case "gap":
                start, end = origin + event["start"], origin + event["end"]
                self.notes.gaps.append((start, end, event["reason"]))
            case "error":
                self.notes.errors.append(event["message"])
            case "closed":
                self._closed = True


class Follower(threading.Thread):
    """Follows the microphone for as long as the daemon runs."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.notes = Notes()
        self._address = url.replace("http", "ws", 1) + "/v1/transcripts?words=1&partials=0"
        self._origin: float | None = None
        """CLOCK_MONOTONIC at which the stream's time began, by its newest final"""
        self._gaps: list[dict[str, Any]] = []
        """Those before the first final"""

    def run(self) -> None:
        with (
            contextlib.suppress(ConnectionClosed),
            connect(self._address, max_size=None, compression=None) as websocket,
        ):
            self.notes.connections += 1
            for message in websocket:
                self._take(json.loads(message))

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "final":
                self._origin = event["clock"] - event["start"]
                note_final(self.notes, event, self._origin)
                now = time.monotonic()
                self.notes.lags.append((now, now - self._origin - event["end"]))
                self._place_gaps()
            case "gap":
                self._gaps.append(event)
                self._place_gaps()
            case "error":
                self.notes.errors.append(event["message"])

    def _place_gaps(self) -> None:
        if self._origin is None:
            return
        for gap in self._gaps:
            start, end = self._origin + gap["start"], self._origin + gap["end"]
            self.notes.gaps.append((start, end, gap["reason"]))
        self._gaps.clear()
