"""The check clip: a short recording that every rung must recognise before it may serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CHECK_ERROR_RATE = 0.15
"""Largest word error rate against float32 on the check clip: one word of its eight"""


def read_clip(path: Path) -> np.ndarray:
    """A 16-bit mono WAV file as float32 samples, with the standard library alone."""
    import wave

    with wave.open(str(path)) as file:
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, np.int16).astype(np.float32) / 32768


def word_error_rate(reference: str, text: str) -> float:
    """Edits between two texts per word of the reference, case and punctuation aside."""
    expected, actual = _words(reference), _words(text)
    row = list(range(len(actual) + 1))
    for i, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(actual, 1):
            substituted = diagonal + (word != other)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1] / max(len(expected), 1)


def _words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c.isalnum() or c in "' ")
    return kept.split()
