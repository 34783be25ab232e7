"""Each check of the recogniser's contract fails for a recogniser that breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edged.models.moonshine import Moonshine
from edged.recognizer import Decoding, Hypothesis, Word
from edged.testing.recognizers import CHECKS, RecognizerWithModel
from tests.conftest import TINY


class Wrapped(Decoding):
    def __init__(self, decoding: Decoding) -> None:
        self.good = decoding

    def advance(self, samples: np.ndarray) -> Hypothesis:
        return self.good.advance(samples)

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        return self.good.finish(samples, words)


class Sticks(Wrapped):
    """To what it said first."""

    first: Hypothesis | None = None

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        self.first = self.first or self.good.finish(samples, words)
        return self.first


class Hurried(Wrapped):
    """Its final is its last partial."""

    last: Hypothesis | None = None

    def advance(self, samples: np.ndarray) -> Hypothesis:
        self.last = self.good.advance(samples[: len(samples) // 2])
        return self.last

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        return self.last or self.good.finish(samples, words)


class Keeps(Wrapped):
    """The samples that it was lent."""

    lent: np.ndarray | None = None

    def advance(self, samples: np.ndarray) -> Hypothesis:
        self.lent = samples
        return self.good.advance(samples)

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        if self.lent is not None and len(self.lent):
            samples = np.concatenate([self.lent, samples[len(self.lent) :]])
        return self.good.finish(samples, words)


class Scribbles(Wrapped):
    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        samples *= 0.5
        return self.good.finish(samples, words)


class Picky(Wrapped):
    def advance(self, samples: np.ndarray) -> Hypothesis:
        assert len(samples) > 1000
        return self.good.advance(samples)


class Sensitive(Wrapped):
    def advance(self, samples: np.ndarray) -> Hypothesis:
        return replace(self.good.advance(samples), confidence=float(np.log(np.abs(samples).max())))


class Late(Wrapped):
    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        made = self.good.finish(samples, words)
        shifted = (Word(w.text, w.start + 16000, w.end + 16000, w.confidence) for w in made.words)
        return replace(made, words=tuple(shifted))


class Random(Wrapped):
    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        made = self.good.finish(samples, words)
        return replace(made, confidence=float(np.random.default_rng().random()))


class Wrong(Wrapped):
    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        return replace(self.good.finish(samples, words), text="no", certainty=())


def recognizer(kind: type[Wrapped]) -> type[Moonshine]:
    class Faulty(Moonshine):
        def start(self) -> Decoding:
            return kind(super().start())

    return Faulty


class Shared(Moonshine):
    """All utterances are one."""

    def start(self) -> Decoding:
        only: Decoding = self.__dict__.setdefault("only", Hurried(super().start()))
        return only


class Blind(Moonshine):
    def features(self, samples: np.ndarray) -> np.ndarray:
        return np.zeros(3, np.float32)


def broken(kind: type[Moonshine], *names: str) -> set[str]:
    """The checks that fail, of those named, or of all."""
    subject = RecognizerWithModel(kind, TINY)
    wanted = [check for check in CHECKS if not names or check.name in names]
    results = [check.run("it", subject) for check in wanted]
    assert all(result.reason for result in results if not result.passed)
    return {result.name for result in results if not result.passed}


def test_a_good_recogniser_breaks_nothing() -> None:
    assert broken(recognizer(Wrapped)) == set()


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (recognizer(Sticks), "a_final_may_be_a_guess"),
        (recognizer(Hurried), "a_final_is_the_decode_of_the_whole"),
        (recognizer(Keeps), "keeps_no_samples"),
        (recognizer(Scribbles), "leaves_the_samples"),
        (recognizer(Picky), "takes_audio_of_any_length"),
        (recognizer(Sensitive), "takes_audio_of_any_level"),
        (recognizer(Late), "words_lie_in_the_audio"),
        (recognizer(Random), "repeats_itself"),
        (recognizer(Wrong), "writes_its_check_text"),
        (Shared, "utterances_stand_alone"),
        (Blind, "features_have_one_shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_breach_is_found(kind: Any, check: str) -> None:
    assert broken(kind, check) == {check}


def test_every_check_can_fail() -> None:
    marks = test_a_breach_is_found.pytestmark  # type: ignore[attr-defined]
    [cases] = [mark.args[1] for mark in marks if mark.name == "parametrize"]
    assert {check for _, check in cases} == {check.name for check in CHECKS}
