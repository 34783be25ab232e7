"""Recordings at the pace of time, one after the other: how long one waits, what one sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edged.bench.displays import count_kinds
from edged.bench.hearing import SILENCE_SECONDS, Hearing, hear
from edged.bench.processes import cpu_time
from edged.bench.result import LATENCY, Found, Observation, Series
from edged.bench.room import Room


def measure(room: Room) -> Found:
    heard, processor = [], []
    with room.running() as daemon:
        room.warm(daemon)
        for clip in room.spoken:
            before = cpu_time(daemon.pid)
            heard.append(hear(daemon.url, clip.name, clip.samples))
            used = (cpu_time(daemon.pid) - before).all
            processor.append(Observation(clip.name, used, clip.seconds + SILENCE_SECONDS))
        complaints = daemon.complaints()
    series = [
        *_latencies(heard),
        _rate(heard, "flicker", "of shown words", lambda h: (h.flicker.changed, h.flicker.shown)),
        _rate(heard, "finals", "a recording", lambda h: (h.finals, 1)),
        Series(name="streaming processor", unit="CPU s per s", observations=processor),
    ]
    return Found(series, notes=[*_troubles(heard), *complaints])


def _latencies(heard: Sequence[Hearing]) -> list[Series]:
    """Seconds. What a final's own latency says counts from where edged thinks that speech ended,
    `final` from where it ended by energy."""
    return [
        _seconds(heard, "first partial", lambda h: _some(h.first_partial)),
        _seconds(heard, "partial interval", lambda h: h.intervals),
        _seconds(heard, "final", lambda h: _some(None if h.early else h.final)),
        _seconds(heard, "endpoint", lambda h: h.endpoint),
        _seconds(heard, "decode", lambda h: h.decode),
    ]


def _some(value: float | None) -> Sequence[float]:
    return () if value is None else (value,)


def _seconds(
    heard: Sequence[Hearing], name: str, values: Callable[[Hearing], Iterable[float]]
) -> Series:
    found = [Observation(h.name, round(value, 6)) for h in heard for value in values(h)]
    return Series(name=f"streaming {name}", unit="s", statistics=LATENCY, observations=found)


def _rate(
    heard: Sequence[Hearing], name: str, unit: str, of: Callable[[Hearing], tuple[float, float]]
) -> Series:
    found = [Observation(h.name, *of(h)) for h in heard]
    return Series(name=f"streaming {name}", unit=unit, observations=found)


def _troubles(heard: Sequence[Hearing]) -> list[str]:
    """What should not have been."""
    broken = count_kinds(promise for one in heard for promise in one.broken)
    sentences = [f"streaming: {kind}, {count} times" for kind, count in broken]
    silent = [one.name for one in heard if not one.finals]
    return sentences + [f"streaming: no text for {', '.join(silent)}"] * bool(silent)
