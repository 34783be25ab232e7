"""Times of words, held against recordings whose joins are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from edged.audio.files import open_recording
from edged.models.moonshine import Moonshine
from edged.recognizer import SAMPLE_RATE, Word

DIGITS = {
    str(number): word
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
}


def onsets(samples: np.ndarray) -> list[float]:
    """Seconds at which sound begins after silence: where the recordings were joined."""
    step = SAMPLE_RATE // 100
    level = np.abs(samples[: len(samples) // step * step]).reshape(-1, step).max(axis=1)
    loud = level > 0.06 * level.max()
    edges = np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1)
    return [i / 100 for i in edges if not loud[max(0, i - 10) : i].any()]


def starts(words: tuple[Word, ...]) -> list[tuple[str, float]]:
    bare = [re.sub(r"\W", "", word.text.lower()) for word in words]
    return [
        (DIGITS.get(text, text), word.start / SAMPLE_RATE)
        for text, word in zip(bare, words, strict=True)
    ]


@pytest.mark.corpus
def test_digits_begin_where_their_recordings_were_joined(
    recognizer: Moonshine, corpus: Path
) -> None:
    lines = map(json.loads, (corpus / "manifest.jsonl").read_text().splitlines())
    errors = []
    for item in (line for line in lines if line["set"] == "digit_strings"):
        samples = np.concatenate(list(open_recording(corpus / item["path"])))
        said, known = item["norm"].split(), onsets(samples)
        found = starts(recognizer.start().finish(samples, words=True).words)
        if len(known) == len(said) and [word for word, _ in found] == said:
            errors += [abs(s - k) for (_, s), k in zip(found, known, strict=True)]
    assert len(errors) > 20
    assert np.median(errors) < 0.08
