"""The recogniser's contract, on a model of its family."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from edged.errors import ModelError
from edged.models import check as check_clip
from edged.models.inventory import on_cpu, store
from edged.models.store import Model
from edged.recognizer import SAMPLE_RATE, Decoding, Hypothesis, Recognizer
from edged.testing.check import named, require
from edged.testing.providers import PRECISIONS

PIECE = SAMPLE_RATE // 2
"""Samples by which an utterance grows from call to call"""
ODD_LENGTHS = (0, 1, 100, 1599)


class RecognizerWithModel:
    """A recogniser and a built model of its family, on the CPU."""

    def __init__(self, kind: type[Recognizer], model: str | None) -> None:
        self.kind = kind
        self._wanted = model

    @cached_property
    def model(self) -> tuple[Model, str]:
        """Raises ModelError when none is built."""
        names = [self._wanted] if self._wanted else store().built()
        for model in map(store().get, names):
            if model.family == self.kind.family:
                return model, min(model.precisions, key=_preference)
        raise ModelError(
            f"No model of the family {self.kind.family} is in {store().folder}. "
            "Run: edged models build, or: edged models add FOLDER",
            code="model_missing",
        )

    @cached_property
    def recognizer(self) -> Recognizer:
        model, precision = self.model
        kinds = sorted(kind for known, kind in model.parts if known == precision)
        return self.kind(model, precision, on_cpu(kinds[0], precision))

    @cached_property
    def clip(self) -> np.ndarray:
        return check_clip.read_clip(self.model[0].path(check_clip.CHECK_CLIP))

    @cached_property
    def expected(self) -> Hypothesis:
        return self.recognizer.transcribe(self.clip)

    def grown(self, decoding: Decoding, samples: np.ndarray) -> None:
        """Let an utterance grow to all of `samples`."""
        for end in range(PIECE, len(samples) + PIECE, PIECE):
            decoding.advance(samples[:end])


def _preference(precision: str) -> int:
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)


def _require_sound(hypothesis: Hypothesis, what: str) -> None:
    """What every hypothesis has to be."""
    require(isinstance(hypothesis, Hypothesis), f"{what}: {hypothesis!r} is no Hypothesis")
    require(isinstance(hypothesis.text, str), f"{what}: text is {hypothesis.text!r}")
    shares = (hypothesis.confidence, *hypothesis.certainty)
    sound = all(math.isfinite(share) and 0 <= share <= 1 for share in shares)
    require(sound, f"{what}: confidence {hypothesis.confidence}, certainty {hypothesis.certainty}")
    words = len(hypothesis.text.split())
    spelled = b"".join(token.data for token in hypothesis.tokens).decode("utf-8", "replace")
    whole = not hypothesis.tokens or spelled == hypothesis.text
    require(whole, f"{what}: the tokens spell {spelled!r}, the text is {hypothesis.text!r}")
    count = len(hypothesis.certainty)
    require(count in {0, words}, f"{what}: certainty of {count} words, the text has {words}")


# -- text -----------------------------------------------------------------------------------------


def writes_its_check_text(subject: RecognizerWithModel) -> None:
    """It writes for the model's check clip what the model's maker wrote down."""
    model, precision = subject.model
    check_clip.compare(model.check_text, subject.expected.text, precision)
    _require_sound(subject.expected, "transcribe()")


def repeats_itself(subject: RecognizerWithModel) -> None:
    """The same samples give the same hypothesis, whatever was heard before."""
    subject.recognizer.transcribe(subject.clip[: len(subject.clip) // 2])
    again = subject.recognizer.transcribe(subject.clip)
    require(again == subject.expected, f"first {subject.expected}, then {again}")


def a_final_is_the_decode_of_the_whole(subject: RecognizerWithModel) -> None:
    """finish() after any number of advance() equals transcribe(), letter for letter."""
    expected = subject.expected.text
    decoding = subject.recognizer.start()
    subject.grown(decoding, subject.clip)
    final = decoding.finish(subject.clip)
    require(
        final.text == expected,
        f"transcribe() wrote {expected!r}, finish() {final.text!r}",
    )


def a_final_may_be_a_guess(subject: RecognizerWithModel) -> None:
    """finish() may be called again with more samples, and then knows nothing of its first time."""
    decoding = subject.recognizer.start()
    for length in (len(subject.clip) // 3, len(subject.clip) // 2, len(subject.clip)):
        final = decoding.finish(subject.clip[:length])
        expected = subject.recognizer.transcribe(subject.clip[:length])
        require(final.text == expected.text, f"{expected.text!r} became {final.text!r}")


def utterances_stand_alone(subject: RecognizerWithModel) -> None:
    """Two utterances at once do not disturb each other."""
    expected = subject.expected.text
    first, second = subject.recognizer.start(), subject.recognizer.start()
    backwards = np.ascontiguousarray(subject.clip[::-1])
    for end in range(PIECE, len(subject.clip), PIECE):
        first.advance(subject.clip[:end])
        second.advance(backwards[:end])
    text = first.finish(subject.clip).text
    require(text == expected, f"{expected!r} became {text!r}")


# -- audio ----------------------------------------------------------------------------------------


def takes_audio_of_any_length(subject: RecognizerWithModel) -> None:
    """Nothing, one sample and a tenth of a second are recognised like anything else."""
    for length in ODD_LENGTHS:
        _try_all(subject, subject.clip[:length].copy(), f"{length} samples")


def takes_audio_of_any_level(subject: RecognizerWithModel) -> None:
    """Silence, noise, a constant and clipped speech are recognised like anything else."""
    noise = np.random.default_rng(1).uniform(-1, 1, SAMPLE_RATE).astype(np.float32)
    _try_all(subject, np.zeros(SAMPLE_RATE, np.float32), "silence")
    _try_all(subject, np.ones(SAMPLE_RATE, np.float32), "a constant")
    _try_all(subject, noise, "noise")
    _try_all(subject, np.clip(1000 * subject.clip, -1, 1), "clipped speech")
    _try_all(subject, np.float32(1e-30) * subject.clip, "speech at -600 dB")


def _try_all(subject: RecognizerWithModel, samples: np.ndarray, what: str) -> None:
    decoding = subject.recognizer.start()
    _require_sound(decoding.advance(samples), f"advance() of {what}")
    final = decoding.finish(samples, words=True)
    _require_sound(final, f"finish() of {what}")
    _require_words_inside(final, len(samples))


def leaves_the_samples(subject: RecognizerWithModel) -> None:
    """It takes an array that must not be written to, and does not change it."""
    samples = subject.clip.copy()
    samples.flags.writeable = False
    decoding = subject.recognizer.start()
    decoding.advance(samples)
    decoding.finish(samples, words=True)
    subject.recognizer.features(samples)
    require(np.array_equal(samples, subject.clip), "the samples are others now")


def keeps_no_samples(subject: RecognizerWithModel) -> None:
    """It reads the samples while it is called, not later: the ring's memory is used again."""
    expected = subject.expected.text
    decoding = subject.recognizer.start()
    for end in range(PIECE, len(subject.clip), PIECE):
        lent = subject.clip[:end].copy()
        decoding.advance(lent)
        lent[:] = 1.0
    text = decoding.finish(subject.clip.copy()).text
    require(text == expected, f"{expected!r} became {text!r}")


# -- words and numbers ----------------------------------------------------------------------------


def words_lie_in_the_audio(subject: RecognizerWithModel) -> None:
    """Words, where it gives them, are those of the text, in order and inside the audio."""
    final = subject.recognizer.transcribe(subject.clip, words=True)
    require(final.text == subject.expected.text, "asked for words, it writes another text")
    _require_words_inside(final, len(subject.clip))
    said = [word.text.strip() for word in final.words]
    require(not said or said == final.text.split(), f"words {said} of the text {final.text!r}")


def _require_words_inside(final: Hypothesis, length: int) -> None:
    times = [time for word in final.words for time in (word.start, word.end)]
    _require_in_order([0, *times, length])
    for word in final.words:
        require(0 <= word.confidence <= 1, f"{word.text!r} has the confidence {word.confidence}")


def _require_in_order(times: Sequence[int]) -> None:
    ordered = all(a <= b for a, b in itertools.pairwise(times))
    require(ordered, f"times {times[1:-1]} in {times[-1]} samples")


def features_have_one_shape(subject: RecognizerWithModel) -> None:
    """features() are numbers, the same for the same samples, and of one shape for one length."""
    first = subject.recognizer.features(subject.clip)
    again = subject.recognizer.features(subject.clip)
    other = subject.recognizer.features(np.ascontiguousarray(subject.clip[::-1]))
    require(np.isfinite(first).all() and first.size, "they are no numbers")
    require(np.array_equal(first, again), "they differ from one time to the next")
    require(first.shape == other.shape, f"{first.shape} and {other.shape} for the same length")
    require(not np.array_equal(first, other), "they do not depend on the samples")


CHECKS = [
    named(function)
    for function in (
        writes_its_check_text,
        repeats_itself,
        a_final_is_the_decode_of_the_whole,
        a_final_may_be_a_guess,
        utterances_stand_alone,
        takes_audio_of_any_length,
        takes_audio_of_any_level,
        leaves_the_samples,
        keeps_no_samples,
        words_lie_in_the_audio,
        features_have_one_shape,
    )
]
