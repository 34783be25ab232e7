"""What a word's confidence is worth: whether wrong ones have less of it, and how many are right.

A word is right where the alignment of fewest edits finds it in the reference, as it is written
there but for capitals and punctuation. Words with digits are left out: the references spell them.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import corpus, report
from edged.bench.client import exchange
from edged.bench.daemon import running

BINS = 10
"""Of equal width, for the expected calibration error"""
EDGES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Of the table"""


@dataclass(frozen=True, slots=True)
class Judged:
    """A word, or a final."""

    confidence: float
    right: float
    """The share of it that is right"""


def main() -> None:
    options = _parse()
    document = report.begin()
    for model in report.models(options):
        words, finals = _hear(model, options)
        measured = {"words": _measure(words), "finals": _measure(finals)}
        document["models"][model] = {
            **measured,
            "table": _table(words),
            "pairs": [(word.confidence, word.right) for word in words],
        }
        _print(model, measured, _table(words))
        report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=160, help="evenly over the core sets (160)")
    return parser.parse_args()


def _hear(model: str, options: argparse.Namespace) -> tuple[list[Judged], list[Judged]]:
    """All words, and the finals of recordings that have one by the share of right words."""
    chosen = corpus.choose_core(options.corpus, options.files)
    words, finals = [], []
    with running(model) as daemon:
        for utterance in chosen:
            heard = exchange(daemon.url, corpus.load(utterance.path), words=True)
            told = [f.event for f in heard.of_type("final") if f.event["text"]]
            written = [(word["word"], word["confidence"]) for f in told for word in f["words"]]
            judged = list(judge(written, utterance.reference.split()))
            words += judged
            if len(told) == 1 and judged:
                share = float(np.mean([word.right for word in judged]))
                finals.append(Judged(told[0]["confidence"], share))
    return words, finals


def bare(text: str) -> str:
    """As references are written."""
    return " ".join(re.sub(r"[^a-z' ]", "", text.lower().replace("-", " ")).split())


def judge(written: Sequence[tuple[str, float]], reference: Sequence[str]) -> Iterator[Judged]:
    """Which of the words are right."""
    words = [
        (part, confidence)
        for word, confidence in written
        for part in (bare(word).split() or [word])  # of digits nothing is left
    ]
    kept = aligned([word for word, _ in words], reference)
    for at, (word, confidence) in enumerate(words):
        if bare(word):
            yield Judged(confidence, at in kept)


def aligned(words: Sequence[str], reference: Sequence[str]) -> set[int]:
    """Places of the words that an alignment of fewest edits leaves as they are."""
    edits = np.zeros((len(words) + 1, len(reference) + 1), int)
    edits[:, 0], edits[0, :] = range(len(words) + 1), range(len(reference) + 1)
    for i, word in enumerate(words, 1):
        for j, expected in enumerate(reference, 1):
            change = edits[i - 1, j - 1] + (word != expected)
            edits[i, j] = min(change, edits[i - 1, j] + 1, edits[i, j - 1] + 1)
    kept, i, j = set(), len(words), len(reference)
    while i and j:
        same = words[i - 1] == reference[j - 1]
        if edits[i, j] == edits[i - 1, j - 1] + (not same):
            i, j = i - 1, j - 1
            kept |= {i} if same else set()
        elif edits[i, j] == edits[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return kept


def _measure(judged: Sequence[Judged]) -> dict[str, Any]:
    confidence = np.array([one.confidence for one in judged])
    right = np.array([one.right for one in judged])
    return {
        "count": len(judged),
        "right": float(right.mean()),
        "mean": float(confidence.mean()),
        "auc": area(confidence[right == 1], confidence[right < 1]),
        "ece": calibration_error(confidence, right),
    }


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    """How often one that is right has more confidence than one that is not; 0.5 is chance."""
    more = (right[:, None] > wrong[None, :]).mean()
    return float(more + (right[:, None] == wrong[None, :]).mean() / 2)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected difference between confidence and the share that is right."""
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(
        sum(
            (places == place).mean()
            * abs(confidence[places == place].mean() - right[places == place].mean())
            for place in np.unique(places)
        )
    )


def _table(words: Sequence[Judged]) -> list[tuple[str, int, float, float]]:
    rows = []
    for low, high in itertools.pairwise(EDGES):
        inside = [w for w in words if low <= w.confidence < high or w.confidence == high == 1]
        if inside:
            mean = float(np.mean([w.confidence for w in inside]))
            right = float(np.mean([w.right for w in inside]))
            rows.append((f"{low} to {high}", len(inside), mean, right))
    return rows


def _print(
    model: str, measured: dict[str, dict[str, Any]], table: Sequence[Sequence[object]]
) -> None:
    rows = [(name, *values.values()) for name, values in measured.items()]
    head = ("", "count", "right", "mean", "AUC", "ECE")
    report.print_table(f"{model}: confidence", head, rows)
    report.print_table(f"{model}: words by confidence", ("", "words", "mean", "right"), table)


if __name__ == "__main__":
    main()
