"""The way of each text, from the last sound that it is about to the client's socket."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edged.audio.tracing import BLOCK
from edged.engine.tracing import FINAL, PARTIAL
from edged.recognizer import SAMPLE_RATE
from edged.trace.parts import Spans
from edged.trace.play import RECEIVE
from edged.trace.watching import PUBLISH, REPORT, SEND
from edged.tracer import Event

MICROSECONDS = 1e6
UTTERANCE = ("stream", "start")
EVENT = ("utterance", "end")
"""What tells events of one kind apart"""


class Sound:
    """When each sample of the microphone was captured."""

    def __init__(self, blocks: Sequence[Event]) -> None:
        self._written: list[int] = [block.args["written"] for block in blocks]
        self._clocks = [block.ts for block in blocks]
        self.pid = blocks[0].pid

    def clock(self, position: int) -> float:
        """When the sample before `position` was, in microseconds of CLOCK_MONOTONIC."""
        index = min(bisect_left(self._written, position), len(self._written) - 1)
        return self._clocks[index] - (self._written[index] - position) / SAMPLE_RATE * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Journey:
    """One final or partial. Times are microseconds of CLOCK_MONOTONIC."""

    text: str
    began: float
    """When the utterance did"""
    spoken: float
    """When the last sound was captured that the text is about: of a final the end of speech"""
    decided: float
    """When that was captured which made the endpoint clear; of a partial as `spoken`"""
    reason: str
    """Of the endpoint"""
    work: Event
    """The recognition"""
    said: Event
    """The worker's report"""
    taken: Event
    """By the daemon"""
    published: Event
    sent: Event | None
    """Into a follower's socket, if there was one"""
    received: Event | None
    """By the client of `edged trace`"""

    @property
    def over(self) -> Event:
        """The last that the daemon did for it."""
        return self.sent or self.published


def finals(spans: Spans) -> list[Journey]:
    """Of the microphone, in their order."""
    return list(_journeys(spans, "said", "final", ("stream", "start", "resume")))


def partials(spans: Spans) -> list[Journey]:
    """The same."""
    return list(_journeys(spans, "heard", "partial", ("stream", "start", "end")))


def _journeys(spans: Spans, report: str, kind: str, keys: Sequence[str]) -> Iterator[Journey]:
    sound = Sound(spans.named(BLOCK))
    work = _Work(spans)
    taken = _Next(spans.named(f"{REPORT} {report}"), keys)
    sent = _Next(spans.named(f"{SEND} {kind}"), EVENT)
    received = _Next(spans.named(f"{RECEIVE} {kind}"), EVENT)
    for said in spans.named(f"report {report}"):
        took, worked = taken.after(said), work.of(said)
        published = spans.inside(f"{PUBLISH} {kind}", took) if took else []
        if not (took and worked and published):
            continue
        told = said.args
        end = told.get("speech_end", told["end"])
        yield Journey(
            text=told["text"],
            began=sound.clock(told["start"]),
            spoken=sound.clock(end),
            decided=sound.clock(max(end, told.get("decided", end))),
            reason=told.get("reason", ""),
            work=worked,
            said=said,
            taken=took,
            published=published[0],
            sent=sent.after(published[0]),
            received=received.after(published[0]),
        )


def _key(event: Event, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(event.args.get(name) for name in names)


class _Next:
    """Finds what came next of the same: a new worker may say again what the last one had said."""

    def __init__(self, events: Sequence[Event], names: Sequence[str]) -> None:
        self._names = names
        self._same: dict[tuple[Any, ...], list[Event]] = {}
        for event in events:
            self._same.setdefault(_key(event, names), []).append(event)

    def after(self, event: Event) -> Event | None:
        same = self._same.get(_key(event, self._names), [])
        return next((other for other in same if other.ts >= event.ts), None)


class _Work:
    """Which recognition a report came of: the last one of its utterance before it."""

    def __init__(self, spans: Spans) -> None:
        self._done: dict[tuple[Any, ...], list[Event]] = {}
        announced: dict[tuple[bool, int], list[Event]] = {}
        for told in spans.named("report working"):
            key = told.args["final"], told.args["end"] - told.args["start"]
            announced.setdefault(key, []).append(told)
        for name, final in ((PARTIAL, False), (FINAL, True)):
            for event in spans.named(name):
                alike = announced.get((final, event.args["samples"]), [])
                if told_of := max((e for e in alike if e.ts <= event.ts), key=_began, default=None):
                    self._done.setdefault(_key(told_of, UTTERANCE), []).append(event)

    def of(self, report: Event) -> Event | None:
        done = self._done.get(_key(report, UTTERANCE), [])
        return max((e for e in done if e.ts <= report.ts), key=_began, default=None)


def _began(event: Event) -> float:
    return event.ts
