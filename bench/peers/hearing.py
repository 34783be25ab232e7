"""What one stream's events say of a recording that was in it: latencies, flicker, text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.corpus import RATE
from edged.bench import displays
from edged.bench.client import Arrival, Exchange
from edged.bench.displays import Flicker
from edged.bench.hearing import EARLY_END_SECONDS, speech_bounds


@dataclass(frozen=True, slots=True)
class Heard:
    """Of one recording. Times in seconds."""

    duration: float
    """Of the recording, without the silence around it"""
    final: float | None
    """From sending the last sample of speech to receiving the last final with text"""
    early: bool
    """That final ended well before the speech: it missed words, and its latency says nothing"""
    first_partial: float | None
    """From sending the first sample of speech to receiving the first partial with text"""
    intervals: list[float]
    """From partial to partial of one utterance"""
    shown: int
    """Words newly shown"""
    changed: int
    """Of these, words that were taken back"""
    finals: int
    """With text"""
    text: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(samples: np.ndarray, heard: Exchange, start: int = 0, until: float = np.inf) -> Heard:
    """What came of an int16 recording. `start` is the sample of the stream that it begins with;
    `until` are the seconds of the stream from which on finals belong to the next one."""
    first, last = (start + bound for bound in speech_bounds(samples))
    mine = [a for a in _with_text(heard) if start / RATE - 0.5 <= _middle(a) < until]
    finals = [arrival for arrival in mine if arrival.event["type"] == "final"]
    partials = [arrival for arrival in mine if arrival.event["type"] == "partial"]
    shown = displays.utterances(mine)
    flicker = sum((displays.flicker(one) for one in shown), Flicker())
    return Heard(
        duration=len(samples) / RATE,
        final=finals[-1].at - heard.sent_at(last) if finals else None,
        early=bool(finals) and finals[-1].event["end"] < last / RATE - EARLY_END_SECONDS,
        first_partial=partials[0].at - heard.sent_at(first) if partials else None,
        intervals=[seconds for one in shown for seconds in displays.intervals(one)],
        shown=flicker.shown,
        changed=flicker.changed,
        finals=len(finals),
        text=" ".join(arrival.event["text"].strip() for arrival in finals),
    )


def _with_text(heard: Exchange) -> Sequence[Arrival]:
    events = sorted([*heard.of_type("partial"), *heard.of_type("final")], key=lambda a: a.at)
    return [arrival for arrival in events if arrival.event["text"].strip()]


def _middle(arrival: Arrival) -> float:
    """Where in the stream it was said, in seconds."""
    return float(arrival.event["start"] + arrival.event["end"]) / 2
