"""Whether many who only listen, and some who do not even read, slow down one who speaks.

Rounds alternate: nobody else there, and a crowd (`bench/bystanders.py`). Both of a pair speak the
same utterances, every other one to the microphone, whose events the whole crowd gets, the others
to `WS /v1/stream`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench import corpus, report
from bench.corpus import RATE
from edged.bench.client import CHUNK, Arrival, Exchange, Pacer, StreamClient, send_paced
from edged.bench.figures import spread
from edged.bench.hearing import speech_bounds
from tests.daemon import DaemonProcess

SILENCE_SECONDS = 1.2
"""Sent after each utterance, longer than any endpoint waits"""
CLEAN = {"librispeech_237", "ljspeech", "vctk_clean", "cmu_arctic"}
"""Sets whose energy says where speech ends"""
LONGEST_SECONDS = 3.5
"""Utterances that are longer are left out: finals are what is counted"""
PATIENCE = 30.0
"""Seconds to wait for a final"""
QUIET, CROWD = "nobody else", "a crowd"
WAYS = ("microphone", "stream")


class Microphone:
    """A daemon's microphone that is spoken to through a pipe, and one who follows it."""

    def __init__(self, daemon: DaemonProcess, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._sent: list[tuple[int, float]] = []
        self._samples = 0
        self.arrivals: list[Arrival] = []
        threading.Thread(target=self._follow, args=(daemon,), daemon=True).start()

    def _follow(self, daemon: DaemonProcess) -> None:
        address = daemon.ws("/v1/transcripts")
        with contextlib.suppress(ConnectionClosed), connect(address, compression=None) as websocket:
            for message in websocket:
                self.arrivals.append(Arrival(time.monotonic(), json.loads(message)))

    def speak(self, samples: np.ndarray) -> Exchange:
        """Speak int16 samples at the pace of time; what came of it until the last final."""
        known, first = len(self.arrivals), self._samples
        sent: list[tuple[int, float]] = []
        pacer = Pacer()
        for start in range(0, len(samples), CHUNK):
            chunk = samples[start : start + CHUNK]
            pacer.wait(len(chunk))
            self._pipe.write(chunk.astype("<i2").tobytes())
            self._samples += len(chunk)
            sent.append((self._samples - first, time.monotonic()))
        deadline = time.monotonic() + PATIENCE
        while self._open(known) and time.monotonic() < deadline:
            time.sleep(0.01)
        return Exchange(self.arrivals[known:], sent, time.monotonic())

    def _open(self, known: int) -> bool:
        """Whether an utterance has begun that has no final yet, or none has begun."""
        kinds = [arrival.event["type"] for arrival in self.arrivals[known:]]
        begun = kinds.count("speech_started")
        return not begun or kinds.count("final") < begun


def main() -> None:
    options = _parse()
    document = report.begin()
    for model in report.models(options):
        measured = _measure(model, options)
        document["models"][model] = measured
        _print(model, measured)
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--pairs", type=int, default=12, help="of rounds (12)")
    parser.add_argument("--files", type=int, default=10, help="utterances a round (10)")
    parser.add_argument("--idle", type=int, default=200, help="clients that only listen (200)")
    return parser.parse_args()


def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the end of speech to the last final, by situation and way."""
    spoken = [
        samples
        for utterance in corpus.choose_evenly(
            [u for u in corpus.utterances(options.corpus) if u.set in CLEAN], 10_000
        )
        if len(samples := corpus.load(utterance.path)) < LONGEST_SECONDS * RATE
    ]
    seconds: dict[str, dict[str, list[float]]] = {
        situation: {way: [] for way in WAYS} for situation in (QUIET, CROWD)
    }
    cut_off = 0
    with _listening(model, options.idle) as (daemon, microphone):
        for pair in range(options.pairs):
            first = pair * options.files
            chosen = [spoken[k % len(spoken)] for k in range(first, first + options.files)]
            _round(daemon, microphone, chosen, seconds[QUIET])
            with _crowd(daemon, options.idle) as crowd:
                _round(daemon, microphone, chosen, seconds[CROWD])
                cut_off += crowd.poll() is not None
    assert not cut_off, "the crowd did not stay"
    for ways in seconds.values():
        ways["both"] = [final for way in WAYS for final in ways[way]]
    return {way: _compare(seconds, way) for way in (*WAYS, "both")}


@contextlib.contextmanager
def _listening(model: str, idle: int) -> Iterator[tuple[DaemonProcess, Microphone]]:
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as name:
        fifo = Path(name) / "microphone"
        os.mkfifo(fifo)
        flags = ("--model", model, "--source", f"program:cat {fifo}")
        daemon = DaemonProcess(Path(name) / "daemon", flags, {"server_max_clients": idle + 50})
        try:
            daemon.wait_ready()
            with fifo.open("wb", buffering=0) as pipe:
                yield daemon, Microphone(daemon, pipe)  # type: ignore[arg-type]
        finally:
            daemon.stop()


@contextlib.contextmanager
def _crowd(daemon: DaemonProcess, idle: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.bystanders", daemon.url, str(idle)]
    with subprocess.Popen(
        command, cwd=corpus.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.communicate("")


def _round(
    daemon: DaemonProcess,
    microphone: Microphone,
    chosen: Sequence[np.ndarray],
    seconds: dict[str, list[float]],
) -> None:
    for number, samples in enumerate(chosen):
        way = WAYS[number % 2]
        followed = np.concatenate([samples, corpus.silence(SILENCE_SECONDS)])
        heard = _stream(daemon, followed) if way == "stream" else microphone.speak(followed)
        finals = [arrival for arrival in heard.of_type("final") if arrival.event["text"]]
        if finals:
            seconds[way].append(finals[-1].at - heard.sent_at(speech_bounds(samples)[1]))


def _stream(daemon: DaemonProcess, samples: np.ndarray) -> Exchange:
    with StreamClient(daemon.url) as client:
        send_paced(client, samples, Pacer())
        return client.finish()


def _compare(seconds: dict[str, dict[str, list[float]]], way: str) -> dict[str, Any]:
    spreads = {situation: spread(ways[way]) for situation, ways in seconds.items()}
    quiet, crowd = spreads[QUIET], spreads[CROWD]
    ratio = {p: round((crowd[p] or 0) / (quiet[p] or 1), 3) for p in ("p50", "p95", "p99")}
    return {
        "finals": {situation: len(ways[way]) for situation, ways in seconds.items()},
        **spreads,
        "ratio": ratio,
        "seconds": {situation: ways[way] for situation, ways in seconds.items()},
    }


def _print(model: str, measured: dict[str, Any]) -> None:
    rows = [
        (f"{way}, {name}", *(measured[way][name][p] for p in ("p50", "p95", "p99")))
        for way in measured
        for name in (QUIET, CROWD, "ratio")
    ]
    report.print_table(f"{model}: final after the end of speech", ("", "p50", "p95", "p99"), rows)


if __name__ == "__main__":
    main()
