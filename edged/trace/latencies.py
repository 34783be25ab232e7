"""Where the time of finals and partials went, and which operators cost most."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from edged.engine.tracing import OPERATORS
from edged.trace.journeys import Journey
from edged.trace.parts import Spans
from edged.tracer import Event

STAGES = {"encode": "encoder", "decode": "decoder", "words": "words"}
"""Of a recogniser (`Recognizer.stages`), and what people call them"""
REST = "rest of recognising"
SILENCE, QUEUE, TOTAL = "endpoint silence", "queue", "total"
MOST = 10
MILLISECOND = 1000.0

Row = tuple[str, ...]


def latency(journey: Journey, spans: Spans) -> dict[str, float]:
    """What its latency is made of, in milliseconds, in the order of time. What was recognised while
    the endpoint was yet waited for costs nothing."""
    since, until = journey.decided, journey.said.ts
    worked = {name: _overlap(found, since, until) for name, found in _stages(journey, spans)}
    recognising = _overlap([journey.work], since, until)
    parts = {
        SILENCE: journey.decided - journey.spoken,
        QUEUE: max(0.0, until - since) - recognising,
        **worked,
        REST: recognising - sum(worked.values()),
        "to the daemon": journey.taken.ts - until,
        "hub": journey.published.end - journey.taken.ts,
        "socket": journey.over.end - journey.published.end,
        TOTAL: journey.over.end - journey.spoken,
    }
    return {name: part / MILLISECOND for name, part in parts.items()}


def work(journey: Journey, spans: Spans) -> dict[str, float]:
    """How long its recognition took, whenever that was, in milliseconds."""
    parts = {name: sum(e.dur or 0.0 for e in found) for name, found in _stages(journey, spans)}
    whole = journey.work.dur or 0.0
    parts |= {REST: whole - sum(parts.values()), TOTAL: whole}
    return {name: part / MILLISECOND for name, part in parts.items()}


def _stages(journey: Journey, spans: Spans) -> Iterable[tuple[str, list[Event]]]:
    return ((shown, spans.inside(name, journey.work)) for name, shown in STAGES.items())


def _overlap(events: Sequence[Event], since: float, until: float) -> float:
    return sum(max(0.0, min(event.end, until) - max(event.ts, since)) for event in events)


def rows(journeys: Sequence[Journey], spans: Spans) -> list[Row]:
    """Stage, its share of the latency (median, longest) and how long it took (median), in
    milliseconds."""
    latencies = [latency(journey, spans) for journey in journeys]
    works = [work(journey, spans) for journey in journeys]
    names = list(latencies[0]) if latencies else []
    return [
        (name, *_shown(latencies, name, with_longest=True), *_shown(works, name))
        for name in names
        if any(part[name] >= 0.05 for part in latencies) or name in works[0]
    ]


def _shown(parts: Sequence[Mapping[str, float]], name: str, with_longest: bool = False) -> Row:
    found = [part[name] for part in parts if name in part]
    if not found:
        return ("",)
    longest = (f"{max(found):.1f}",) if with_longest else ()
    return (f"{median(found):.1f}", *longest)


def operators(events: Iterable[Event]) -> list[Row]:
    """Those that cost most: graph, type, how often they ran, milliseconds, share of all of them."""
    graphs: dict[tuple[int, int], str] = {}
    times: dict[tuple[str, str], float] = defaultdict(float)
    runs: Counter[tuple[str, str]] = Counter()
    for event in events:
        row = event.pid, event.tid
        if event.name == "thread_name" and event.args["name"].startswith(OPERATORS):
            graphs[row] = event.args["name"].removeprefix(OPERATORS)
        elif event.ph == "X" and row in graphs:
            key = graphs[row], event.name
            times[key] += event.dur or 0.0
            runs[key] += 1
    whole = sum(times.values())
    dearest = sorted(times.items(), key=lambda item: -item[1])[:MOST]
    return [
        (*key, str(runs[key]), f"{took / MILLISECOND:.0f}", f"{took / whole:.1%}")
        for key, took in dearest
    ]
