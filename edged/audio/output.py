"""What a source gives, written to the ring; what is muted or missed stays out of it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from edged.audio.loudness import Loudness
from edged.audio.ring import SAMPLE_BYTES, SAMPLE_RATE, AudioRing
from edged.messages import Captured, Lost, Message, encode

SMALLEST_GAP = SAMPLE_RATE // 10
"""Samples; shorter ones are jitter"""
CONTEXT = 512
"""Samples that the voice detector may look back on"""
QUIET_NEWS = 4096
"""Samples that are worth waking the daemon for while nobody speaks. Twice what it wakes the worker
for: it has nothing else to do then, where a client's audio wakes it anyway"""
ONE_OF = 4
"""So many samples tells how loud all are"""
ZEROS_SECONDS = 3.0
"""Digital silence after which it is worth a word: every real microphone hums a little"""


class Output:
    """Writes blocks to the ring and tells the daemon; keeps muted and missed audio out."""

    def __init__(self, sock: socket.socket, ring: AudioRing, position: int, clock: float) -> None:
        """`clock`: when the sample before `position` was captured, 0 if there is none yet."""
        self._socket = sock
        self._ring = ring
        self.position = position
        self._clock = clock
        self._muted = False
        self._unmuted_at = 0.0
        self._resumed = "device_lost"
        """Why the next block may be late; empty once it has come"""
        self._lock = threading.Lock()
        self.blocks = 0
        """That came so far, muted ones too"""
        self.closely = True
        """Whether the daemon is told of each block, because somebody speaks"""
        self._told = position
        self._loudness = Loudness()
        self._sound_at = time.monotonic()
        """When there was last anything but zeros"""

    def write(self, block: Any, ended: float | None = None) -> None:
        """Take a bytes-like block of float32 mono at 16 kHz. A source that knows when its sound was
        captured says when the block `ended`, and is held to it; others' ends now."""
        self.blocks += 1
        end = time.monotonic() if ended is None else ended
        begin = end - memoryview(block).nbytes / SAMPLE_BYTES / SAMPLE_RATE
        self._listen_for_sound(block)
        with self._lock:
            if self._muted or (ended is not None and begin < self._unmuted_at):
                return
            if self._clock and (self._resumed or ended is not None):
                self._close_gap(begin)
            self.position = self._ring.write(self.position, block)
            self._clock = end
            if self._is_news(block):
                self._tell()

    def _is_news(self, block: Any) -> bool:
        """Whether it is worth waking the daemon."""
        if self.closely or self.position - self._told >= QUIET_NEWS:
            return True
        samples = memoryview(block).cast("B").cast("f")[::ONE_OF]
        return self._loudness.rises(sum(map(abs, samples)) / max(1, len(samples)))

    def _tell(self) -> None:
        self._told = self.position
        self._count(Captured(self.position, self._clock))

    def _tell_rest(self) -> None:
        if self.position > self._told:
            self._tell()

    def write_at_will(self, block: Any) -> None:
        """Take a block of a source that is not bound to time."""
        with self._lock:
            if self._muted:
                return
            self.position = self._told = self._ring.write(self.position, block)
        self._count(Captured(self.position, time.monotonic()))

    def _close_gap(self, begin: float) -> None:
        """Leave room for the time in which nothing was captured, if there was any."""
        missing = round((begin - self._clock) * SAMPLE_RATE)
        if missing >= SMALLEST_GAP:
            start = self.position
            self._tell_rest()
            self.position = self._silence(start + missing)
            self.send(Lost(start, self.position, self._resumed or "overrun"))
        self._resumed = ""

    def _silence(self, position: int) -> int:
        """Zeros before `position`, so that the detector's context holds nothing old."""
        return self._ring.write(position - CONTEXT, bytes(CONTEXT * SAMPLE_BYTES))

    def _listen_for_sound(self, block: Any) -> None:
        if memoryview(block).tobytes().strip(b"\0"):
            self._sound_at = time.monotonic()

    @property
    def only_zeros(self) -> bool:
        """Whether nothing but digital silence has come for a while."""
        return time.monotonic() - self._sound_at > ZEROS_SECONDS

    def mute(self, muted: bool) -> None:
        """Stop or resume writing; what is said meanwhile never reaches the ring."""
        with self._lock:
            if muted == self._muted:
                return
            now = time.monotonic()
            self._tell_rest()
            if muted and not self._clock:
                self._clock = now
            self._muted, self._unmuted_at, self._resumed = muted, now, "muted"

    def send(self, message: Message) -> None:
        self._socket.send(encode(message))

    def _count(self, message: Captured) -> None:
        """A count that the daemon is too busy to take is made up for by the next."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(encode(message), socket.MSG_DONTWAIT)
