"""Latency, flicker and CPU of recognition at the pace of time, one stream at a time."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench import corpus, displays, report
from bench.client import Exchange, Pacer, StreamClient, exchange, send_paced
from bench.corpus import RATE, Utterance
from bench.displays import Broken, Flicker
from bench.processes import CpuTime, complaints, cpu_time, running
from tests.daemon import DaemonProcess

FRAME = RATE // 100
"""Samples over which energy is measured: 10 ms"""
SPEECH_RANGE_DB = 35.0
"""Frames less far below the loudest one than this are speech"""
SILENCE_SECONDS = 1.5
"""Sent after each file, longer than any endpoint waits"""
EARLY_END_SECONDS = 0.3
"""A last final that ends so long before the speech has missed words; its latency says nothing"""
IDLE_STREAM_SECONDS = 20.0
IDLE_SECONDS = 10.0
SETTLE_SECONDS = 2.0
STEADY_NOISE = "noise/dev/gsc_pink_noise.flac"


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file, heard at the pace of time. Times in seconds."""

    path: str
    duration: float
    """Of the file, without the silence after it"""
    speech: float
    """From the first to the last loud frame"""
    final: float | None
    """From sending the last sample of speech to receiving the last final with text"""
    reported: list[float]
    """`latency.total` of the finals with text"""
    first_partial: float | None
    """From sending the first sample of speech to receiving the first partial with text"""
    intervals: list[float]
    """From partial to partial of one utterance"""
    flicker: Flicker
    finals: int
    """With text"""
    early: bool
    """The last final ended well before the speech"""
    after_close: bool
    """The last final came only after the client had announced the end"""
    text: str
    broken: list[Broken]
    """Promises of the protocol that were not kept"""


def main() -> None:
    options = _parse()
    document = report.begin()
    chosen = corpus.choose_evenly(
        [u for u in corpus.utterances(options.corpus) if u.core], options.files
    )
    for model in report.models(options):
        with running(model) as daemon:
            measured = _measure(daemon, chosen, options)
        _print(model, measured)
        document["models"][model] = measured
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=60, help="evenly over the core sets (60)")
    parser.add_argument("--no-idle", action="store_true", help="skip the idle CPU")
    return parser.parse_args()


def _measure(
    daemon: DaemonProcess, chosen: Sequence[Utterance], options: argparse.Namespace
) -> dict[str, Any]:
    before = cpu_time(daemon)
    results = [_hear(daemon.url, utterance) for utterance in chosen]
    used = cpu_time(daemon) - before
    return {
        **_summary(results),
        "cpu": _cpu_per_second(used, results),
        "idle_percent": {} if options.no_idle else _idle(daemon, options.corpus),
        "log": complaints(daemon),
        "files": [asdict(result) for result in results],
    }


# -- one file -----------------------------------------------------------------------------------


def speech_bounds(samples: np.ndarray) -> tuple[int, int]:
    """First and last sample of the speech in an int16 recording, by energy alone."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = (frames**2).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10))
    return int(loud[0]) * FRAME, (int(loud[-1]) + 1) * FRAME - 1


def _hear(url: str, utterance: Utterance) -> FileResult:
    samples = corpus.load(utterance.path)
    followed = np.concatenate([samples, corpus.silence(SILENCE_SECONDS)])
    return _result(utterance, samples, exchange(url, followed, pace=1.0))


def _result(utterance: Utterance, samples: np.ndarray, heard: Exchange) -> FileResult:
    first, last = speech_bounds(samples)
    finals = [arrival for arrival in heard.of_type("final") if arrival.event["text"]]
    partials = [arrival for arrival in heard.of_type("partial") if arrival.event["text"]]
    shown = displays.utterances(heard.arrivals)
    return FileResult(
        path=f"{utterance.set}/{utterance.path.name}",
        duration=len(samples) / RATE,
        speech=(last - first) / RATE,
        final=finals[-1].at - heard.sent_at(last) if finals else None,
        reported=[final.event["latency"]["total"] for final in finals],
        first_partial=partials[0].at - heard.sent_at(first) if partials else None,
        intervals=[seconds for one in shown for seconds in displays.intervals(one)],
        flicker=sum((displays.flicker(one) for one in shown), Flicker()),
        finals=len(finals),
        early=bool(finals) and finals[-1].event["end"] < last / RATE - EARLY_END_SECONDS,
        after_close=bool(finals) and finals[-1].at > heard.closed_at,
        text=heard.text,
        broken=displays.broken_promises(heard.arrivals),
    )


# -- all files ----------------------------------------------------------------------------------


def _summary(results: Sequence[FileResult]) -> dict[str, Any]:
    final = [r.final for r in results if r.final is not None and not r.early]
    early = [r.final for r in results if r.final is not None and r.early]
    flicker = sum((r.flicker for r in results), Flicker())
    return {
        "final_seconds": _spread(final),
        "reported_total_seconds": _spread([s for r in results for s in r.reported]),
        "first_partial_seconds": _spread(
            [r.first_partial for r in results if r.first_partial is not None]
        ),
        "early_finals": {"files": len(early), **_spread(early)},
        "finals_after_close": sum(r.after_close for r in results),
        "files_without_text": sum(r.finals == 0 for r in results),
        "finals_per_file": mean(r.finals for r in results),
        "flicker": {**asdict(flicker), "rate": flicker.rate},
        "partial_interval_seconds": _spread([s for r in results for s in r.intervals]),
        "broken_promises": displays.count_kinds(b for r in results for b in r.broken),
    }


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    spread = {f"p{p}": report.percentile(values, p) for p in (50, 95, 99)}
    return {"count": len(values), **spread, "max": report.percentile(values, 100)}


def _cpu_per_second(used: CpuTime, results: Sequence[FileResult]) -> dict[str, float]:
    """CPU seconds for a second of a file, and for a second of all that was sent."""
    files = sum(result.duration for result in results)
    sent = files + SILENCE_SECONDS * len(results)
    return {
        "all_per_second_of_files": used.all / files,
        "worker_per_second_of_files": used.worker / files,
        "all_per_second_sent": used.all / sent,
        "worker_per_second_sent": used.worker / sent,
    }


# -- nothing to recognise -----------------------------------------------------------------------


def _idle(daemon: DaemonProcess, folder: Path) -> dict[str, dict[str, float]]:
    """Percent of one core while there is nothing to recognise."""
    noise = corpus.load(folder / STEADY_NOISE)
    noise = np.resize(noise, round((SETTLE_SECONDS + IDLE_STREAM_SECONDS) * RATE))
    silence = corpus.silence(SETTLE_SECONDS + IDLE_STREAM_SECONDS)
    return {
        "stream of silence": _busy_stream(daemon, silence),
        "stream of steady noise": _busy_stream(daemon, noise),
        "nothing connected": _busy_nothing(daemon),
    }


def _busy_stream(daemon: DaemonProcess, samples: np.ndarray) -> dict[str, float]:
    settle = round(SETTLE_SECONDS * RATE)
    pacer = Pacer()
    with StreamClient(daemon.url) as client:
        send_paced(client, samples[:settle], pacer)
        return _busy(daemon, lambda: send_paced(client, samples[settle:], pacer))


def _busy_nothing(daemon: DaemonProcess) -> dict[str, float]:
    time.sleep(SETTLE_SECONDS)
    return _busy(daemon, lambda: time.sleep(IDLE_SECONDS))


def _busy(daemon: DaemonProcess, act: Callable[[], None]) -> dict[str, float]:
    """Percent of one core that the daemon uses while we act."""
    before, started = cpu_time(daemon), time.monotonic()
    act()
    used, seconds = cpu_time(daemon) - before, time.monotonic() - started
    return {"all": 100 * used.all / seconds, "worker": 100 * used.worker / seconds}


# -- what is shown ------------------------------------------------------------------------------


def _print(model: str, measured: dict[str, Any]) -> None:
    names = {
        "final after the end of speech": "final_seconds",
        "  as the daemon reports it": "reported_total_seconds",
        "first partial after speech began": "first_partial_seconds",
        "partial after partial": "partial_interval_seconds",
        "final that ended early (left out above)": "early_finals",
    }
    keys = ("count", "p50", "p95", "p99", "max")
    rows = [(name, *(measured[key][k] for k in keys)) for name, key in names.items()]
    report.print_table(f"{model}: seconds", ("delay", *keys), rows)
    flicker, cpu = measured["flicker"], measured["cpu"]
    report.print_table(
        f"{model}: over {len(measured['files'])} files",
        ("what", "value"),
        [
            ("finals per file", measured["finals_per_file"]),
            ("files without text", measured["files_without_text"]),
            ("last final only after close", measured["finals_after_close"]),
            ("words shown", flicker["shown"]),
            ("words changed after shown", flicker["changed"]),
            ("  of these by the final", flicker["changed_by_finals"]),
            ("flicker", report.percent(flicker["rate"])),
            ("CPU s per s of files, all processes", cpu["all_per_second_of_files"]),
            ("CPU s per s of files, worker", cpu["worker_per_second_of_files"]),
            ("CPU s per s sent, all processes", cpu["all_per_second_sent"]),
            ("CPU s per s sent, worker", cpu["worker_per_second_sent"]),
        ],
    )
    idle = [(name, used["all"], used["worker"]) for name, used in measured["idle_percent"].items()]
    if idle:
        head = ("while there is", "all", "worker")
        report.print_table(f"{model}: idle, percent of one core", head, idle)
    report.print_broken(model, measured["broken_promises"])
    report.print_complaints(model, measured["log"])


if __name__ == "__main__":
    main()
