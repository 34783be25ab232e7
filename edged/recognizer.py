"""The recogniser's and the voice detector's contracts: samples in, text or probability out.

Neither knows a device: both are given an opener that loads a graph wherever the rung says.
There is no clock, no thread and no socket inside, so that the same samples always give the same
result. Audio is float32, mono, 16 kHz, -1 to 1; positions and lengths count samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edged.provider import Session

if TYPE_CHECKING:
    import numpy as np

    from edged.models.store import Model

SAMPLE_RATE = 16000
"""Hertz, everywhere behind the audio sources."""


class OpenSession(Protocol):
    """Loads graphs on the rung's device."""

    formats: frozenset[str]
    """Endings of the files that its provider opens"""
    static: bool
    """Whether its device takes only graphs whose shapes are all fixed"""
    compiles: bool
    """Whether its device wants few shapes, and those from the start"""
    concurrent: bool
    """Whether its sessions may be run by several threads at the same time"""

    def __call__(self, path: Path, parallel: bool) -> Session:
        """Load one; the flag says whether its operators are large enough to be shared among
        threads. Raises ProviderError."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a hypothesis."""

    text: str
    start: int
    """Samples from the utterance's first"""
    end: int
    """Samples from the utterance's first"""
    confidence: float
    """0 to 1"""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a hypothesis."""

    number: int
    """In the model's vocabulary"""
    data: bytes
    """Its share of the text in UTF-8, which may end inside a character"""
    log_probability: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an utterance, or its beginning, seems to say."""

    text: str
    confidence: float = 0.0
    """0 to 1: the geometric mean of the tokens' probabilities"""
    certainty: tuple[float, ...] = ()
    """For each word of `text.split()` the least probability of its tokens, 0 to 1; for display.
    None at all where the model does not say."""
    retried: bool = False
    """Whether a first decode had failed, so that this text is less to be trusted"""
    degenerate: bool = False
    """Whether the text goes in circles or has no end, so that the engine is in doubt"""
    finished: bool = False
    """Whether the text reads as a finished sentence, so that the endpoint may come early"""
    words: tuple[Word, ...] = ()
    tokens: tuple[Token, ...] = ()
    """Of a final, where the model writes in tokens: their shares in a row are `text`"""


@dataclass(frozen=True, slots=True)
class Description:
    """What a folder holds that came from elsewhere, in a layout of its family's own."""

    files: Mapping[str, Path]
    """By place in a model folder of edged's: int8/model.sherpa/encoder.onnx"""
    decoding: Mapping[str, Any]
    """What the recogniser wants to be told: [decoding] of model.toml"""
    recordings: Sequence[Path] = ()
    """Of speech that the model recognises, as far as some came with it"""


class Decoding(ABC):
    """The recognition of one utterance."""

    @abstractmethod
    def advance(self, samples: np.ndarray) -> Hypothesis:
        """Recognise quickly the utterance so far, given whole: `samples` grows from call to call.

        The array is a view of shared memory: read it in place, do not keep it. A recogniser that
        works incrementally reads from where it stopped.
        """

    @abstractmethod
    def finish(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        """Recognise the whole utterance as `Recognizer.transcribe` would, letter for letter.

        May be called again with more samples: the first time may have been a guess that the
        speaker was done.
        """


class Recognizer(ABC):
    """A loaded model. One serves every stream of its worker."""

    family: ClassVar[str]
    """The `family` of model.toml that it drives."""
    concurrent: ClassVar[bool] = False
    """Whether several of its decodings may be used at the same time, each by one thread, where the
    provider is `concurrent` as well. Otherwise by one thread at a time, not always the same."""

    copied = 0
    """Samples of audio that were copied so far, because they could not be read where they lie"""

    stages: ClassVar[Sequence[str]] = ()
    """Methods of its own that `edged trace` shows: `encode`, `decode` and `words` are what it adds
    up"""

    @classmethod
    def describe(cls, folder: Path) -> Description | None:
        """What `edged models add` should take of a folder without a model.toml; None of those that
        this family does not know. Nothing is loaded. Raises ModelError for what is half there."""
        return None

    @abstractmethod
    def __init__(self, model: Model, precision: str, open_session: OpenSession) -> None:
        """Load the model. Raises ModelError or ProviderError."""

    @abstractmethod
    def start(self) -> Decoding:
        """Begin an utterance."""

    @abstractmethod
    def features(self, samples: np.ndarray) -> np.ndarray:
        """What the first network makes of the samples, for comparison with a reference.

        Any numbers will do that a wrong device would get wrong; always of the same shape for the
        same number of samples.
        """

    def transcribe(self, samples: np.ndarray, words: bool = False) -> Hypothesis:
        """The offline decode: one whole utterance."""
        return self.start().finish(samples, words)


class VoiceDetector(ABC):
    """Tells speech from everything else, window by window."""

    name: ClassVar[str]
    window: ClassVar[int]
    """Samples a call judges"""
    context: ClassVar[int]
    """Samples before the window that a call also wants to see"""

    @abstractmethod
    def __init__(self, open_session: OpenSession) -> None:
        """Load the detector. Raises ProviderError."""

    @abstractmethod
    def probability(self, samples: np.ndarray, state: object | None) -> tuple[float, object]:
        """Judge `context + window` samples; return the probability of speech and the next state.

        State None is the state of a detector that has heard nothing. State is a value, so that
        one detector serves many streams and a stream can start anew.
        """

    def probabilities(
        self, samples: np.ndarray, state: object | None
    ) -> Sequence[tuple[float, object]]:
        """The same for each of the windows that lie behind the context, one or more, in turn. A
        detector that can judge several at once does it here; it is the one that is called."""
        judged: list[tuple[float, object]] = []
        for start in range(0, len(samples) - self.context, self.window):
            window = samples[start : start + self.context + self.window]
            judged.append(self.probability(window, judged[-1][1] if judged else state))
        return judged
