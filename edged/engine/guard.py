"""Is this text speech, or did the model make it up?

Moonshine, like every attention model, writes fluent words for a sneeze. What is too little like
speech becomes an empty final. Measured over 330 utterances, clean and in noise down to 0 dB, and
over 30 noise tracks: what the detector hears in a sneeze sums up to 20 at the most, with hesitant
words; the shortest real command to 8, with words chosen readily.
"""

from __future__ import annotations

import math

from edged.recognizer import Hypothesis

MUCH = 20.0
"""Sum of the detector's probabilities, one for 32 ms, from which an utterance is speech for sure"""
LITTLE = 6.0
"""Sum below which it is none"""
READILY = math.exp(-0.6)
"""Confidence that the words between the two must reach"""


def is_speech(hypothesis: Hypothesis, heard: float) -> bool:
    """Whether an utterance may keep its words; `heard` is the sum of the probabilities."""
    if not any(character.isalnum() for character in hypothesis.text):
        return False
    if heard >= MUCH:
        return True
    return heard >= LITTLE and hypothesis.confidence >= READILY and not hypothesis.retried
