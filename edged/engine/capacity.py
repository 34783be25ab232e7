"""How many streams a rung can serve in time, from what a second of audio costs it."""

from __future__ import annotations

import math

from edged.messages import CHECK_CLIP_SECONDS

SHARE = 0.5
"""Of a lane's time that may be promised away. What is left is for partials, for several who fall
silent in the same moment, and for whatever else the machine does"""
RUNS = 2.5
"""A second of audio is recognised so many times but for partials: at every pause, and the words one
by one"""
FIRST_SECONDS = 60.0
"""Audio that the estimate from the check clip counts for"""
HALF_LIFE_SECONDS = 300.0
"""Audio after which an observation counts half"""


class Capacity:
    """Follows one worker."""

    def __init__(self, check_seconds: float, lanes: int) -> None:
        """`check_seconds` is how long a partial of the check clip takes."""
        self._lanes = lanes
        self._audio = FIRST_SECONDS
        self._work = FIRST_SECONDS * RUNS * check_seconds / CHECK_CLIP_SECONDS

    def learn(self, work: float, audio: float) -> None:
        """So many seconds of work, partials left out, went into so many seconds of audio."""
        fading = 0.5 ** (audio / HALF_LIFE_SECONDS)
        self._work = self._work * fading + work
        self._audio = self._audio * fading + audio

    @property
    def streams(self) -> int:
        """How many streams at the pace of time it serves in time, one at least."""
        cost = self._work / self._audio
        return max(1, math.floor(SHARE * self._lanes / cost)) if cost > 0 else 1
