from __future__ import annotations

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models.check import compare_gate, cut, word_error_rate
from edged.recognizer import SAMPLE_RATE


@pytest.mark.parametrize(
    ("reference", "text", "rate"),
    [
        ("one two three four", "One, two three four.", 0.0),
        ("one two three four", "one two four", 0.25),
        ("one two three four", "one two too three four", 0.25),
        ("one two three four", "", 1.0),
        ("one", "two three", 2.0),
        ("", "", 0.0),
    ],
)
def test_word_error_rate(reference: str, text: str, rate: float) -> None:
    assert word_error_rate(reference, text) == rate


def test_a_recording_is_cut_where_it_is_quiet_and_nothing_of_it_is_lost() -> None:
    samples = np.ones(20 * SAMPLE_RATE, np.float32)
    samples[5 * SAMPLE_RATE : 5 * SAMPLE_RATE + 1600] = 0
    clips = list(cut(samples))
    assert abs(len(clips[0]) - 5.05 * SAMPLE_RATE) < 100
    assert all(len(clip) <= 8 * SAMPLE_RATE for clip in clips)
    assert np.array_equal(np.concatenate(clips), samples)


def test_the_gate_counts_words_over_all_clips_together() -> None:
    known = ["one two three four"] * 25
    assert compare_gate(known, [*known[:-1], "one two three five"], "int8") == 0.01
    with pytest.raises(ModelError, match=r"8\.0% of the words") as refusal:
        compare_gate(known, [*known[:-2], "", ""], "int8")
    assert refusal.value.code == "wrong_text"
