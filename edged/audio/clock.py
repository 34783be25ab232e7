"""When sound was captured, and how its clock goes against CLOCK_MONOTONIC.

A block can come late, by what its way took, but never early. So the earliest of some seconds tell
when the samples were taken: also those of blocks that a busy machine or a sound server held back
and then gave all at once.
"""

from __future__ import annotations

import time
from collections import deque

WINDOW_SECONDS = 2.0
LONGEST_STEP = 0.1
"""Seconds between two blocks that a window counts at most: what is held back does not fill one"""
KEPT_WINDOWS = 150
"""Five minutes: a drift of 3 parts per million can be told"""
LEAST_WINDOWS = 30
"""Drift is told from a minute on; before, jitter is larger"""
STEP_SECONDS = 0.1
"""Sound that comes so much later than the clock says was lost on its way: the drift begins anew"""


class SoundClock:
    """Of one stream of sound, at its nominal rate."""

    def __init__(self, rate: int) -> None:
        """`rate` in hertz."""
        self._rate = rate
        self._frames = 0
        self._last = 0.0
        self._window = 0.0
        """Seconds that the present window has lasted"""
        self._least = self._before = float("inf")
        """Least distance of arrival and sound, in the present window and the one before"""
        self._line: deque[tuple[float, float]] = deque(maxlen=KEPT_WINDOWS)
        """Of each window: when it ended, and its least distance"""

    def take(self, frames: int, now: float) -> float:
        """When the last of the next `frames` was captured, if they came at `now`; seconds."""
        self._frames += frames
        sound = self._frames / self._rate
        self._least = min(self._least, now - sound)
        self._window += min(now - self._last, LONGEST_STEP)
        self._last = now
        if self._window >= WINDOW_SECONDS:
            self._next_window(now)
        return sound + min(self._least, self._before)

    def _next_window(self, now: float) -> None:
        if self._line and abs(self._least - self._line[-1][1]) > STEP_SECONDS:
            self._line.clear()
        self._line.append((now, self._least))
        self._before, self._least, self._window = self._least, float("inf"), 0.0

    @property
    def drift(self) -> float | None:
        """How much faster than CLOCK_MONOTONIC it goes, in parts per million, once it is known."""
        line = list(self._line)
        if len(line) < LEAST_WINDOWS:
            return None
        middle = sum(when for when, _ in line) / len(line)
        mean = sum(distance for _, distance in line) / len(line)
        rise = sum((when - middle) * (distance - mean) for when, distance in line)
        return -1e6 * rise / sum((when - middle) ** 2 for when, _ in line)


class Sleep:
    """Whether the machine has slept: CLOCK_BOOTTIME goes on meanwhile, CLOCK_MONOTONIC does not."""

    def __init__(self) -> None:
        self._asleep = _asleep()

    def seconds(self) -> float:
        """How long it has slept since the last call; 0.0 if it has not."""
        before, self._asleep = self._asleep, _asleep()
        slept = self._asleep - before
        return slept if slept > STEP_SECONDS else 0.0


def _asleep() -> float:
    """Seconds that the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
