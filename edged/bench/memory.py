"""Memory of all processes, when ready and after speech."""

from __future__ import annotations

import time
from collections.abc import Sequence

from edged.bench import processes
from edged.bench.client import exchange
from edged.bench.processes import Memory
from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room

SETTLE_SECONDS = 1.0
"""Before each look: the last imports, and the freeing after them"""
ROLES = {processes.WORKER: "worker"}


def measure(room: Room) -> Found:
    with room.running() as daemon:
        time.sleep(SETTLE_SECONDS)
        ready = processes.memory(daemon.pid)
        for clip in room.clips:
            exchange(daemon.url, clip.samples)
        time.sleep(SETTLE_SECONDS)
        used = processes.memory(daemon.pid)
    return Found([*_series("ready", ready), *_series("after speech", used)])


def _series(moment: str, found: Sequence[Memory]) -> list[Series]:
    """Together, then each."""
    parts = {"daemon": found[0].pss}
    for one in found[1:]:
        role = ROLES.get(one.name, one.name)
        parts[role] = parts.get(role, 0.0) + one.pss
    rows = {"": sum(parts.values())} | {f", {role}": size for role, size in parts.items()}
    return [
        Series(name=f"memory {moment}{part}", unit="MB PSS", observations=[Observation("", size)])
        for part, size in rows.items()
    ]
