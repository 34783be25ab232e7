"""Is this text speech, or did the model make it up?

Moonshine, like every attention model, writes fluent words for a slammed door, and repeats itself
when it has lost its place. What cannot be speech becomes an empty final.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for an utterance's being speech."""

    speech_windows: int
    """Windows that the detector called speech"""
    mean_probability: float
    """The detector's mean over them"""
    confidence: float
    """The recogniser's"""


def is_speech(evidence: Evidence) -> bool:
    """Whether an utterance may keep its words."""
    return evidence.confidence >= 0.3 and evidence.speech_windows >= 3


def is_repetition(text: str) -> bool:
    """Whether a phrase stands three times in a row at the text's end."""
    words = text.lower().split()
    for size in range(1, len(words) // 3 + 1):
        last = words[-size:]
        if words[-2 * size : -size] == last and words[-3 * size : -2 * size] == last and size > 1:
            return True
    return False
