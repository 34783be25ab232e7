"""When the samples of a stream came, so that events can say how old their audio is."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from edged.recognizer import SAMPLE_RATE

MOST = 4096
"""Blocks that are remembered at least"""


class Arrivals:
    """Blocks of samples in the order in which they came. A few bytes each: there may be thousands,
    and the garbage collector does not see what they take."""

    def __init__(self) -> None:
        self._ends = array("q")
        """Samples that had come after each block"""
        self._clocks = array("d")
        """CLOCK_MONOTONIC of each block's last sample, in seconds"""

    def add(self, end: int, clock: float) -> None:
        """The samples before `end` were there at `clock`."""
        if len(self._ends) == 2 * MOST:
            del self._ends[:MOST], self._clocks[:MOST]
        self._ends.append(end)
        self._clocks.append(clock)

    def clock_of(self, position: int) -> float | None:
        """CLOCK_MONOTONIC at which the sample before `position` came, in seconds; None of one that
        has not come. What is forgotten came as long before the oldest block as it is long."""
        block = bisect_left(self._ends, position)
        if block == len(self._ends):
            return None
        return self._clocks[block] - (self._ends[block] - position) / SAMPLE_RATE
