"""How good and how fast a quantised model is, beside the float32 one that it was made of."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edged.errors import ModelError
from edged.models import check
from edged.models.recordings import Utterance
from edged.models.store import Model
from edged.recognizer import SAMPLE_RATE, Recognizer

LONGEST_SECONDS = 24.0
"""Longer recordings are recognised in pieces"""
TIMED_CLIPS = 5
TIMED_ROUNDS = 5


class Judge:
    """What float32 writes for some recordings, for another model to be held against."""

    def __init__(self, name: str, utterances: Sequence[Utterance], reference: Recognizer) -> None:
        self.name = name
        self.clips = [utterance.samples for utterance in utterances]
        self._said = [utterance.text for utterance in utterances]
        self._written = self.texts(reference)
        expected = self._said if name == "references" else self._written
        self.words = sum(map(check.count_words, expected))

    def texts(self, recognizer: Recognizer) -> list[str]:
        return [_text(recognizer, clip) for clip in self.clips]

    @property
    def before(self) -> float | None:
        return self.after(self._written)

    def after(self, texts: Sequence[str]) -> float | None:
        """Word error rate of these texts; None where nobody knows what was said."""
        return check.error_rate(self._said, texts) if self.name == "references" else None

    def difference(self, texts: Sequence[str]) -> float:
        return check.error_rate(self._written, texts)

    def excess(self, texts: Sequence[str]) -> float:
        """How much worse than float32 these are, as a share of the words."""
        before, after = self.before, self.after(texts)
        return self.difference(texts) if before is None or after is None else after - before


def _text(recognizer: Recognizer, samples: np.ndarray) -> str:
    """Of a recording of any length."""
    whole = len(samples) <= LONGEST_SECONDS * SAMPLE_RATE
    pieces = [samples] if whole else [np.ascontiguousarray(piece) for piece in check.cut(samples)]
    return " ".join(recognizer.transcribe(piece).text for piece in pieces)


def gate(model: Model, precision: str, recognizer: Recognizer) -> tuple[float, str | None]:
    """Its error rate on the gate's clips, and why a proof will refuse it, if it will."""
    clips = [check.read_clip(model.path(name)) for name in model.gate]
    texts = [recognizer.transcribe(clip).text for clip in clips]
    known = list(model.gate.values())
    try:
        return check.compare_gate(known, texts, precision), None
    except ModelError as error:
        return check.word_error_rate(" ".join(known), " ".join(texts)), error.message


def timed(
    before: Recognizer, after: Recognizer, clips: Sequence[np.ndarray]
) -> tuple[list[float], list[float]]:
    """Seconds for a second of audio of both, in turn."""
    longest = round(LONGEST_SECONDS * SAMPLE_RATE)
    chosen = [clip[:longest] for clip in clips[:TIMED_CLIPS]]
    for recognizer in (before, after):
        recognizer.start().advance(chosen[0])
    pairs = [
        (_seconds(before, clip), _seconds(after, clip))
        for _ in range(TIMED_ROUNDS)
        for clip in chosen
    ]
    return [first for first, _ in pairs], [second for _, second in pairs]


def _seconds(recognizer: Recognizer, clip: np.ndarray) -> float:
    """Of one recognition, for a second of the clip."""
    started = time.perf_counter()
    recognizer.start().advance(clip)
    return (time.perf_counter() - started) / (len(clip) / SAMPLE_RATE)
