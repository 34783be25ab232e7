"""Memory and lag over a long time: one stream of endless speech, then one of endless noise."""

from __future__ import annotations

import argparse
import random
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from bench import corpus, report
from bench.corpus import RATE
from edged.bench import displays
from edged.bench.client import CHUNK, Exchange, Pacer, StreamClient
from edged.bench.daemon import DaemonProcess, running
from edged.bench.figures import percentile
from edged.bench.processes import memory, worker_of

WARM_UP_SECONDS = 120.0
"""Left out of the slopes: allocators and caches fill"""
TIMED = ("partial", "final")
"""Events that say how far the daemon has heard"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment."""

    at: float
    """Seconds from the phase's start"""
    pss: float
    """Of all processes, in MB"""
    anonymous: float
    """The part of it that no other program can share, in MB"""
    lag: float | None
    """Audio sent minus the newest event's `end`, in seconds; None before the first event"""
    late: float
    """How far sending was behind its pace, in seconds: what the daemon did not take in time"""


class _Sampler(threading.Thread):
    """Takes a sample every few seconds until it is stopped."""

    def __init__(
        self, daemon: DaemonProcess, client: StreamClient, pacer: Pacer, every: float
    ) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._daemon_process = daemon
        self._client = client
        self._pacer = pacer
        self._every = every
        self._stop_asked = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        for number in count():
            due = started + number * self._every
            if self._stop_asked.wait(max(0.0, due - time.monotonic())):
                return
            self.samples.append(self._sample(time.monotonic() - started))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()

    def _sample(self, at: float) -> Sample:
        late = self._pacer.behind
        lag = _lag(self._client)
        processes = memory(self._daemon_process.pid)
        return Sample(
            at=at,
            pss=sum(process.pss for process in processes),
            anonymous=sum(process.anonymous for process in processes),
            lag=lag,
            late=late,
        )


def _lag(client: StreamClient) -> float | None:
    sent = client.samples / RATE
    for arrival in reversed(client.arrivals):
        if arrival.event["type"] in TIMED:
            return float(sent - arrival.event["end"])
    return None


def main() -> None:
    options = _parse()
    document = report.begin()
    for model in report.models(options):
        with running(model) as daemon:
            measured = _measure(daemon, options)
        _print(model, measured, options)
        document["models"][model] = measured
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="wall time of each phase (30)")
    parser.add_argument("--pace", type=float, default=1.0, help="8 is eight times real time (1)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples (10)")
    return parser.parse_args()


def _measure(daemon: DaemonProcess, options: argparse.Namespace) -> dict[str, Any]:
    speech = [utterance.path for utterance in corpus.utterances(options.corpus)]
    random.Random(corpus.SEED).shuffle(speech)
    noise = [track.path for track in corpus.noise_tracks(options.corpus)]
    worker = worker_of(daemon.pid)
    phases = {
        "speech": _phase(daemon, speech, options),
        "noise": _phase(daemon, noise, options),
    }
    replaced = worker_of(daemon.pid) != worker
    return {**phases, "worker_replaced": replaced, "log": daemon.complaints()}


# -- one phase ----------------------------------------------------------------------------------


def _phase(
    daemon: DaemonProcess, paths: Sequence[Path], options: argparse.Namespace
) -> dict[str, Any]:
    """Send these files in a circle for the time asked for, through one connection."""
    until = time.monotonic() + options.minutes * 60
    with StreamClient(daemon.url) as client:
        pacer = Pacer(options.pace)
        sampler = _Sampler(daemon, client, pacer, options.every)
        sampler.start()
        for chunk in _endless(paths):
            pacer.wait(len(chunk))
            client.send(chunk)
            if time.monotonic() >= until:
                break
        sampler.stop()
        heard = client.finish()
    return _result(sampler.samples, heard, options)


def _endless(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """The files one after the other, again and again, in chunks of 20 ms."""
    while True:
        for path in paths:
            samples = corpus.load(path)
            for first in range(0, len(samples), CHUNK):
                yield samples[first : first + CHUNK]


def _result(
    samples: Sequence[Sample], heard: Exchange, options: argparse.Namespace
) -> dict[str, Any]:
    warm_up = min(WARM_UP_SECONDS, options.minutes * 60 / 4)
    warm = [sample for sample in samples if sample.at >= warm_up]
    times = [sample.at for sample in warm]
    growth = _slope(times, [sample.anonymous for sample in warm])
    return {
        "audio_seconds": heard.sent[-1][0] / RATE,
        "finals": [(a.event["start"], a.event["text"]) for a in heard.of_type("final")],
        "words": len(heard.text.split()),
        "first_mb": samples[0].anonymous,
        "warm_mb": warm[0].anonymous if warm else None,
        "last_mb": samples[-1].anonymous,
        "pss_max": max(sample.pss for sample in samples),
        "growth_mb_per_hour": growth,
        "growth_mb_per_audio_hour": growth and growth / options.pace,
        "pss_growth_mb_per_hour": _slope(times, [sample.pss for sample in warm]),
        "lag_at_events": _lag_at_events(heard),
        "lag_sampled": _lag_sampled(warm),
        "late_max_seconds": max(sample.late for sample in samples),
        "finish_seconds": heard.arrivals[-1].at - heard.closed_at,
        "broken_promises": displays.count_kinds(displays.broken_promises(heard.arrivals)),
        "samples": [asdict(sample) for sample in samples],
    }


def _slope(times: Sequence[float], values: Sequence[float]) -> float | None:
    """Growth in an hour, by least squares over times in seconds."""
    if len(times) < 3:
        return None
    return float(np.polyfit(times, values, 1)[0] * 3600)


def _lag_sampled(samples: Sequence[Sample]) -> dict[str, float | None]:
    known = [(sample.at, sample.lag) for sample in samples if sample.lag is not None]
    times, lags = [at for at, _ in known], [lag for _, lag in known]
    return {"max": max(lags, default=None), "slope_per_hour": _slope(times, lags)}


def _lag_at_events(heard: Exchange) -> dict[str, float | None]:
    """For each partial and final: audio sent by its arrival minus its `end`, in seconds."""
    times = [at for _, at in heard.sent]
    lags = [
        heard.sent[max(0, bisect_right(times, at) - 1)][0] / RATE - event["end"]
        for at, event in heard.arrivals
        if event["type"] in TIMED and at <= heard.closed_at
    ]
    return {f"p{p}": percentile(lags, p) for p in (50, 99)} | {"max": max(lags, default=None)}


# -- what is shown ------------------------------------------------------------------------------


def _print(model: str, measured: dict[str, Any], options: argparse.Namespace) -> None:
    speech, noise = measured["speech"], measured["noise"]

    def row(name: str, *path: str) -> tuple[str, Any, Any]:
        first, second = speech, noise
        for key in path:
            first, second = first[key], second[key]
        return name, first, second

    rows = [
        row("audio sent, s", "audio_seconds"),
        ("finals", len(speech["finals"]), len(noise["finals"])),
        row("words", "words"),
        row("memory at first, MB", "first_mb"),
        row("memory after warm-up, MB", "warm_mb"),
        row("memory at last, MB", "last_mb"),
        row("PSS at most, MB", "pss_max"),
        row("growth, MB an hour", "growth_mb_per_hour"),
        row("growth, MB an hour of audio", "growth_mb_per_audio_hour"),
        row("growth of PSS, MB an hour", "pss_growth_mb_per_hour"),
        row("lag at events, p50 s", "lag_at_events", "p50"),
        row("lag at events, p99 s", "lag_at_events", "p99"),
        row("lag at events, max s", "lag_at_events", "max"),
        # Noise makes few events: how long ago the last one was says nothing.
        ("lag when sampled, max s", speech["lag_sampled"]["max"], None),
        ("  its slope, s an hour", speech["lag_sampled"]["slope_per_hour"], None),
        row("sending late, max s", "late_max_seconds"),
        row("close to closed, s", "finish_seconds"),
    ]
    title = f"{model}: {options.minutes:g} min each at {options.pace:g} times real time"
    report.print_table(title, ("what", "speech", "noise"), rows)
    if measured["worker_replaced"]:
        print("the worker was replaced during the run")
    for phase in (speech, noise):
        report.print_broken(model, phase["broken_promises"])
    report.print_complaints(model, measured["log"])


if __name__ == "__main__":
    main()
