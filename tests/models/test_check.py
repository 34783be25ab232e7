from __future__ import annotations

import pytest

from edged.models.check import word_error_rate


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
