"""What is counted as it happens, for Prometheus and the dashboard.

What is so at the moment is read when somebody asks: edged/api/metrics.py.
"""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from edged.engine.stream import Stream
from edged.latencies import Latencies
from edged.messages import Event, Final, Gap, Partial, Rung
from edged.recognizer import SAMPLE_RATE

BUCKETS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10)
"""Seconds: close together where finals come, so that P50 and P99 can be told from them"""
FINAL_STAGES = ("endpoint", "decode", "total")
"""Fields of a final's latency"""
STAGES = ("first_partial", *FINAL_STAGES)

disable_created_metrics()  # type: ignore[no-untyped-call]


class Meters:
    """Counters and histograms since the start. Labels have few values: no text of anybody's."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.latencies = Latencies()
        self._latency = Histogram(
            "edged_latency_seconds",
            "Of audio that came at the pace of time. endpoint: silence waited for; decode: from "
            "then to the final; total: from the last speech to the final; first_partial: from the "
            "first speech to the first word shown",
            ("stage", "rung"),
            registry=registry,
            buckets=BUCKETS,
        )
        self._finals = Counter(
            "edged_finals",
            "Utterances that ended; text none: it was no speech",
            ("source", "text"),
            registry=registry,
        )
        self._words = Counter("edged_words", "Words written", ("source",), registry=registry)
        self._speech = Counter(
            "edged_speech_seconds", "Audio in utterances", ("source",), registry=registry
        )
        self._gaps = Counter(
            "edged_gaps", "Stretches that were not heard", ("source", "reason"), registry=registry
        )
        self._gap_seconds = Counter(
            "edged_gap_seconds", "Audio that was not heard", ("source", "reason"), registry=registry
        )
        self._moves = Counter(
            "edged_engine_moves", "Changes of the rung, by cause", ("cause",), registry=registry
        )
        self._shown: WeakKeyDictionary[Stream, int] = WeakKeyDictionary()
        """The last utterance of which something was shown"""

    def moved(self, cause: str) -> None:
        """The rung changed; `cause` is one of a few words."""
        self._moves.labels(cause).inc()

    def heard(self, stream: Stream, event: Event) -> None:
        """An event of a stream, as it is published."""
        source = "microphone" if stream.live else "client"
        match event:
            case Partial():
                self._partial(stream, event)
            case Final():
                self._final(stream, event, source)
            case Gap():
                self._gaps.labels(source, event.reason).inc()
                self._gap_seconds.labels(source, event.reason).inc(max(0, event.end - event.start))

    def _partial(self, stream: Stream, event: Partial) -> None:
        if self._shown.get(stream) == event.utterance:
            return
        self._shown[stream] = event.utterance
        start = _samples(event.start)
        if stream.is_paced(start, _samples(event.end)):
            seconds = time.monotonic() - stream.clock_of(start)
            self._observe("first_partial", stream.engine.effective, seconds)

    def _final(self, stream: Stream, event: Final, source: str) -> None:
        self._finals.labels(source, "some" if event.text else "none").inc()
        self._words.labels(source).inc(len(event.text.split()))
        self._speech.labels(source).inc(event.end - event.start)
        if event.text and stream.is_paced(_samples(event.start), _samples(event.end)):
            for stage in FINAL_STAGES:
                self._observe(stage, event.engine.effective, getattr(event.latency, stage))

    def _observe(self, stage: str, rung: Rung | None, seconds: float) -> None:
        self._latency.labels(stage, str(rung or "none")).observe(max(0.0, seconds))
        self.latencies.add(stage, max(0.0, seconds), time.monotonic())


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
