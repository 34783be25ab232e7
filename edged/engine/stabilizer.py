"""What to show of a hypothesis that is still growing.

Words on which two hypotheses in a row agree stay (local agreement; Liu et al., "Low-Latency
Sequence-to-Sequence Speech Recognition and Translation by Partial Hypothesis Selection",
Interspeech 2020). Of the words after them only those are shown that the model chose without
hesitation. For display alone: finals are decoded from the audio.
"""

from __future__ import annotations

from edged.recognizer import Hypothesis

_TRAILING = ".,!?;:-\u2026"


class Stabilizer:
    """Follows the hypotheses of one utterance."""

    def __init__(self) -> None:
        self._previous: list[str] = []
        self._stable: list[str] = []

    def update(self, hypothesis: Hypothesis) -> tuple[str, int]:
        """Take the next hypothesis; return the text to show and how many characters are stable."""
        words = hypothesis.text.split()
        agreed = _agreement(self._previous, words)
        self._previous = words
        self._settle(words, agreed)
        sure = len(hypothesis.text[: hypothesis.sure].split())
        # The last word may be the beginning of a longer one, however sure the model is of it.
        shown = self._stable + words[len(self._stable) : max(agreed, min(sure, len(words) - 1))]
        stable = len(" ".join(self._stable))
        return _without_ending(" ".join(shown), stable), stable

    def _settle(self, words: list[str], agreed: int) -> None:
        """Words before the last agreed one will not change: the last may still grow."""
        kept = len(self._stable)
        if agreed - 1 > kept and _agreement(self._stable, words) == kept:
            self._stable = words[: agreed - 1]


def _agreement(a: list[str], b: list[str]) -> int:
    """Words at the beginning that are the same, punctuation at their ends aside."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if _bare(one) != _bare(other):
            break
        count += 1
    return count


def _bare(word: str) -> str:
    return word.strip(_TRAILING).lower()


def _without_ending(text: str, stable: int) -> str:
    """Drop the punctuation after the last word: it is the model's guess that this was all."""
    return text[:stable] + text[stable:].rstrip(_TRAILING)
