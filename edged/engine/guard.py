"""Is this text speech, or did the model make it up?

Moonshine, like every attention model, writes fluent words for a sneeze. What is too little like
speech becomes an empty final. The limits come from all utterances and noise tracks at hand (330
utterances, short ones also in noise at 10 and 0 dB; 30 tracks): see docs/decisions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edged.recognizer import Hypothesis

CLEAR_PROBABILITY = 0.9
"""Probability from which a window is clearly speech"""
CLEAR_WINDOWS = 6
"""So many of them are an utterance; a sneeze reached 5"""
MUCH, FAIRLY = 20.0, math.exp(-0.8)
"""Sum of the probabilities, and least confidence, of an utterance in noise; a sneeze reached 18"""
LITTLE, READILY = 6.0, math.exp(-0.3)
"""Sum of the probabilities, and least confidence, of one short word"""


@dataclass(slots=True)
class Evidence:
    """What the detector heard from an utterance's onset to its last window of speech."""

    total: float = 0.0
    """Sum of the probabilities"""
    clear: int = 0
    """Windows that were clearly speech"""

    def add(self, probability: float) -> None:
        self.total += probability
        self.clear += probability >= CLEAR_PROBABILITY


def is_speech(hypothesis: Hypothesis, evidence: Evidence) -> bool:
    """Whether an utterance may keep its words."""
    if not any(character.isalnum() for character in hypothesis.text):
        return False
    if evidence.clear >= CLEAR_WINDOWS:
        return True
    if hypothesis.retried:
        return False
    if evidence.total >= MUCH:
        return hypothesis.confidence >= FAIRLY
    return evidence.total >= LITTLE and hypothesis.confidence >= READILY
