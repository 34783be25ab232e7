"""The two networks of a Moonshine: one hears, the other writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.models.store import Model
from edged.provider import Loop, Value
from edged.recognizer import OpenSession

GROWING_AXIS = 2
"""Of the decoder's keys and values [1, H, P, D], that of the tokens"""


class Writing(ABC):
    """The decoder on its way through one text."""

    @abstractmethod
    def feed(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """Take tokens after those that it has; what it would choose after each of them, and the
        logarithm of that choice's probability."""

    @abstractmethod
    def shorten(self, length: int) -> None:
        """Forget all tokens but the first `length`."""


class Networks(ABC):
    """Encoder and decoder of a model on one rung."""

    copied = 0
    """Samples of audio that were copied so far"""

    @abstractmethod
    def encode(self, samples: np.ndarray, gain: float, front: int, back: int) -> Any:
        """What the encoder makes of `samples`, read in place, times `gain`, with so many samples of
        silence before and after them."""

    @abstractmethod
    def features(self, encoded: Any) -> np.ndarray:
        """Numbers that a wrong device would get wrong: the values of the last layer's
        cross-attention, float32 [1, H, T, D] with T frames."""

    @abstractmethod
    def write(self, encoded: Any) -> Writing:
        """Begin a text about it."""

    @abstractmethod
    def attention(self, encoded: Any, tokens: Sequence[int]) -> list[np.ndarray]:
        """For each layer how much each of S tokens listened to each of T frames, [H, S, T]."""


class OpenNetworks(Networks):
    """Graphs of open shapes: audio, text and cache are as long as they are."""

    def __init__(self, model: Model, precision: str, open_session: OpenSession) -> None:
        """Load the graphs that `models/graph.py` describes. Raises ProviderError."""
        formats = open_session.formats
        self._encoder = open_session(model.graph(precision, "encoder", formats), True)
        self._decoder = open_session(model.graph(precision, "decoder", formats), False)
        self._cross = [spec.name for spec in self._encoder.outputs]
        made = [spec.name for spec in self._decoder.outputs]
        self._attention = [name for name in made if name.startswith("attention")]
        self._carried = {
            name.replace("present", "past"): name for name in made if name.startswith("present")
        }

    def encode(
        self, samples: np.ndarray, gain: float, front: int, back: int
    ) -> Mapping[str, Value]:
        """Keys and values for the decoder's cross-attention. Level and silence are made inside the
        graph, so that the audio is not copied for them."""
        inputs = {
            "audio": samples[None],
            "gain": np.array([gain], np.float32),
            "padding": np.array([front, back], np.int64),
        }
        return dict(zip(self._cross, self._encoder.run(inputs, self._cross), strict=True))

    def features(self, encoded: Mapping[str, Value]) -> np.ndarray:
        return encoded[self._cross[-1]].numpy().astype(np.float32)

    def write(self, encoded: Mapping[str, Value]) -> Writing:
        return _OpenWriting(self._decoder.loop(self._carried, GROWING_AXIS), encoded)

    def attention(self, encoded: Mapping[str, Value], tokens: Sequence[int]) -> list[np.ndarray]:
        loop = self._decoder.loop(self._carried, GROWING_AXIS)
        layers = loop.run({"input_ids": _ids(tokens), **encoded}, self._attention)
        return [layer.numpy()[0] for layer in layers]


class _OpenWriting(Writing):
    def __init__(self, loop: Loop, encoded: Mapping[str, Value]) -> None:
        self._loop = loop
        self._encoded = encoded

    def feed(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        chosen, likely = self._loop.run(
            {"input_ids": _ids(tokens), **self._encoded}, ["next_token", "log_probability"]
        )
        return chosen.numpy()[0].tolist(), likely.numpy()[0].tolist()

    def shorten(self, length: int) -> None:
        self._loop.shorten(length)


def _ids(tokens: Sequence[int]) -> np.ndarray:
    return np.array([tokens], np.int64)
