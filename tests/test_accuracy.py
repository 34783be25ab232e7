"""What edged writes for real recordings, through the WebSocket, against their references."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from edged.messages import EngineState
from tests.client import load, recognize, silence, texts
from tests.conftest import BASE, TINY
from tests.daemon import DaemonProcess

OUTSIDE_CORE = {"speech_commands", "digit_strings", "longform", "voxforge_tutorial"}
CONNECTIONS = 3


def core(corpus: Path) -> Iterator[dict[str, Any]]:
    """The utterances that the word error rate is taken over."""
    for line in (corpus / "manifest.jsonl").read_text().splitlines():
        utterance = json.loads(line)
        if utterance["set"] not in OUTSIDE_CORE:
            yield utterance


def edits(reference: list[str], words: list[str]) -> int:
    row = list(range(len(words) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(words, 1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (expected != word))
            diagonal, row[j] = row[j], best
    return row[-1]


def word_error_rate(daemon: DaemonProcess, corpus: Path) -> float:
    normalize = EnglishTextNormalizer()
    utterances = list(core(corpus))

    def written(utterance: dict[str, Any]) -> str:
        samples = np.concatenate([load(corpus / utterance["path"]), silence(1)])
        return " ".join(texts(recognize(daemon.url, samples, query="&partials=0")))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        hypotheses = list(pool.map(written, utterances))
    errors = words = 0
    for utterance, hypothesis in zip(utterances, hypotheses, strict=True):
        reference = normalize(utterance["norm"]).split()
        errors += edits(reference, normalize(hypothesis).split())
        words += len(reference)
    return errors / words


@pytest.mark.corpus
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("model", "gate"), [(TINY, 0.102), (BASE, 0.070)])
def test_word_error_rate_over_the_corpus(
    start_daemon: Callable[..., DaemonProcess], corpus: Path, model: str, gate: float
) -> None:
    daemon = start_daemon("--no-microphone", "--model", model)
    assert word_error_rate(daemon, corpus) <= gate


def test_the_bundled_recording_is_written_word_for_word(
    daemon: DaemonProcess, speech: np.ndarray
) -> None:
    """The one test of recognition that needs no corpus: 119 words of Dickens."""
    normalize = EnglishTextNormalizer()
    reference = normalize(TWO_CITIES).split()
    written = " ".join(texts(recognize(daemon.url, np.concatenate([speech, silence(1)]))))
    assert edits(reference, normalize(written).split()) <= 0.1 * len(reference)


def test_finals_name_the_engine_that_wrote_them(daemon: DaemonProcess, speech: np.ndarray) -> None:
    events = recognize(daemon.url, speech[:80000])
    state = daemon.get("/v1/health")[1]["engine"]
    assert set(state) == set(EngineState.__struct_fields__)
    assert all(event["engine"] == state for event in events if event["type"] == "final")


TWO_CITIES = """
It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of
light, it was the season of darkness, it was the spring of hope, it was the winter of despair, we
had everything before us, we had nothing before us, we were all going direct to heaven, we were all
going direct the other way. In short, the period was so far like the present period, that some of
its noisiest authorities insisted on its being received, for good or for evil, in the superlative
degree of comparison only.
"""
