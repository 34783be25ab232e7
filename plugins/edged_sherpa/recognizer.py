"""The recogniser of the family `sherpa`: what to let the engine hear, and its tokens to words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edged.provider import Loop, Session, Value
from edged.recognizer import (
    SAMPLE_RATE,
    Decoding,
    Description,
    Hypothesis,
    OpenSession,
    Recognizer,
    Word,
)
from edged_sherpa.layouts import describe

if TYPE_CHECKING:
    from edged.models.store import Model

FOLDER = "model.sherpa"
"""Below each precision's name"""
RESULT = ("text", "tokens", "starts", "log_probabilities", "endpoint")
SHORTEST = SAMPLE_RATE // 10
"""Samples below which there is no word, and some models find no frame"""
LAST_TOKEN = round(0.3 * SAMPLE_RATE)
"""Samples that a word's last token may last: the engine says only when tokens begin"""


class SherpaRecognizer(Recognizer):
    """Drives any model that sherpa-onnx loads."""

    family: ClassVar[str] = "sherpa"

    @classmethod
    def describe(cls, folder: Path) -> Description | None:
        return describe(folder)

    def __init__(self, model: Model, precision: str, open_session: OpenSession) -> None:
        self._session = open_session(model.path(f"{precision}/{FOLDER}"), parallel=True)
        self._streaming = len(self._session.inputs) > 1

    def start(self) -> Decoding:
        return _Streaming(self._session) if self._streaming else _Whole(self._session)

    def features(self, samples: np.ndarray) -> np.ndarray:
        """How often each byte stands in the text: the engine shows none of its numbers."""
        text = self.transcribe(samples).text.encode()
        counts = np.bincount(np.frombuffer(text, np.uint8), minlength=256)
        return np.append(counts, len(samples) / SAMPLE_RATE).astype(np.float32)


class _Whole(Decoding):
    """An utterance for a model that hears it whole."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def advance(self, samples: np.ndarray) -> Hypothesis:
        return self.finish(samples)

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        if len(samples) < SHORTEST:
            return Hypothesis("")
        heard = np.ascontiguousarray(samples, np.float32)
        return _hypothesis(self._session.run({"samples": heard}, RESULT), len(samples), words)


class _Streaming(Decoding):
    """An utterance for a model that hears it as it comes: only what is new is computed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._loop: Loop | None = None
        """None before the first samples, and when it was told that there are no more"""
        self._heard = 0

    def advance(self, samples: np.ndarray) -> Hypothesis:
        return _hypothesis(self._run(samples, last=False), len(samples), words=False)

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        if len(samples) < SHORTEST:
            return Hypothesis("")
        result = self._run(samples, last=True)
        # The silence at its end cannot be taken back: what follows is heard anew from the start.
        self._loop, self._heard = None, 0
        return _hypothesis(result, len(samples), words)

    def _run(self, samples: np.ndarray, last: bool) -> list[Value]:
        if self._loop is None:
            self._loop = self._session.loop({}, 0)
        new = np.ascontiguousarray(samples[self._heard :], np.float32)
        self._heard = len(samples)
        return self._loop.run({"samples": new, "last": np.array([last])}, RESULT)


# -- tokens to words ------------------------------------------------------------------------------


@dataclass(slots=True)
class _Spoken:
    """The tokens of one word."""

    text: str
    first: float
    """Seconds at which it begins"""
    last: float
    """Seconds at which its last token begins"""
    log_probability: float | None
    """The least of its tokens'"""


def _hypothesis(result: Sequence[Value], length: int, words: bool) -> Hypothesis:
    arrays = [value.numpy() for value in result]
    text = " ".join(_utf8(arrays[0]).split())
    tokens = _utf8(arrays[1]).split("\0")[:-1]
    starts, log_probabilities, endpoint = arrays[2], arrays[3], bool(arrays[4][0])
    told = len(log_probabilities) == len(tokens) > 0
    confidence = _share(float(np.mean(log_probabilities))) if told else 0.0
    spoken = list(_words(tokens, starts, log_probabilities if told else None))
    if [word.text for word in spoken] != text.split():
        spoken = []  # written otherwise than spoken, for example numbers in digits
    return Hypothesis(
        text,
        confidence,
        certainty=tuple(_share(w.log_probability) for w in spoken if w.log_probability is not None),
        finished=endpoint,
        words=tuple(_timed(spoken, length)) if words and len(starts) == len(tokens) else (),
    )


def _utf8(array: np.ndarray) -> str:
    return array.tobytes().decode("utf-8", "replace")


def _share(log_probability: float) -> float:
    return float(np.clip(np.exp(log_probability), 0, 1))


def _words(
    tokens: Sequence[str], starts: np.ndarray, log_probabilities: np.ndarray | None
) -> Iterator[_Spoken]:
    """Tokens in words: the first of a word begins with a space."""
    word: _Spoken | None = None
    for number, token in enumerate(tokens):
        start = float(starts[number]) if number < len(starts) else 0.0
        likely = None if log_probabilities is None else float(log_probabilities[number])
        if word is None or token.startswith(" "):
            if word is not None and word.text:
                yield word
            word = _Spoken(token.strip(), start, start, likely)
            continue
        word.text += token.strip()
        word.last = start
        if likely is not None and word.log_probability is not None:
            word.log_probability = min(word.log_probability, likely)
    if word is not None and word.text:
        yield word


def _timed(spoken: Sequence[_Spoken], length: int) -> Iterator[Word]:
    """Words with their places among `length` samples."""
    begins = [min(round(word.first * SAMPLE_RATE), length) for word in spoken]
    ends = [*begins[1:], length]
    for word, begin, following in zip(spoken, begins, ends, strict=False):
        end = min(round(word.last * SAMPLE_RATE) + LAST_TOKEN, following)
        certain = 0.0 if word.log_probability is None else _share(word.log_probability)
        yield Word(word.text, begin, max(begin, end), certain)
