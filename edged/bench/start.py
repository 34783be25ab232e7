"""From starting the process to ready, with model and program in the page cache."""

from __future__ import annotations

import time

from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room

STARTS = 5
"""After at least one that does not count: the one that found out which rung serves"""


def measure(room: Room) -> Found:
    seconds = [Observation(f"start {number}", _start(room)) for number in range(STARTS)]
    return Found([Series(name="start", unit="s", statistics=("p50",), observations=seconds)])


def _start(room: Room) -> float:
    started = time.monotonic()
    with room.running():
        return time.monotonic() - started
