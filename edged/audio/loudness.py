"""When it becomes louder: somebody may have begun to speak, and whoever recognises is to be woken.

It need not be right: what is missed is heard a few blocks later, with the next that are looked at.
"""

from __future__ import annotations

NEWS, IDLE_NEWS = 512, 2048
"""Samples that are worth waking a process for, while somebody speaks and while nobody does: waking
it costs more than what it then does"""
LOUDER, RISE = 1.5, 1.025
"""A level so many times the floor is louder. The floor is the lowest level of late; it rises by
this factor each time it is looked at"""
LOWEST_FLOOR = 3e-4
"""-70 dBFS: from digital silence it would never rise"""


class Loudness:
    """Follows one stream of audio."""

    def __init__(self) -> None:
        self._floor = float("inf")

    def rises(self, level: float) -> bool:
        """Whether the audio that has just come is louder than what was before. `level` is its mean,
        of absolute values or of squares' root, 1 at full scale."""
        self._floor = max(LOWEST_FLOOR, min(level, self._floor * RISE))
        return level > LOUDER * self._floor
