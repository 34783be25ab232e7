"""How long texts took of late, for whoever wants to see it over time without a Prometheus."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST = 16_384
"""Latencies remembered, of all stages: some hours of a talkative day"""


class Taken(NamedTuple):
    """One latency."""

    clock: float
    """When it ended, CLOCK_MONOTONIC, seconds"""
    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Span:
    """What latencies were in a stretch of time."""

    age: float
    """Seconds from its middle to now"""
    count: int
    p50: float
    p99: float


class Latencies:
    """The last latencies, forgotten with the daemon."""

    def __init__(self) -> None:
        self._taken: deque[Taken] = deque(maxlen=MOST)

    def add(self, stage: str, seconds: float, clock: float) -> None:
        self._taken.append(Taken(clock, stage, seconds))

    def of(self, stage: str, now: float, seconds: float, parts: int) -> list[Span]:
        """The last `seconds` in equal parts, oldest first; those without any are left out."""
        length = seconds / parts
        found: dict[int, list[float]] = {}
        for taken in self._taken:
            age = now - taken.clock
            if taken.stage == stage and 0 <= age < seconds:
                found.setdefault(int(age / length), []).append(taken.seconds)
        return [_span((part + 0.5) * length, found[part]) for part in sorted(found, reverse=True)]


def _span(age: float, latencies: Sequence[float]) -> Span:
    ordered = sorted(latencies)
    return Span(age, len(ordered), percentile(ordered, 50), percentile(ordered, 99))


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The least value that so many per cent do not exceed; of ascending values, at least one."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]
