"""What it gives to leave out the tokens that a model was not taught (`models/vocabulary.py`).

Each default model is built with all its tokens and without those, and both recognise the same
recordings by turns. A list of words, as a distribution's dictionaries have it, shows which words
would be written with a token that is left out.

    python -m bench.vocabulary --words /usr/share/dict/american-english-huge
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from bench import corpus, report
from bench.partials import open_rung
from edged.config import load
from edged.engine import choose
from edged.errors import ModelError
from edged.messages import Rung
from edged.models.build import build_model
from edged.models.inventory import imported_sources, opener
from edged.models.moonshine import Moonshine
from edged.models.sources import SourceFiles, find_source, source_named
from edged.models.tokenizer import END, entries_of
from edged.models.vocabulary import CHOICE, UNTAUGHT, likeness, taught
from edged.models.weights import read_weights
from edged.recognizer import SAMPLE_RATE

PRECISION = "int8"
LONGEST = 10 * SAMPLE_RATE
"""Samples that are recognised at once"""
SPACE = "\u2581"
HEAD = ("tokens", "left", "other texts", "ms a s", "ms a s, left", "ratio", "most untaught chosen")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of one model."""

    entries: Sequence[bytes]
    likeness: np.ndarray
    kept: frozenset[int]

    @classmethod
    def of(cls, files: SourceFiles) -> Vocabulary:
        entries = entries_of(files.tokenizer.read_bytes())
        rows = read_weights(files.encoder, files.decoder)[CHOICE].T
        return cls(entries, likeness(rows, entries), frozenset(taught(rows, entries).tolist()))

    @property
    def numbers(self) -> Mapping[str, int]:
        return {
            entry.decode("utf-8", "replace"): number
            for number, entry in enumerate(self.entries)
            if number > END
        }

    def lost(self, words: Iterable[str]) -> list[str]:
        """Words whose tokens are not all kept."""
        numbers = self.numbers
        return [
            word
            for word in words
            if not self.kept.issuperset(numbers[part] for part in split(word, numbers))
        ]


def split(word: str, numbers: Mapping[str, int]) -> Iterator[str]:
    """A word's tokens: neighbours are joined, those with the lowest number first, as SentencePiece
    does with byte pairs. What no token begins with is left out."""
    parts = list(SPACE + word)
    while len(parts) > 1:
        pairs = [numbers.get(a + b, len(numbers) + END) for a, b in pairwise(parts)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        if parts[best] + parts[best + 1] not in numbers:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return (part for part in parts if part in numbers)


def main() -> None:
    options = _parse()
    document = report.begin()
    chosen = corpus.choose_core(options.corpus, options.files)
    sounds = [sound for utterance in chosen for sound in _pieces(utterance)]
    words = options.words.read_text("utf-8").split() if options.words else []
    for name in report.models(options):
        files = find_source(source_named(name), imported_sources())
        if files is None:
            raise ModelError(f"{name} cannot be built here: edged models build says why")
        vocabulary = Vocabulary.of(files)
        row = _compare(files, vocabulary, sounds)
        lost = vocabulary.lost(words)
        document["models"][name] = {
            **dict(zip(HEAD, row, strict=True)),
            "words": len(words),
            "lost": lost,
        }
        report.print_table(f"{name}, from a likeness of {UNTAUGHT} on", HEAD, [row])
        if words:
            some = ", ".join(lost[:: len(lost) // 20 + 1])
            print(f"{len(lost)} of {len(words)} words need one: {some}")
    report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, default=60, help="recordings (60)")
    parser.add_argument("--words", type=Path, help="a list of words, one a line")
    return parser.parse_args()


def _pieces(utterance: corpus.Utterance) -> list[np.ndarray]:
    sound = corpus.floats(corpus.load(utterance.path))
    return np.array_split(sound, -(-len(sound) // LONGEST))


def _compare(
    files: SourceFiles, vocabulary: Vocabulary, sounds: Sequence[np.ndarray]
) -> Sequence[object]:
    with TemporaryDirectory() as folder:
        whole, less = (_built(files, Path(folder), trimmed) for trimmed in (False, True))
    other, ratios, untaught = 0, [], 0.0
    times: dict[Moonshine, list[float]] = {whole: [], less: []}
    for turn, sound in enumerate(sounds):
        texts = {}
        for recognizer in (whole, less) if turn % 2 else (less, whole):
            started = time.perf_counter()
            texts[recognizer] = recognizer.transcribe(sound)
            times[recognizer].append(
                1000 * (time.perf_counter() - started) / len(sound) * SAMPLE_RATE
            )
        other += texts[whole].text != texts[less].text
        ratios.append(times[less][-1] / times[whole][-1])
        numbers = [token.number for token in texts[whole].tokens if token.number > END]
        untaught = max(untaught, *vocabulary.likeness[numbers], 0.0)
    costs = (median(times[whole]), median(times[less]), median(ratios))
    return len(vocabulary.likeness), len(vocabulary.kept), other, *costs, float(untaught)


def _built(files: SourceFiles, folder: Path, trimmed: bool) -> Moonshine:
    wanted = replace(files, source=replace(files.source, trimmed=trimmed))
    model = build_model(wanted, folder / str(trimmed), opener(), [(PRECISION, "onnx")])
    worker = choose.worker_options(load(None))
    rung = Rung(files.source.name, "onnxruntime", "cpu", PRECISION)
    return Moonshine(model, PRECISION, open_rung(rung, worker))


if __name__ == "__main__":
    main()
