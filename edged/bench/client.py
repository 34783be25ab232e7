"""A client of `WS /v1/stream` that notes when each sample left and each event came."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from bisect import bisect_left
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edged.errors import EdgedError
from edged.recognizer import SAMPLE_RATE

CHUNK = 320
"""Samples of one message at the pace of time: 20 ms"""
BLOCK = SAMPLE_RATE
"""Samples of one message without a pace"""
PATIENCE = 300.0
"""Seconds that a daemon may take to finish what it was sent"""


class Arrival(NamedTuple):
    """An event and when it came."""

    at: float
    """CLOCK_MONOTONIC, seconds"""
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """All that went over one connection."""

    arrivals: list[Arrival]
    sent: list[tuple[int, float]]
    """After each message: samples sent so far, and the CLOCK_MONOTONIC in seconds at which it was
    sent, or due"""
    closed_at: float
    """CLOCK_MONOTONIC at which the end was announced, in seconds"""

    def sent_at(self, sample: int) -> float:
        """CLOCK_MONOTONIC at which the message with this sample was sent, in seconds."""
        return self.sent[bisect_left(self.sent, (sample + 1, 0.0))][1]

    def of_type(self, kind: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.event["type"] == kind]

    @property
    def text(self) -> str:
        """The finals, one after the other."""
        texts = (arrival.event["text"] for arrival in self.of_type("final"))
        return " ".join(text for text in texts if text)


class StreamClient:
    """One connection: send from the caller's thread, events are read in another."""

    def __init__(self, url: str, words: bool = False, partials: bool = True) -> None:
        """`url` is the daemon's, http://HOST:PORT; `words` asks for their times."""
        query = f"rate={SAMPLE_RATE}&words={words:d}&partials={partials:d}"
        address = url.replace("http", "ws", 1) + f"/v1/stream?{query}"
        # Who is made to wait gets the answer to a ping after all that was sent before it.
        connection = connect(address, max_size=None, compression=None, ping_interval=None)
        self._open = contextlib.ExitStack()
        self._websocket = self._open.enter_context(connection)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.arrivals: list[Arrival] = []
        self.sent: list[tuple[int, float]] = []
        self.samples = 0
        """Sent so far"""
        self._reader.start()

    def __enter__(self) -> StreamClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # finish() says that something is missing
            for message in self._websocket:
                self.arrivals.append(Arrival(time.monotonic(), json.loads(message)))

    def send(self, samples: np.ndarray, due: float | None = None) -> None:
        """Send int16 samples as one message; waits while the daemon takes no more.

        What was `due` at a time counts as sent then: who is made to wait gets the text later.
        """
        self._websocket.send(samples.astype("<i2").tobytes())
        self.samples += len(samples)
        self.sent.append((self.samples, time.monotonic() if due is None else due))

    def finish(self) -> Exchange:
        """Announce the end and wait for the last event. Raises EdgedError if it never comes."""
        closed_at = time.monotonic()
        self._websocket.send('{"type": "close"}')
        self._reader.join(PATIENCE)
        if not self.arrivals or self.arrivals[-1].event["type"] != "closed":
            last = self.arrivals[-1].event if self.arrivals else "nothing"
            raise EdgedError(
                f"the daemon did not say `closed`; it said last: {last}", code="cut_off"
            )
        return Exchange(self.arrivals, self.sent, closed_at)


class Pacer:
    """Says when each sample is due."""

    def __init__(self, pace: float = 1.0) -> None:
        """`pace` 1.0 is the pace of time, 2.0 twice as fast."""
        self._pace = pace
        self._started = time.monotonic()
        self._due = self._started

    def wait(self, samples: int) -> float:
        """Sleep until these further samples would have been spoken; when that is."""
        self._due += samples / SAMPLE_RATE / self._pace
        time.sleep(max(0.0, self._due - time.monotonic()))
        return self._due

    @property
    def behind(self) -> float:
        """How late the last samples were sent, in seconds; what the daemon's slowness adds up."""
        return max(0.0, time.monotonic() - self._due)


def exchange(
    url: str,
    samples: np.ndarray,
    *,
    pace: float | None = None,
    words: bool = False,
    partials: bool = True,
) -> Exchange:
    """Send a whole int16 recording; without `pace` as fast as the daemon takes it."""
    with StreamClient(url, words, partials) as client:
        if pace is None:
            for first in range(0, len(samples), BLOCK):
                client.send(samples[first : first + BLOCK])
        else:
            send_paced(client, samples, Pacer(pace))
        return client.finish()


def send_paced(client: StreamClient, samples: np.ndarray, pacer: Pacer) -> None:
    """Send int16 samples in chunks of 20 ms, each when its last sample would have been spoken."""
    for first in range(0, len(samples), CHUNK):
        chunk = samples[first : first + CHUNK]
        client.send(chunk, pacer.wait(len(chunk)))
