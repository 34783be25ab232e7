"""Latency, flicker and CPU of recognition at the pace of time, one stream at a time."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench import corpus, report
from bench.corpus import RATE, Utterance
from edged.bench import displays
from edged.bench.client import Pacer, StreamClient, send_paced
from edged.bench.daemon import DaemonProcess, running
from edged.bench.displays import Flicker
from edged.bench.figures import spread
from edged.bench.hearing import SILENCE_SECONDS, Hearing, hear
from edged.bench.processes import CpuTime, cpu_time

IDLE_STREAM_SECONDS = 20.0
IDLE_SECONDS = 10.0
SETTLE_SECONDS = 2.0
STEADY_NOISE = "noise/dev/gsc_pink_noise.flac"


def main() -> None:
    options = _parse()
    document = report.begin()
    chosen = corpus.choose_core(options.corpus, options.files)
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
    before = cpu_time(daemon.pid)
    heard = [
        hear(daemon.url, f"{one.set}/{one.path.name}", corpus.load(one.path)) for one in chosen
    ]
    used = cpu_time(daemon.pid) - before
    return {
        **_summary(heard),
        "cpu": _cpu_per_second(used, heard),
        "idle_percent": {} if options.no_idle else _idle(daemon, options.corpus),
        "log": daemon.complaints(),
        "files": [asdict(one) for one in heard],
    }


def _summary(heard: Sequence[Hearing]) -> dict[str, Any]:
    """Of all recordings together; seconds."""
    final = [h.final for h in heard if h.final is not None and not h.early]
    early = [h.final for h in heard if h.final is not None and h.early]
    flicker = sum((h.flicker for h in heard), Flicker())
    return {
        "final_seconds": spread(final),
        "endpoint_seconds": spread([s for h in heard for s in h.endpoint]),
        "decode_seconds": spread([s for h in heard for s in h.decode]),
        "reported_total_seconds": spread([s for h in heard for s in h.reported]),
        "first_partial_seconds": spread(
            [h.first_partial for h in heard if h.first_partial is not None]
        ),
        "early_finals": {"files": len(early), **spread(early)},
        "finals_after_close": sum(h.after_close for h in heard),
        "files_without_text": sum(h.finals == 0 for h in heard),
        "finals_per_file": mean(h.finals for h in heard),
        "flicker": {**asdict(flicker), "rate": flicker.rate},
        "partial_interval_seconds": spread([s for h in heard for s in h.intervals]),
        "broken_promises": displays.count_kinds(b for h in heard for b in h.broken),
    }


def _cpu_per_second(used: CpuTime, heard: Sequence[Hearing]) -> dict[str, float]:
    """CPU seconds for a second of a file, and for a second of all that was sent."""
    files = sum(one.duration for one in heard)
    sent = files + SILENCE_SECONDS * len(heard)
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
    before, started = cpu_time(daemon.pid), time.monotonic()
    act()
    used, seconds = cpu_time(daemon.pid) - before, time.monotonic() - started
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
