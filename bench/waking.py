"""What it costs to be woken often: one pipeline hears the same recordings in this process, told
of a little or of more audio at a time, as fast as it goes and at the pace of time: caches are cold.

    python -m bench.waking --model moonshine-tiny-en
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np

from bench import corpus, report
from bench.corpus import RATE
from bench.partials import open_rung
from edged.audio.ring import AudioRing
from edged.bench.hearing import SILENCE_SECONDS
from edged.config import load
from edged.engine import choose
from edged.engine.pipeline import Pipeline
from edged.messages import Report, Rung, Working
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.models.silero import Silero

RUNG = ("onnxruntime", "cpu", "int8")
STEPS = (512, 1024, 2048)
"""Samples that are told of at a time"""
PARTIAL_SECONDS, PARTIAL_SHARE = 0.3, 0.12
"""Speech that is worth a partial: so much, or this share of the utterance if that is more"""
KINDS = ("detector", "partials", "finals")
HEAD = ("woken each", *KINDS, *(f"{kind}, paced" for kind in KINDS))

Costs = dict[str, float]
"""Processor seconds, by kind"""


def main() -> None:
    options = _parse()
    document = report.begin()
    recordings = [_sound(u) for u in corpus.choose_core(options.corpus, options.files)]
    for model in report.models(options):
        parts = _parts(model)
        _hear(parts, recordings[0], STEPS[-1], paced=False)  # what is done only once
        rows = {}
        for step in STEPS:
            rows[f"{1000 * step // RATE} ms"] = [
                _total([_hear(parts, sound, step, paced) for sound in recordings], recordings)
                for paced in (False, True)
            ]
        document["models"][model] = rows
        cells = [(name, *fast.values(), *paced.values()) for name, (fast, paced) in rows.items()]
        report.print_table(f"{model}: processor seconds a second of audio", HEAD, cells)
    report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=10, help="recordings (10)")
    return parser.parse_args()


def _sound(utterance: corpus.Utterance) -> np.ndarray:
    silence = corpus.silence(SILENCE_SECONDS)
    return corpus.floats(np.concatenate([corpus.load(utterance.path), silence]))


def _parts(model: str) -> tuple[Silero, Moonshine]:
    rung = Rung(model, *RUNG)
    opened = open_rung(rung, choose.worker_options(load(None)))
    return Silero(opened), Moonshine(store().get(model), rung.precision, opened)


def _total(costs: Sequence[Costs], recordings: Sequence[np.ndarray]) -> Costs:
    seconds = sum(len(sound) for sound in recordings) / RATE
    return {kind: sum(cost[kind] for cost in costs) / seconds for kind in KINDS}


def _hear(parts: tuple[Silero, Moonshine], sound: np.ndarray, step: int, paced: bool) -> Costs:
    """What one recording costs, told of so many samples at a time."""
    ring = AudioRing.create(len(sound))
    ring.write(0, sound)
    pipeline = Pipeline(1, ring.view, *parts)
    costs = dict.fromkeys(KINDS, 0.0)
    began = time.monotonic()
    for written in range(step, len(sound) + 1, step):
        if paced:
            time.sleep(max(0.0, began + written / RATE - time.monotonic()))
        _spend(costs, pipeline.advance(written))
        if _wants_partial(pipeline):
            _spend(costs, pipeline.partial())
    return costs


def _wants_partial(pipeline: Pipeline) -> bool:
    wished = max(PARTIAL_SECONDS * RATE, PARTIAL_SHARE * pipeline.spoken)
    return pipeline.speaking and not pipeline.falling_silent and pipeline.unheard >= wished


def _spend(costs: Costs, reports: Iterator[Report]) -> None:
    """Go through what is to be done, and count it: from one report to the next."""
    kind, begun = "detector", time.process_time()
    for happened in reports:
        now = time.process_time()
        costs[kind] += now - begun
        begun = now
        kind = "detector"
        if isinstance(happened, Working):
            kind = "finals" if happened.final else "partials"
    costs[kind] += time.process_time() - begun


if __name__ == "__main__":
    main()
