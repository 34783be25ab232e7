from __future__ import annotations

import pytest

from edged.engine.guard import Evidence, is_speech
from edged.recognizer import Hypothesis


def heard(*probabilities: float) -> Evidence:
    evidence = Evidence()
    for probability in probabilities:
        evidence.add(probability)
    return evidence


@pytest.mark.parametrize(
    ("text", "confidence", "evidence", "kept"),
    [
        ("Turn on the light.", 0.4, heard(*[0.95] * 6), True),
        ("Turn on the light.", 0.5, heard(*[0.6] * 40), True),
        ("Stop.", 0.9, heard(*[0.8] * 8), True),
        ("Thanks.", 0.7, heard(*[0.95] * 5, *[0.6] * 12), False),
        ("You", 0.8, heard(*[0.6] * 4), False),
        ("The train is on", 0.3, heard(*[0.4] * 60), False),
        ("\u266a\u266a", 0.9, heard(*[0.95] * 20), False),
        ("", 0.0, heard(*[0.95] * 20), False),
    ],
)
def test_words_are_kept_for_what_was_heard(
    text: str, confidence: float, evidence: Evidence, kept: bool
) -> None:
    assert is_speech(Hypothesis(text, confidence), evidence) is kept


def test_a_second_try_needs_more_than_a_word_s_worth_of_speech() -> None:
    evidence = heard(*[0.8] * 8)
    assert not is_speech(Hypothesis("Stop.", 0.9, retried=True), evidence)
