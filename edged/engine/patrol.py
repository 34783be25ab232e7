"""Looks after a running engine every few seconds: heat, battery, load, memory, better rungs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from edged.engine.attendance import Attendance
from edged.engine.governor import Governor, Observation
from edged.engine.supervisor import Supervisor
from edged.hardware import power, thermal
from edged.hardware.root import Root
from edged.log import fields, get_logger
from edged.profiles import GovernorProfile

log = get_logger(__name__)

PATROL_SECONDS = 2.0
GROWTH_BYTES = 512 << 20
"""A worker that has grown by so much since it was first looked at leaks"""


class Patrol:
    """Observes, asks the governor, and asks the supervisor to move."""

    def __init__(
        self, supervisor: Supervisor, limits: GovernorProfile, root: Root | None = None
    ) -> None:
        self._supervisor = supervisor
        self._governor = Governor(limits)
        self._root = root or Root()
        self._attendance = Attendance(self._root)
        self._watched: int | None = None
        """The worker whose memory is known"""
        self._least = 0
        """Its memory when it was first looked at, in bytes"""

    async def run(self) -> None:
        """For ever: a fault of one look must not end the next."""
        try:
            while True:
                await asyncio.sleep(PATROL_SECONDS)
                try:
                    self.look(time.monotonic())
                except Exception:
                    log.exception("looking after the engine failed", extra=fields("engine_fault"))
        finally:
            self.close()

    def close(self) -> None:
        """Look no more."""
        self._attendance.close()

    def look(self, now: float) -> None:
        """One look; at most one move follows."""
        supervisor = self._supervisor
        change = self._attendance.look()
        for device in change.came:
            supervisor.ladder.attend(device, present=True)
        for device in change.gone:
            supervisor.lose(device)
        if not supervisor.ready:
            return
        reason = self._governor.judge(self._observe(), now)
        if reason is not None:
            supervisor.step_down(reason, self._governor.cause)
        elif self._leaks():
            supervisor.renew("its memory grows without end")
        elif supervisor.stuck:
            supervisor.renew("it writes one text again and again")
        elif supervisor.idle and self._governor.is_calm(now):
            supervisor.climb()

    def _observe(self) -> Observation:
        return Observation(
            thermal.read(self._root),
            power.read(self._root),
            self._supervisor.lag,
            self._supervisor.p95,
            self._supervisor.degenerate,
        )

    def _leaks(self) -> bool:
        pid = self._supervisor.worker_pid
        resident = _resident_bytes(pid)
        if pid != self._watched:
            self._watched, self._least = pid, resident
        return resident - self._least > GROWTH_BYTES


def _resident_bytes(pid: int | None) -> int:
    """Memory of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
