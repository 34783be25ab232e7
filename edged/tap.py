"""The microphone's audio as it comes, for those who want more than its text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from edged.engine.stream import Stream
from edged.recognizer import SAMPLE_RATE

Hearer = Callable[[bytes], None]
"""Is given 16 bit samples at 16 kHz, and must not wait"""
MOST = 10 * SAMPLE_RATE
"""Samples given at once; of more, the oldest are left out"""


class Tap:
    """Hands audio on from the ring of the microphone's stream."""

    def __init__(self) -> None:
        self._hearers: set[Hearer] = set()
        self._position = 0
        """The first sample that was not handed on"""

    @contextlib.contextmanager
    def open(self, hearer: Hearer) -> Iterator[None]:
        self._hearers.add(hearer)
        try:
            yield
        finally:
            self._hearers.discard(hearer)

    def begin(self, stream: Stream) -> None:
        """From here on it is this stream."""
        self._position = stream.written

    def skip(self, end: int) -> None:
        """Nothing before `end` was captured: what the ring holds there is older."""
        self._position = max(self._position, end)

    def flow(self, stream: Stream) -> None:
        """Hand on what has come."""
        start, self._position = self._position, stream.written
        if self._hearers and start < stream.written:
            pcm = _s16(stream, max(start, stream.written - MOST))
            for hearer in list(self._hearers):
                hearer(pcm)


def _s16(stream: Stream, start: int) -> bytes:
    """A device's 16 bits are those that it gave."""
    samples = stream.ring.view(start, stream.written) * 32768
    pcm: bytes = np.clip(samples, -32768, 32767).astype("<i2").tobytes()
    return pcm
