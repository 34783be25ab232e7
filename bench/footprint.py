"""How long a cold start takes, and how much memory the daemon needs."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench import corpus, report
from edged.bench.client import exchange
from edged.bench.daemon import DaemonProcess, running
from edged.bench.processes import Memory, memory

LONG_SPEECH = "speech/longform/two_cities.flac"
SETTLE_SECONDS = 1.0
"""From ready to the measurement: the last imports and the freeing after them"""


def main() -> None:
    options = _parse()
    document = report.begin()
    for model in report.models(options):
        measured = {"start_seconds": _starts(model, options.starts), **_memory(model, options)}
        _print(model, measured)
        document["models"][model] = measured
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--starts", type=int, default=5, help="cold starts to time (5)")
    return parser.parse_args()


def _starts(model: str, count: int) -> list[float]:
    """Seconds from starting the process to `ready`, each with a new process."""
    with running(model):
        pass  # builds the model if need be, and warms the page cache
    return [_start(model) for _ in range(count)]


def _start(model: str) -> float:
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        started = time.monotonic()
        daemon = DaemonProcess(Path(folder), ("--no-microphone", "--model", model), {})
        try:
            daemon.wait_ready()
            return time.monotonic() - started
        finally:
            daemon.stop()


def _memory(model: str, options: argparse.Namespace) -> dict[str, Any]:
    samples = corpus.load(options.corpus / LONG_SPEECH)
    with running(model) as daemon:
        time.sleep(SETTLE_SECONDS)
        ready = memory(daemon.pid)
        exchange(daemon.url, samples)
        time.sleep(SETTLE_SECONDS)
        used = memory(daemon.pid)
        return {
            "ready": [asdict(process) for process in ready],
            "after_speech": [asdict(process) for process in used],
            "ready_pss": _total(ready),
            "after_speech_pss": _total(used),
            "log": daemon.complaints(),
        }


def _total(processes: Sequence[Memory]) -> float:
    return sum(process.pss for process in processes)


def _print(model: str, measured: dict[str, Any]) -> None:
    seconds = measured["start_seconds"]
    each = ", ".join(f"{second:.2f}" for second in seconds)
    print(f"\n{model}: ready after {median(seconds):.2f} s (median of {each})")
    for moment, title in (("ready", "ready"), ("after_speech", "a recording was heard")):
        fields = ("pss", "anonymous", "private")
        rows = [
            (process["name"], *(f"{process[field]:.1f}" for field in fields))
            for process in measured[moment]
        ]
        sums = (sum(process[field] for process in measured[moment]) for field in fields)
        rows.append(("together", *(f"{total:.1f}" for total in sums)))
        report.print_table(f"{model}: MB when {title}", ("process", *fields), rows)
    report.print_complaints(model, measured["log"])


if __name__ == "__main__":
    main()
