"""What a rung must write before it may serve: a short clip at every load, longer speech when it is
proven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edged.errors import ModelError
from edged.recognizer import SAMPLE_RATE

CHECK_ERROR_RATE = 0.15
"""Largest word error rate against float32 on the check clip: one word of its eight"""
CHECK_CLIP = "check.wav"
GATE_RATE = 0.04
"""Largest word error rate against float32 on the gate's clips. Of their 205 words int8 and int4
write up to six otherwise, as roundings fall, tiny-en with ranges chosen by entropy twelve"""
GATE_SECONDS = 8.0
"""Longest of these clips"""
SHORTEST_SECONDS = 4.0
QUIET_SECONDS = 0.1
"""They are cut in the quietest so many seconds"""
REFERENCE = "reference.npy"
"""What float32's encoder makes of the check clip: every rung is held against it"""
LARGEST_DIFFERENCE = {"fp32": 0.01, "fp16": 0.05, "bf16": 0.1}
"""Of the encoder's numbers from float32's on the CPU, by precision, as a share of their size"""
LARGEST_QUANTIZED_DIFFERENCE = 0.5
"""The same for the quantised: int8 is 0.1 to 0.3 off; the wrong results met in trials, 1.3"""


def compare(reference: str, text: str, precision: str) -> float:
    """Word error rate of the check clip's text against float32's. Raises ModelError."""
    rate = word_error_rate(reference, text)
    if not reference or rate > CHECK_ERROR_RATE:
        raise ModelError(
            f"{precision} writes {text!r} for {reference!r}; it must not serve", code="wrong_text"
        )
    return rate


def compare_gate(references: Sequence[str], texts: Sequence[str], precision: str) -> float:
    """Word error rate of the gate's clips against float32's. Raises ModelError."""
    rate = gate_error_rate(references, texts)
    if rate > GATE_RATE:
        wrong = next(text for text, known in zip(texts, references, strict=True) if text != known)
        raise ModelError(
            f"{precision} writes {rate:.1%} of the words otherwise than float32, {GATE_RATE:.1%} "
            f"at the most ({wrong!r} among others); it must not serve",
            code="wrong_text",
        )
    return rate


def gate_error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    """Word error rate of the gate's clips against float32's, over all of them."""
    return word_error_rate(" ".join(references), " ".join(texts))


def cut(samples: np.ndarray) -> Iterator[np.ndarray]:
    """A recording in clips of 4 to 8 s, cut where it is quietest."""
    longest, shortest = (round(s * SAMPLE_RATE) for s in (GATE_SECONDS, SHORTEST_SECONDS))
    while len(samples) > longest:
        width = round(QUIET_SECONDS * SAMPLE_RATE)
        power = np.convolve(samples[shortest:longest] ** 2, np.ones(width), "valid")
        place = shortest + int(power.argmin()) + width // 2
        yield samples[:place]
        samples = samples[place:]
    yield samples


def compare_features(reference: np.ndarray, features: np.ndarray, precision: str) -> float:
    """Root mean square difference as a share of the reference's size. Raises ModelError."""
    largest = LARGEST_DIFFERENCE.get(precision, LARGEST_QUANTIZED_DIFFERENCE)
    off = difference(reference, features)
    if not off <= largest:
        raise ModelError(
            f"{precision} computes other numbers than float32 on the CPU: "
            f"{off:.3f} off, {largest} at the most; it must not serve",
            code="wrong_numbers",
        )
    return off


def difference(reference: np.ndarray, features: np.ndarray) -> float:
    """Root mean square difference as a share of the reference's size; infinite for no numbers."""
    if features.shape != reference.shape or not np.isfinite(features).all():
        return float("inf")
    off = features.astype(np.float32) - reference
    return float(np.sqrt(np.mean(off**2) / np.mean(reference**2)))


def read_clip(path: Path) -> np.ndarray:
    """A 16-bit mono WAV file as float32 samples, with the standard library alone."""
    import wave

    with wave.open(str(path)) as file:
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, np.int16).astype(np.float32) / 32768


def read_recording(path: Path) -> np.ndarray:
    """A recording as 16 kHz mono."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampled: np.ndarray = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    return resampled


def write_clip(samples: np.ndarray, target: Path) -> np.ndarray:
    """Write a clip and return what a reader will see."""
    import soundfile

    soundfile.write(target, samples, SAMPLE_RATE, subtype="PCM_16")
    return read_clip(target)


def word_error_rate(reference: str, text: str) -> float:
    """Edits between two texts per word of the reference, case and punctuation aside."""
    return errors(reference, text) / max(count_words(reference), 1)


def error_rate(references: Sequence[str], texts: Sequence[str]) -> float:
    """Edits in all texts per word of all references."""
    edits = sum(map(errors, references, texts))
    return edits / max(sum(map(count_words, references)), 1)


def count_words(text: str) -> int:
    return len(_words(text))


def errors(reference: str, text: str) -> int:
    """The fewest words to put in, leave out or replace, case and punctuation aside."""
    expected, actual = _words(reference), _words(text)
    row = list(range(len(actual) + 1))
    for i, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(actual, 1):
            substituted = diagonal + (word != other)
            diagonal = row[j]
            row[j] = min(row[j] + 1, row[j - 1] + 1, substituted)
    return row[-1]


def _words(text: str) -> list[str]:
    kept = "".join(c for c in text.lower() if c.isalnum() or c in "' ")
    return kept.split()
