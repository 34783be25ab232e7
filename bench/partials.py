"""What a partial costs through edged, and by hand on the same runtime with the same files.

5 s of audio and 12 tokens, one after the other in turns, so that a load beside it meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench import corpus, loops, report
from bench.loops import Hand, Task
from edged import workers
from edged.audio.files import open_recording
from edged.bench.figures import percentile
from edged.config import load
from edged.demonstration import bundled_recording
from edged.engine import choose
from edged.engine.probe import probe_machine
from edged.engine.worker import find_device, opener
from edged.messages import Rung, WorkerOptions
from edged.models.bucket import BUCKETS, FEW_BUCKETS, Bucket, bucket_for
from edged.models.check import REFERENCE
from edged.models.inventory import store
from edged.models.moonshine import Moonshine, gain_of
from edged.models.store import Model
from edged.models.tokenizer import START
from edged.plugins import Plugins
from edged.provider import Device, Opener, devices
from edged.recognizer import SAMPLE_RATE

FIRST, SECONDS, TOKENS = SAMPLE_RATE, 5, 12
"""Of the recording that comes with tiny-en: more than 12 tokens are said in these 5 s"""
LIMIT = 1.3
"""What edged may cost, times what is written by hand"""
WARM = 3
HEAD = ("rung", "edged ms", "by hand ms", "ratio", "lowest", "highest")


def main() -> None:
    options = _parse()
    document = report.begin()
    configuration = load(options.config)
    samples = np.concatenate(list(open_recording(bundled_recording())))
    samples = np.ascontiguousarray(samples[FIRST : FIRST + SECONDS * corpus.RATE])
    worker = choose.worker_options(configuration)
    models = report.models(options)
    probed = asyncio.run(probe_machine(configuration, models, build=False))
    for model in models:
        proven = [v.rung for v in probed.verdicts if v.ok and v.rung.model == model]
        rungs = [rung for rung in proven if report.is_asked_for(rung, options.only)]
        rows = []
        for rung in rungs:
            if row := _measure(rung, worker, samples, options.rounds):
                rows.append(row)
                print(f"{row['rung']}: {row['ratio']:.2f}", flush=True)
        document["models"][model] = rows
        title = f"{model}: a partial of {SECONDS} s of audio and {TOKENS} tokens"
        report.print_table(title, HEAD, [_cells(row) for row in rows])
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="partials of each kind (30)")
    parser.add_argument("--config", type=Path, help="edged's configuration file")
    report.add_only(parser)
    return parser.parse_args()


def _measure(
    rung: Rung, worker: WorkerOptions, samples: np.ndarray, rounds: int
) -> dict[str, Any] | None:
    """None for a rung that nothing was written for by hand."""
    model = store().get(rung.model)
    opened = open_rung(rung, worker)
    recognizer = Moonshine(model, rung.precision, opened)
    task = _task(model, recognizer, rung, opened.formats, worker, samples)
    hand = _hand(task, rung, opened.device)
    if hand is None:
        return None
    ours, theirs = [], []
    try:
        for number in range(WARM + rounds):
            seconds = _seconds(recognizer, task, expected := hand.partial())
            if number >= WARM:
                ours.append(seconds)
                theirs.append(expected[0])
    finally:
        hand.close()
        del recognizer, hand
        gc.collect()
    return _row(rung, ours, theirs)


def open_rung(rung: Rung, worker: WorkerOptions) -> Opener:
    """What opens sessions on its device. Raises ProviderError."""
    provider = Plugins.discover().provider(rung.provider)
    found = devices(provider, worker.extra.get(rung.provider, {}))
    device = find_device(rung.provider, found, rung.device)
    opened: Opener = opener(provider, device, rung.precision, worker)
    return opened


def _seconds(recognizer: Moonshine, task: Task, expected: tuple[float, list[int]]) -> float:
    """How long it takes through edged, which must come to the same tokens."""
    started = time.perf_counter()
    decoded = recognizer.decode(recognizer.encode(task.samples), task.tokens)
    seconds = time.perf_counter() - started
    assert decoded.tokens == expected[1], (decoded.tokens, expected[1])
    return seconds


def _task(
    model: Model,
    recognizer: Moonshine,
    rung: Rung,
    formats: frozenset[str],
    worker: WorkerOptions,
    samples: np.ndarray,
) -> Task:
    networks: Any = recognizer._networks
    _, heads, _, width = np.load(model.path(REFERENCE)).shape
    return Task(
        samples=samples,
        gain=gain_of(samples),
        padding=round(model.decoding["paddings"][0] * SAMPLE_RATE),
        start=START,
        tokens=TOKENS,
        files={name: model.graph(rung.precision, name, formats) for name in loops.GRAPHS},
        threads={name: worker.threads(name == loops.ENCODER) for name in loops.GRAPHS},
        precision=rung.precision,
        layers=len(networks._cross) // 2,  # keys and values of each
        heads=heads,
        width=width,
    )


def _hand(task: Task, rung: Rung, device: Device) -> Hand | None:
    buckets = FEW_BUCKETS if device.compiles else BUCKETS
    bucket = bucket_for(len(task.samples) + 2 * task.padding, buckets)
    assert bucket
    return _hand_for(task, rung, bucket)


def _hand_for(task: Task, rung: Rung, bucket: Bucket) -> Hand | None:
    match rung.provider, rung.device:
        case "onnxruntime", "cpu":
            return loops.OnnxRuntimeHand(task)
        case "openvino", "cpu":
            return loops.OpenVinoHand(task)
        case "openvino", "cpu.static":
            return loops.FixedOpenVinoHand(task, bucket)
        case "tflite", "cpu":
            return loops.LiteRtHand(task, bucket)
        case "movidius", "cpu":
            python = workers.python_of("movidius")
            return loops.OldOpenVinoHand(task, bucket, python) if python else None
    return None


def _row(rung: Rung, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "rung": f"{rung.provider} {rung.device} {rung.precision}",
        "edged_seconds": median(ours),
        "hand_seconds": median(theirs),
        "ratio": median(ratios),
        "ratio_p10": percentile(ratios, 10),
        "ratio_p90": percentile(ratios, 90),
        "holds": median(ratios) <= LIMIT,
    }


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["rung"],
        f"{row['edged_seconds'] * 1e3:.1f}",
        f"{row['hand_seconds'] * 1e3:.1f}",
        f"{row['ratio']:.2f}" + ("" if row["holds"] else " (!)"),
        f"{row['ratio_p10']:.2f}",
        f"{row['ratio_p90']:.2f}",
    )


if __name__ == "__main__":
    main()
