"""Whole recordings, one after the other, as fast as they are recognised."""

from __future__ import annotations

import time
from dataclasses import dataclass

from edged.bench.client import exchange
from edged.bench.clips import Clip
from edged.bench.daemon import DaemonProcess
from edged.bench.processes import cpu_time
from edged.bench.result import Found, Observation, Series
from edged.bench.room import Room
from edged.models.check import count_words, errors


@dataclass(frozen=True)
class _Heard:
    clip: Clip
    seconds: float
    processor: float
    text: str


def measure(room: Room) -> Found:
    with room.running() as daemon:
        room.warm(daemon)
        heard = [_hear(daemon, clip) for clip in room.clips]
        complaints = daemon.complaints()
    series = [
        Series(
            name="offline recognition",
            unit="s per s of audio",
            observations=[Observation(h.clip.name, h.seconds, h.clip.seconds) for h in heard],
        ),
        Series(
            name="offline processor",
            unit="CPU s per s of audio",
            observations=[Observation(h.clip.name, h.processor, h.clip.seconds) for h in heard],
        ),
        Series(
            name="offline word errors",
            unit="of the reference's words",
            observations=[
                Observation(h.clip.name, errors(known, h.text), count_words(known))
                for h in heard
                if (known := h.clip.reference) is not None
            ],
        ),
    ]
    return Found(series, notes=complaints)


def _hear(daemon: DaemonProcess, clip: Clip) -> _Heard:
    """From sending the first sample until the daemon has said the last word."""
    before, started = cpu_time(daemon.pid), time.monotonic()
    text = exchange(daemon.url, clip.samples, partials=False).text
    seconds = time.monotonic() - started
    return _Heard(clip, seconds, (cpu_time(daemon.pid) - before).all, text)
