"""How long texts took of late, for whoever wants to see it over time without a Prometheus."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

MOST = 16_384
"""Latencies remembered, of all stages: some hours of a talkative day"""


@dataclass(frozen=True, slots=True)
class Span:
    """What latencies were in a stretch of time."""

    age: float
    """Seconds from its middle to now"""
    count: int
    p50: float
    p99: float


class Latencies:
    """The last latencies, forgotten with the daemon, in memory that does not grow."""

    def __init__(self) -> None:
        self._clocks = array("d", bytes(8 * MOST))
        """When each ended, CLOCK_MONOTONIC, seconds"""
        self._seconds = array("d", bytes(8 * MOST))
        self._stages = [""] * MOST
        self._count = 0
        """Of all that were ever added"""

    def add(self, stage: str, seconds: float, clock: float) -> None:
        place = self._count % MOST
        self._clocks[place], self._seconds[place] = clock, seconds
        self._stages[place] = sys.intern(stage)
        self._count += 1

    def of(self, stage: str, now: float, seconds: float, parts: int) -> list[Span]:
        """The last `seconds` in equal parts, oldest first; those without any are left out."""
        length = seconds / parts
        found: dict[int, list[float]] = {}
        for place in range(min(self._count, MOST)):
            age = now - self._clocks[place]
            if self._stages[place] == stage and 0 <= age < seconds:
                found.setdefault(int(age / length), []).append(self._seconds[place])
        return [_span((part + 0.5) * length, found[part]) for part in sorted(found, reverse=True)]


def _span(age: float, latencies: Sequence[float]) -> Span:
    ordered = sorted(latencies)
    return Span(age, len(ordered), percentile(ordered, 50), percentile(ordered, 99))


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The least value that so many per cent do not exceed; of ascending values, at least one."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]
