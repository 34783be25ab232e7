"""Word errors, counted over Whisper's English normalisation of both sides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from whisper_normalizer.english import EnglishTextNormalizer


@dataclass(frozen=True, slots=True)
class Errors:
    """What separates a hypothesis from its reference, in words."""

    substituted: int = 0
    deleted: int = 0
    inserted: int = 0
    words: int = 0
    """Of the reference"""

    @property
    def total(self) -> int:
        return self.substituted + self.deleted + self.inserted

    @property
    def rate(self) -> float:
        """Word error rate, 0.1 for 10 %; infinite where words answer no reference."""
        if not self.words:
            return float("inf") if self.total else 0.0
        return self.total / self.words


@cache
def _normalizer() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalize(text: str) -> list[str]:
    """The words of a text as they are compared."""
    words: list[str] = _normalizer()(text).split()
    return words


def compare(reference: Sequence[str], hypothesis: Sequence[str]) -> Errors:
    """The fewest edits that turn the reference into the hypothesis."""
    # A row holds (edits, substituted, deleted, inserted) for each prefix of the hypothesis.
    row = [(n, 0, 0, n) for n in range(len(hypothesis) + 1)]
    for count, expected in enumerate(reference, 1):
        previous, row = row, [(count, 0, count, 0)]
        for place, word in enumerate(hypothesis):
            row.append(_cheapest(previous[place], previous[place + 1], row[place], expected, word))
    _, substituted, deleted, inserted = row[-1]
    return Errors(substituted, deleted, inserted, len(reference))


_Cell = tuple[int, int, int, int]


def _cheapest(diagonal: _Cell, above: _Cell, left: _Cell, expected: str, word: str) -> _Cell:
    if expected == word:
        return diagonal
    return min(
        (diagonal[0] + 1, diagonal[1] + 1, diagonal[2], diagonal[3]),
        (above[0] + 1, above[1], above[2] + 1, above[3]),
        (left[0] + 1, left[1], left[2], left[3] + 1),
    )


def add(errors: Iterable[Errors]) -> Errors:
    """All of them together: total errors over total words, not a mean of rates."""
    counted = list(errors)
    return Errors(
        sum(e.substituted for e in counted),
        sum(e.deleted for e in counted),
        sum(e.inserted for e in counted),
        sum(e.words for e in counted),
    )
