"""How many streams at once a system carries: more and more, until finals come too late.

A stream that is refused is no failure: the ones that were taken must keep their bound.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import numpy as np
from websockets.exceptions import WebSocketException

from bench import corpus
from bench.corpus import RATE
from bench.peers.hearing import Heard, judge
from bench.peers.phases import running
from bench.peers.results import Results
from bench.peers.systems import Running, Stream, System
from edged.bench.client import CHUNK, Exchange
from edged.errors import EdgedError

COUNTS = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48)
BOUND_SECONDS = 1.0
"""Of the final latency's 95th percentile"""
FINALS = 12
"""Recordings in all that few streams hear; many hear two each"""
MOST_EACH = 4
PAUSE_SECONDS = 1.2
"""Between two recordings, longer than any endpoint waits"""
CLEAN = {"librispeech_237", "ljspeech", "vctk_clean", "cmu_arctic"}
"""Sets whose energy says where speech ends"""
LONGEST_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Part:
    """A recording within a stream."""

    samples: np.ndarray
    start: int
    """The sample of the stream that it begins with"""


@dataclass(slots=True)
class Script:
    """What one stream carries."""

    samples: np.ndarray
    parts: list[Part]


def carried(systems: Sequence[System], results: Results, counts: Sequence[int]) -> None:
    """Each system with more and more streams, until it is too slow."""
    for system in systems:
        if _broken(results, system, counts):
            continue
        with running(system, results) as started:
            if started is None:
                continue
            for count in counts:
                if _broken(results, system, counts):
                    break
                step = results.once(
                    "streams", system.name, str(count), lambda n=count: _step(started, n)
                )
                print(f"{system.name}, {count} streams: {step}", flush=True)


def _broken(results: Results, system: System, counts: Sequence[int]) -> bool:
    """Whether all was measured, or it was too slow already."""
    done = results.of("streams", system.name)
    return any(not kept(step) for step in done.values()) or done.keys() >= set(map(str, counts))


def kept(step: dict[str, Any]) -> bool:
    """Whether the streams that were taken had their finals in time."""
    return step["p95"] is not None and step["p95"] < BOUND_SECONDS


def _step(started: Running, count: int) -> dict[str, Any]:
    """So many streams at once."""
    each = max(2, min(MOST_EACH, ceil(FINALS / count)))
    scripts = [write(number, count, each) for number in range(count)]
    exchanges = speak(started, scripts)
    heard = [
        one
        for script, exchange in zip(scripts, exchanges, strict=True)
        if exchange
        for one in listen(script, exchange)
    ]
    late = sorted(inf if h.final is None else h.final for h in heard if not h.early)
    return {
        "admitted": sum(exchange is not None for exchange in exchanges),
        "p50": _percentile(late, 50),
        "p95": _percentile(late, 95),
        "missing": sum(one.final is None for one in heard),
        "finals_each": sum(one.finals for one in heard) / max(1, len(heard)),
    }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    """Of values that may be infinite; None where that is the answer, or there are none."""
    if not values:
        return None
    value = float(np.percentile(values, percent, method="higher"))
    return None if value == inf else value


def write(number: int, count: int, each: int) -> Script:
    """What the stream with this number says: begun after the others, in an order of its own."""
    chosen = _recordings()
    pause = corpus.silence(PAUSE_SECONDS)
    pieces = [corpus.silence(0.5 + 4.0 * number / count)]
    parts: list[Part] = []
    for turn in range(each):
        samples = chosen[(number * each + turn) % len(chosen)]
        parts.append(Part(samples, sum(len(piece) for piece in pieces)))
        pieces += [samples, pause]
    return Script(np.concatenate(pieces), parts)


def _recordings() -> list[np.ndarray]:
    clean = [utterance for utterance in corpus.utterances() if utterance.set in CLEAN]
    return [
        samples
        for utterance in corpus.choose_evenly(clean, 3 * max(COUNTS))
        if len(samples := corpus.load(utterance.path)) <= LONGEST_SECONDS * RATE
    ]


def speak(started: Running, scripts: Sequence[Script]) -> list[Exchange | None]:
    """Speak all scripts at once, at the pace of time; None for a stream that was refused."""
    streams = [_open(started) for _ in scripts]
    length = max(len(script.samples) for script in scripts)
    begun = time.monotonic()
    due = [(end, begun + end / RATE) for end in range(CHUNK, length + CHUNK, CHUNK)]
    for end, moment in due:
        time.sleep(max(0.0, moment - time.monotonic()))
        for number, script in enumerate(scripts):
            stream, chunk = streams[number], script.samples[end - CHUNK : end]
            if stream and len(chunk):
                streams[number] = _sent(stream, chunk)
    # Who sends late because the machine is busy must not make the finals seem early.
    return [exchange and replace(exchange, sent=due) for exchange in _finished(streams)]


def _open(started: Running) -> Stream | None:
    try:
        return started.open()
    except (OSError, EdgedError, WebSocketException):
        return None


def _sent(stream: Stream, chunk: np.ndarray) -> Stream | None:
    """The stream, unless it was closed: so a server refuses, too."""
    try:
        stream.send(chunk)
    except (OSError, WebSocketException):
        return None
    return stream


def _finished(streams: Sequence[Stream | None]) -> list[Exchange | None]:
    """End all at once: whoever is waited for in turn would seem late."""
    with ThreadPoolExecutor(len(streams)) as pool:
        return list(pool.map(_finish, streams))


def _finish(stream: Stream | None) -> Exchange | None:
    """None for one that was refused after all. Raises RuntimeError when the system has ended."""
    try:
        return stream.finish() if stream else None
    except WebSocketException:
        return None


def listen(script: Script, exchange: Exchange) -> list[Heard]:
    """What came of each recording of a stream."""
    ends = [part.start / RATE - PAUSE_SECONDS / 2 for part in script.parts[1:]] + [inf]
    return [
        judge(part.samples, exchange, part.start, until)
        for part, until in zip(script.parts, ends, strict=True)
    ]
