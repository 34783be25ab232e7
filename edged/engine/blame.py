"""Whose fault it is that workers end: the samples', the rung's, or nobody's."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from edged.messages import Rung, Working

DEATHS, KILLS = 2, 5
"""Workers in a row that died, or were killed from outside, at the same samples before these are
blamed: killed for what they need, perhaps"""
FAULTS, FAULTS_SECONDS = 4, 60.0
"""So many faults of a rung in so short a time, and it is left"""


class Blame:
    """Remembers how workers have ended."""

    def __init__(self) -> None:
        self.suspects: dict[Working, int] = {}
        """What workers were at when they ended, and how many in a row did"""
        self._rung: Rung | None = None
        self._faults: deque[float] = deque(maxlen=FAULTS)

    def samples(self, working: Collection[Working], fault: bool) -> Working | None:
        """A worker has ended while it was at these samples: which of them are to blame.

        Of several at once the first may only have stood beside the guilty ones: where there are
        suspects, let a worker recognise one utterance at a time.
        """
        if not working:
            return None
        self.suspects = {each: self.suspects.get(each, 0) + 1 for each in working}
        most = max(self.suspects, key=lambda each: self.suspects[each])
        return most if self.suspects[most] >= (DEATHS if fault else KILLS) else None

    def survived(self, stream: int, position: float) -> bool:
        """A worker has gone past the samples before `position`, or the stream is closed: whether
        that was the last suspect."""
        cleared = [s for s in self.suspects if s.stream == stream and s.end <= position]
        for suspect in cleared:
            del self.suspects[suspect]
        return bool(cleared) and not self.suspects

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
        self.suspects = {}
        self._faults.clear()
