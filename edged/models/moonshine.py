"""Moonshine on any execution provider: greedy decoding, with drafts for the partials.

A draft is the last hypothesis of the same utterance. One decoder run over all of it tells how far
the model itself would have chosen those very tokens; decoding goes on from there, and takes the
draft up again where they meet. That is exactly greedy decoding, for one run plus the new words
(Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", arXiv 2211.17192,
with the draft for free). A partial ends where the model is in doubt: no more of it would be shown.

Finals begin without a draft, with the plain token-by-token decode, so that they equal the offline
decode of the same samples letter for letter.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edged.errors import ModelError
from edged.hookspecs import hookimpl
from edged.models import alignment
from edged.models.bucket import FRAME, TOKENS_PER_SECOND
from edged.models.networks import Networks, OpenNetworks
from edged.models.static_networks import StaticNetworks
from edged.models.store import Model
from edged.models.tokenizer import END, START, Tokenizer
from edged.recognizer import SAMPLE_RATE, Decoding, Hypothesis, OpenSession, Recognizer, Token, Word

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

MINIMUM_SAMPLES = 1600
"""Shorter audio is padded to this; the convolutions need 1,727 samples with the padding."""
SPARE_TOKENS = 2
PEAK = 0.95
"""Level that the utterance's largest sample is brought to"""
LARGEST_GAIN = 30.0
"""Quieter audio than this makes up for is left quiet: it is no speech"""
FLUENT = -0.15
"""Least mean log-probability for a text to read as finished"""
DOUBTFUL = math.log(0.5)
"""Log-probability of a token below which a partial goes no further: what is less certain than 0.7
is not shown, nor anything after it (`engine/stabilizer.py`)"""
REJOIN_WITHIN = 4
"""Tokens of a draft, after the one that was not chosen, among which it may be taken up again"""
SENTENCE_ENDS = (".", "?", "!")


@dataclass(slots=True)
class _Decoded:
    """Tokens chosen so far, without START, with END where it was reached."""

    tokens: list[int]
    log_probabilities: list[float]

    @property
    def said(self) -> list[int]:
        return self.tokens[:-1] if self.ended else self.tokens

    @property
    def total(self) -> float:
        """Log-probability of the whole text; every token lowers it"""
        return sum(self.log_probabilities)

    @property
    def ended(self) -> bool:
        return bool(self.tokens) and self.tokens[-1] == END


@dataclass(frozen=True, slots=True)
class _Try:
    """A whole utterance, decoded with one padding."""

    decoded: _Decoded
    encoded: Any
    padding: int
    """Samples before and after"""
    confidence: float
    """That of the model's own padding: the best of several tries looks surer than it is"""
    failed: bool = False
    """The model's own padding had written nothing, or no end, or circles"""


class Moonshine(Recognizer):
    """One Moonshine model in one precision."""

    family: ClassVar[str] = "moonshine"
    concurrent: ClassVar[bool] = True
    stages: ClassVar[Sequence[str]] = ("encode", "decode", "words")

    def __init__(self, model: Model, precision: str, open_session: OpenSession) -> None:
        self._tokenizer = Tokenizer(model.path("tokenizer.bin"))
        self._padding, *self._others = (
            round(seconds * SAMPLE_RATE) for seconds in model.decoding["paddings"]
        )
        self._retries = round(model.decoding["retries"] * SAMPLE_RATE)
        self._sure = float(model.decoding["sure"])
        self._finished = float(model.decoding["finished"])
        networks = StaticNetworks if open_session.static else OpenNetworks
        self._networks: Networks = networks(model, precision, open_session)
        self._shares = open_session.concurrent
        """Whether two threads may recognise at the same time"""

    @property
    def copied(self) -> int:  # type: ignore[override]
        return self._networks.copied

    def start(self) -> Decoding:
        return _MoonshineDecoding(self)

    def features(self, samples: np.ndarray) -> np.ndarray:
        """Values of the last layer's cross-attention, float32 [1, H, T, D]."""
        return self._networks.features(self.encode(samples))

    def encode(self, samples: np.ndarray, padding: int | None = None) -> Any:
        """What the encoder makes of `samples`, with so many samples of silence around them."""
        front = self._padding if padding is None else padding
        back = front + max(0, MINIMUM_SAMPLES - len(samples))
        return self._networks.encode(samples, gain_of(samples), front, back)

    def decode(
        self,
        encoded: Any,
        limit: int,
        draft: Sequence[int] = (),
        least: float = -math.inf,
        doubtful: float = -math.inf,
    ) -> _Decoded:
        """Greedy decoding of at most `limit` tokens, with a draft of them to verify.

        Given up, without an end, once its log-probability falls below `least`, or after the first
        word where that of a token beyond the draft is below `doubtful`.
        """
        writing = self._networks.write(encoded)
        decoded = _Decoded([], [])
        last, rest = START, draft[:0]
        while not decoded.ended and len(decoded.tokens) < limit and decoded.total >= least:
            chosen, likely = writing.feed([last, *draft])
            if not math.isfinite(sum(likely)):
                raise ModelError("The decoder computes numbers that are none", code="wrong_numbers")
            kept = _agreement(draft, chosen)
            decoded.tokens += chosen[: kept + 1]
            decoded.log_probabilities += likely[: kept + 1]
            if kept < len(draft):
                writing.shorten(len(decoded.tokens))
                rest = draft[kept:]
            last = decoded.tokens[-1]
            draft, rest = _rejoin(rest, last)
            if likely[kept] < doubtful and not draft and self._has_word(decoded):
                break
        return decoded

    def _has_word(self, decoded: _Decoded) -> bool:
        """Whether the first word is complete: another has begun."""
        return any(map(self._tokenizer.starts_word, decoded.said[1:]))

    def whole(self, samples: np.ndarray) -> _Try:
        """The plain decode of a whole utterance.

        Where the model is not sure of itself, the likeliest of several paddings: a few samples
        more of silence change a doubtful word as they please, and a wrong one is rarely likely.
        A long utterance has fewer tries, so that its text does not come late.
        """
        first = self._try(samples, self._padding)
        if self._is_sure(first.decoded):
            return first
        failed = not self._is_credible(first.decoded)
        least = -math.inf if failed else first.decoded.total
        tries = len(self._others) if failed else self._retries // max(1, len(samples))
        others = self._tries(samples, self._others[:tries], first.decoded.said, least)
        better = [
            other
            for other in others
            if self._is_credible(other.decoded) and other.decoded.total > least
        ]
        best = max(better, key=lambda other: other.decoded.total, default=first)
        return replace(best, confidence=first.confidence, failed=failed)

    def _tries(
        self, samples: np.ndarray, paddings: Sequence[int], draft: Sequence[int], least: float
    ) -> list[_Try]:
        """One with each padding: the first on this thread, the others meanwhile on another if it
        is free."""

        def attempt(padding: int) -> _Try:
            return self._try(samples, padding, draft, least)

        if not self._shares:
            return list(map(attempt, paddings))
        beside = [(padding, self._helper.submit(attempt, padding)) for padding in paddings[1:]]
        tries = list(map(attempt, paddings[:1]))
        return tries + [attempt(p) if f.cancel() else f.result() for p, f in beside]

    @functools.cached_property
    def _helper(self) -> ThreadPoolExecutor:
        from concurrent.futures import ThreadPoolExecutor

        return ThreadPoolExecutor(1, "tries")

    def _try(
        self,
        samples: np.ndarray,
        padding: int,
        draft: Sequence[int] = (),
        least: float = -math.inf,
    ) -> _Try:
        encoded = self.encode(samples, padding)
        decoded = self.decode(encoded, token_limit(len(samples)), draft, least)
        return _Try(decoded, encoded, padding, _confidence(decoded.log_probabilities))

    def _is_sure(self, decoded: _Decoded) -> bool:
        return self._is_credible(decoded) and _mean(decoded.log_probabilities) > self._sure

    def _is_credible(self, decoded: _Decoded) -> bool:
        """Whether the model wrote something, came to an end, and did not go round in circles."""
        return bool(self._tokenizer.text(decoded.said)) and not self.is_degenerate(decoded)

    def is_degenerate(self, decoded: _Decoded) -> bool:
        """Whether the text has no end, or goes round in circles."""
        return not decoded.ended or is_repetition(self._tokenizer.text(decoded.said))

    def hypothesis(self, decoded: _Decoded) -> Hypothesis:
        text = self._tokenizer.text(decoded.said)
        return Hypothesis(
            text=text,
            confidence=_confidence(decoded.log_probabilities),
            certainty=self._certainty(decoded),
            finished=text.endswith(SENTENCE_ENDS) and self._reads_finished(decoded),
        )

    def _reads_finished(self, decoded: _Decoded) -> bool:
        """Whether the closing punctuation and the end were chosen without doubt."""
        likely = decoded.log_probabilities
        return (
            decoded.ended
            and len(likely) > 1
            and likely[-2] + likely[-1] > self._finished
            and _mean(likely) > FLUENT
        )

    def _certainty(self, decoded: _Decoded) -> tuple[float, ...]:
        """The least probability of each word's tokens."""
        likely = decoded.log_probabilities
        return tuple(
            math.exp(min(0.0, *likely[first:last])) for first, last in self._spans(decoded)
        )

    def _spans(self, decoded: _Decoded) -> Iterator[tuple[int, int]]:
        """Where each word's tokens begin and end."""
        said = decoded.said
        firsts = [i for i, t in enumerate(said) if i == 0 or self._tokenizer.starts_word(t)]
        return itertools.pairwise([*firsts, len(said)])

    def tokens(self, decoded: _Decoded) -> tuple[Token, ...]:
        said, likely = decoded.said, decoded.log_probabilities
        shares = self._tokenizer.pieces(said)
        return tuple(
            Token(number, data, min(0.0, chosen))
            for number, data, chosen in zip(said, shares, likely, strict=False)
        )

    def words(self, attempt: _Try, samples: np.ndarray) -> tuple[Word, ...]:
        """Times of the words, from the cross-attention of one run over the chosen tokens."""
        said = attempt.decoded.said
        if not said:
            return ()
        layers = self._networks.attention(attempt.encoded, [START, *said])
        boundaries = alignment.token_frames(layers) * FRAME - attempt.padding
        tokens = list(self._spans(attempt.decoded))
        edges = [boundaries[first] for first, _ in tokens] + [boundaries[-1]]
        return tuple(
            Word(
                text=self._tokenizer.text(said[first:last]),
                start=start,
                end=end,
                confidence=_confidence(attempt.decoded.log_probabilities[first:last]),
            )
            for (first, last), (start, end) in zip(
                tokens, alignment.spans(edges, samples), strict=True
            )
        )


class _MoonshineDecoding(Decoding):
    """One utterance: remembers the last hypothesis as the next one's draft."""

    def __init__(self, model: Moonshine) -> None:
        self._model = model
        self._draft: list[int] = []

    def advance(self, samples: np.ndarray) -> Hypothesis:
        decoded = self._model.decode(
            self._model.encode(samples),
            token_limit(len(samples)),
            self._draft,
            doubtful=DOUBTFUL,
        )
        self._draft = decoded.said
        return self._model.hypothesis(decoded)

    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        attempt = self._model.whole(samples)
        self._draft = attempt.decoded.said
        return replace(
            self._model.hypothesis(attempt.decoded),
            confidence=attempt.confidence,
            retried=attempt.failed,
            degenerate=self._model.is_degenerate(attempt.decoded),
            words=self._model.words(attempt, samples) if words else (),
            tokens=self._model.tokens(attempt.decoded),
        )


def token_limit(samples: int) -> int:
    """The most tokens that so much audio can hold."""
    return math.ceil(samples / SAMPLE_RATE * TOKENS_PER_SECOND) + SPARE_TOKENS


def gain_of(samples: np.ndarray) -> float:
    """The factor that brings the largest sample to PEAK."""
    if not len(samples):
        return 1.0
    largest = max(float(samples.max()), -float(samples.min()))
    return min(PEAK / largest, LARGEST_GAIN) if largest > 0 else 1.0


def is_repetition(text: str) -> bool:
    """Whether a phrase of two words or more, or a word four times, closes the text in a row."""
    words = text.lower().split()
    for size in range(1, len(words) // 3 + 1):
        times = 4 if size == 1 else 3
        if words[-size:] * times == words[-size * times :]:
            return True
    return False


def _agreement(draft: Sequence[int], chosen: Sequence[int]) -> int:
    """How many of the draft's tokens the model chose itself."""
    for index, token in enumerate(draft):
        if chosen[index] != token:
            return index
    return len(draft)


def _rejoin(rest: Sequence[int], token: int) -> tuple[Sequence[int], Sequence[int]]:
    """What to verify after `token`, and what of the draft to keep for later.

    A draft that was left at one word is taken up again where it says what was just chosen.
    """
    near = list(rest[:REJOIN_WITHIN])
    if token not in near:
        return (), rest
    return rest[near.index(token) + 1 :], ()


def _confidence(log_probabilities: Sequence[float]) -> float:
    if not log_probabilities:
        return 0.0
    return math.exp(min(0.0, _mean(log_probabilities)))


def _mean(log_probabilities: Sequence[float]) -> float:
    return sum(log_probabilities) / len(log_probabilities)


@hookimpl
def edged_recognizers() -> Iterable[type[Recognizer]]:
    return [Moonshine]
