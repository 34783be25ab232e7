"""The voice detector alone: microseconds a window, by how many windows it is given at once, beside
the package's own graph on ONNX Runtime, which takes one at a time; and how far the two differ.

    python -m bench.detector
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import onnxruntime

from bench import corpus, report
from edged.models.silero import CONTEXT, WINDOW, Silero, silero_file
from edged.recognizer import SAMPLE_RATE

COUNTS = (1, 2, 4, 5, 8)
ROUNDS = 400
HEAD = ("windows at once", "us a window", "graph", "largest difference")


def main() -> None:
    options = _parse()
    document = report.begin()
    chosen = corpus.choose_core(options.corpus, options.files)
    recordings = [_whole_windows(corpus.load(one.path)) for one in chosen]
    graph, detector = Graph(), Silero()
    expected = [list(graph.probabilities(sound)) for sound in recordings]
    rows = []
    for count in COUNTS:
        found = [list(in_steps(detector, sound, count)) for sound in recordings]
        apart = max(np.abs(np.subtract(a, b)).max() for a, b in zip(found, expected, strict=True))
        rows.append((count, *_timed(detector, graph, recordings[0], count), f"{apart:.0e}"))
    report.print_table("Voice detector", HEAD, rows)
    document["windows"] = [dict(zip(HEAD, row, strict=True)) for row in rows]
    report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=40, help="recordings to compare on (40)")
    return parser.parse_args()


def _whole_windows(recording: np.ndarray) -> np.ndarray:
    """Float32 samples, silence as context before them, and nothing behind the last window."""
    samples = corpus.floats(recording[: len(recording) // WINDOW * WINDOW])
    return np.concatenate([np.zeros(CONTEXT, np.float32), samples])


class Graph:
    """The package's, on one thread."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(silero_file(), options)

    def probabilities(self, samples: np.ndarray) -> Iterator[float]:
        state = np.zeros((2, 1, 128), np.float32)
        rate = np.array(SAMPLE_RATE)
        for start in range(0, len(samples) - CONTEXT, WINDOW):
            window = samples[None, start : start + CONTEXT + WINDOW]
            given = {"input": window, "state": state, "sr": rate}
            probability, state = self._session.run(["output", "stateN"], given)
            yield float(probability[0, 0])


def in_steps(detector: Silero, samples: np.ndarray, count: int) -> Iterator[float]:
    """Every window's probability, given so many of them at once."""
    state = None
    for start in range(0, len(samples) - CONTEXT, count * WINDOW):
        stretch = samples[start : start + CONTEXT + count * WINDOW]
        judged = detector.probabilities(stretch, state)
        state = judged[-1][1]
        yield from (probability for probability, _ in judged)


def _timed(detector: Silero, graph: Graph, samples: np.ndarray, count: int) -> tuple[float, float]:
    """Microseconds a window, medians of rounds by turns."""
    stretch = samples[: CONTEXT + count * WINDOW]
    calls = (
        lambda: detector.probabilities(stretch, None),
        lambda: list(graph.probabilities(stretch)),
    )
    rounds = [[_seconds(call) for call in calls] for _ in range(ROUNDS)]
    ours, theirs = (round(median(each) / count * 1e6, 1) for each in zip(*rounds, strict=True))
    return ours, theirs


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
