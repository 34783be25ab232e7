"""Whose fault it is that workers end: the samples', the rung's, or nobody's."""

from __future__ import annotations

from collections import deque

from edged.messages import Rung, Working

DEATHS, KILLS = 2, 5
"""Workers in a row that died, or were killed from outside, at the same samples before these are
blamed: killed for what they need, perhaps"""
FAULTS, FAULTS_SECONDS = 4, 60.0
"""So many faults of a rung in so short a time, and it is left"""


class Blame:
    """Remembers how workers have ended."""

    def __init__(self) -> None:
        self._working: Working | None = None
        self._deaths = 0
        """Workers in a row that ended at `_working`"""
        self._rung: Rung | None = None
        self._faults: deque[float] = deque(maxlen=FAULTS)

    def samples(self, working: Working | None, fault: bool) -> bool:
        """A worker has ended at these samples: whether they are to blame."""
        if working is None:
            return False
        self._deaths = self._deaths + 1 if working == self._working else 1
        self._working = working
        return self._deaths >= (DEATHS if fault else KILLS)

    def rung(self, rung: Rung, fault: bool, now: float) -> bool:
        """A worker of this rung has ended: whether the rung is to blame."""
        if rung != self._rung:
            self._rung = rung
            self._faults.clear()
        if fault:
            self._faults.append(now)
        return len(self._faults) == FAULTS and now - self._faults[0] < FAULTS_SECONDS

    def forget(self) -> None:
        """What was blamed is dealt with."""
        self._working = None
        self._deaths = 0
        self._faults.clear()
