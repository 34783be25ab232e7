"""How often audio is copied on its way, by the daemon's own count."""

from __future__ import annotations

import re
import time

from edged.bench.client import exchange
from edged.bench.daemon import DaemonProcess
from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room

COPIED = "edged_audio_copied_bytes_total"
TAKEN = "edged_audio_taken_bytes_total"
SETTLE_SECONDS = 1.0
"""Before the count is read: the worker is asked for its share twice a second"""


def measure(room: Room) -> Found:
    with room.running() as daemon:
        room.warm(daemon)
        before = _counted(daemon)
        if not before:
            return Found(notes=[f"copies: this edged does not count them ({COPIED})"])
        for clip in room.clips:
            exchange(daemon.url, clip.samples)
        after = _counted(daemon)
    copied, taken = (after[name] - before[name] for name in (COPIED, TAKEN))
    series = Series(
        name="copies",
        unit="bytes a byte of audio",
        observations=[Observation("", copied, taken)],
    )
    return Found([series])


def _counted(daemon: DaemonProcess) -> dict[str, float]:
    """Both counters, over all their labels; nothing where one of them is not there."""
    time.sleep(SETTLE_SECONDS)
    text = daemon.address.ask("GET", "/metrics").decode()
    values: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE):
        if name in {COPIED, TAKEN}:
            values[name] = values.get(name, 0.0) + float(value)
    return values if len(values) == 2 else {}
