"""The file that Chrome's and Perfetto's viewers open: all processes on one clock.

Beside what they noted: a row of what was said, one of endpoints, and an arrow for each final from
the end of speech to the client.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from edged import __version__
from edged.audio.tracing import BLOCK
from edged.engine.tracing import DETECTION
from edged.errors import EdgedError
from edged.trace.journeys import Journey, Sound, finals
from edged.trace.parts import Spans
from edged.tracer import Event

ORDER = ("capture", "worker", "daemon", "client")
"""Of processes, from top to bottom"""
SPEECH, ENDPOINTS = 1, 1
"""Rows of the capture process and of a worker"""
TOGETHER = 1000.0
"""Microseconds between two windows of the detector that are shown as one span"""
FLOW = "final"
JUST_BEFORE = 1.0
"""Microseconds before its end at which an arrow leaves a span, to be still inside"""


def write(events: Sequence[Event], output: Path) -> None:
    """Write the file, compressed if its name ends in .gz. Raises EdgedError."""
    document = {
        "traceEvents": list(timeline(events)),
        "displayTimeUnit": "ms",
        "otherData": {"edged": __version__, "clock": "CLOCK_MONOTONIC"},
    }
    content = msgspec.json.encode(document)
    try:
        output.write_bytes(gzip.compress(content, 6) if output.suffix == ".gz" else content)
    except OSError as error:
        raise EdgedError(f"{output} cannot be written: {error.strerror}", code="output") from error


def timeline(events: Sequence[Event]) -> Iterator[Event]:
    spans = Spans(events)
    journeys = finals(spans)
    yield from _processes(events)
    yield from (event for event in events if event.name != DETECTION)
    yield from _windows(spans.named(DETECTION))
    yield from _speech(journeys, Sound(spans.named(BLOCK)))
    yield from _endpoints(journeys)
    for number, journey in enumerate(journeys, 1):
        yield from _arrow(number, journey, Sound(spans.named(BLOCK)).pid)


def _processes(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if event.name == "process_name":
            place = {"sort_index": ORDER.index(event.args["name"])}
            yield Event(ph="M", name="process_sort_index", pid=event.pid, tid=0, args=place)


def _windows(windows: Sequence[Event]) -> Iterator[Event]:
    """The detector's windows that were judged in one go as one span."""
    together: list[Event] = []
    for window in windows:
        if together and not _follows(together[-1], window):
            yield _joined(together)
            together = []
        together.append(window)
    if together:
        yield _joined(together)


def _follows(one: Event, other: Event) -> bool:
    same = (one.pid, one.tid) == (other.pid, other.tid)
    return same and other.ts - one.end < TOGETHER


def _joined(windows: Sequence[Event]) -> Event:
    first, last = windows[0], windows[-1]
    about = {
        "windows": sum(w.args["windows"] for w in windows),
        "probability": max(w.args["probability"] for w in windows),
    }
    return Event(
        ph="X",
        name=DETECTION,
        pid=first.pid,
        tid=first.tid,
        ts=first.ts,
        dur=last.end - first.ts,
        args=about,
    )


def _speech(journeys: Sequence[Journey], sound: Sound) -> Iterator[Event]:
    """What was said, and the silence behind it that was waited for, when it was captured."""
    yield _row(sound.pid, SPEECH, "what is heard")
    for journey, following in pairwise([*journeys, None]):
        assert journey  # the last has none behind it
        silent = min(journey.decided, following.began) if following else journey.decided
        about = {"text": journey.text}
        yield _span("speech", sound.pid, SPEECH, journey.began, journey.spoken, about)
        if silent > journey.spoken:
            waited = {"endpoint": journey.reason}
            yield _span("silence", sound.pid, SPEECH, journey.spoken, silent, waited)


def _endpoints(journeys: Sequence[Journey]) -> Iterator[Event]:
    """When the worker decided that somebody was done, and why."""
    for pid in dict.fromkeys(journey.said.pid for journey in journeys):
        yield _row(pid, ENDPOINTS, "endpoints")
    for journey in journeys:
        said = journey.said
        yield Event(
            ph="i",
            name=f"endpoint: {journey.reason}",
            pid=said.pid,
            tid=ENDPOINTS,
            ts=said.ts,
            s="t",
            args={"text": journey.text},
        )


def _arrow(number: int, journey: Journey, capture: int) -> Iterator[Event]:
    """From the end of speech through all that was done for its final."""
    through = [journey.work, journey.said, journey.taken, journey.published]
    stations = [*through, *(end for end in (journey.sent, journey.received) if end)]
    left = max(journey.began, journey.spoken - JUST_BEFORE)
    yield _point("s", number, capture, SPEECH, left)
    for station in stations:
        kind = "f" if station is stations[-1] else "t"
        yield _point(kind, number, station.pid, station.tid, station.ts)


def _point(kind: str, number: int, pid: int, tid: int, ts: float) -> Event:
    binding = None if kind == "s" else "e"
    return Event(ph=kind, name=FLOW, cat=FLOW, id=number, pid=pid, tid=tid, ts=ts, bp=binding)


def _row(pid: int, number: int, title: str) -> Event:
    return Event(ph="M", name="thread_name", pid=pid, tid=number, args={"name": title})


def _span(name: str, pid: int, tid: int, start: float, end: float, about: dict[str, Any]) -> Event:
    return Event(ph="X", name=name, pid=pid, tid=tid, ts=start, dur=end - start, args=about)
