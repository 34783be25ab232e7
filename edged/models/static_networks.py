"""Moonshine's networks over graphs of fixed shapes (`models/static_graph.py`), on any runtime.

Audio goes into a bucket that holds it, and a text into a cache with places for all its tokens.
Where a runtime lets its own input tensors be written, level and silence are made on the way into
them, and the cache lies in them too: a token costs one run and the copy of its own keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edged.errors import ModelError
from edged.models.bucket import (
    BUCKETS,
    FEW_BUCKETS,
    Bucket,
    bucket_for,
    columns_of,
    frames_of,
)
from edged.models.graph import MASKED
from edged.models.networks import GROWING_AXIS, Networks, Writing
from edged.models.store import STATIC, Model
from edged.provider import Session, Shape, Value
from edged.recognizer import SAMPLE_RATE, OpenSession

VERIFIED = 16
"""Tokens of a draft that one run takes"""


@dataclass(frozen=True, slots=True, eq=False)
class _Encoded:
    """What the encoder made of some audio."""

    bucket: Bucket
    frames: int
    """Those of the bucket that hold audio"""
    cross: Mapping[str, Value]
    """Keys and values for the decoder's cross-attention"""


class StaticNetworks(Networks):
    """Graphs of fixed shapes: audio, text and cache are padded, and masked."""

    def __init__(self, model: Model, precision: str, open_session: OpenSession) -> None:
        """Load the graphs. Raises ProviderError."""
        formats = open_session.formats.intersection(STATIC)
        self._encoder = open_session(model.graph(precision, "encoder", formats), True)
        # One file twice: a graph is fixed to a number of tokens, and its cache to a graph.
        path = model.graph(precision, "decoder", formats)
        self._decoders = (
            _Decoder(open_session(path, False), 1),
            _Decoder(open_session(path, True), VERIFIED),
        )
        self._cross = [spec.name for spec in self._encoder.outputs]
        self._buckets = FEW_BUCKETS if open_session.compiles else BUCKETS
        if open_session.compiles:
            self._compile()

    def _compile(self) -> None:
        """Ask for the shapes now, so that nobody waits for them while they speak; only those of
        the longest utterances wait until there is one."""
        for bucket in self._buckets[:-1]:
            self._encoder.arrays(_encoder_shapes(bucket))
            for decoder in self._decoders:
                decoder.begin(_Encoded(bucket, bucket.frames, {}), object())

    def encode(self, samples: np.ndarray, gain: float, front: int, back: int) -> _Encoded:
        length = front + len(samples) + back
        bucket = bucket_for(length, self._buckets)
        if bucket is None:
            raise ModelError(
                f"{length / SAMPLE_RATE:.1f} s are more audio than the model takes at once; "
                f"it takes {self._buckets[-1].samples / SAMPLE_RATE:.0f} s",
                code="audio_too_long",
            )
        arrays = self._encoder.arrays(_encoder_shapes(bucket))
        audio = arrays["audio"][0]
        audio[:front] = 0
        self.copied += len(samples)
        np.multiply(samples, gain, out=audio[front : front + len(samples)], casting="same_kind")
        audio[front + len(samples) :] = 0
        columns, frames = columns_of(length), frames_of(length)
        arrays["norm_mask"][0, :columns] = 1 / columns
        arrays["norm_mask"][0, columns:] = 0
        _mask(arrays["frame_mask"], frames)
        arrays["positions"][:] = np.arange(bucket.frames)
        made = self._encoder.run(arrays, self._cross)
        return _Encoded(bucket, frames, dict(zip(self._cross, made, strict=True)))

    def features(self, encoded: _Encoded) -> np.ndarray:
        values = encoded.cross[self._cross[-1]].numpy()
        return values[:, :, : encoded.frames].astype(np.float32)

    def write(self, encoded: _Encoded) -> Writing:
        return _StaticWriting(self._decoders, encoded)

    def attention(self, encoded: _Encoded, tokens: Sequence[int]) -> list[np.ndarray]:
        decoder = self._decoders[-1]
        decoder.begin(encoded, object())
        parts = [decoder.attention(encoded, chunk) for chunk in _chunks(tokens)]
        return [np.concatenate(layer, axis=1) for layer in zip(*parts, strict=True)]


class _StaticWriting(Writing):
    """One text at a time: the next one to begin takes the caches.

    Of the two decoders each may lack the last tokens, which the other one took.
    """

    def __init__(self, decoders: tuple[_Decoder, _Decoder], encoded: _Encoded) -> None:
        self._decoders = decoders
        self._encoded = encoded
        self._turn = object()
        self._last = decoders[0]
        self._last.begin(encoded, self._turn)

    def feed(self, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        assert self._last.turn is self._turn, "another text was begun"
        chosen: list[int] = []
        likely: list[float] = []
        for chunk in _chunks(tokens):
            made = self._decoder_for(len(chunk)).choose(self._encoded, chunk)
            chosen += made[0]
            likely += made[1]
        return chosen, likely

    def _decoder_for(self, tokens: int) -> _Decoder:
        """The smallest that takes so many, with what was said so far in its cache."""
        decoder = next(decoder for decoder in self._decoders if decoder.new >= tokens)
        if decoder is not self._last:
            if decoder.turn is not self._turn:
                decoder.begin(self._encoded, self._turn)
            decoder.catch_up(self._last)
            self._last = decoder
        return decoder

    def shorten(self, length: int) -> None:
        for decoder in self._decoders:
            decoder.length = min(decoder.length, length)


class _Decoder:
    """The decoder's graph for a fixed number of new tokens, and its cache."""

    def __init__(self, session: Session, new: int) -> None:
        self.new = new
        self.length = 0
        """Tokens in the cache"""
        self.turn = object()
        """The text that it is at"""
        self._names = [spec.name for spec in session.inputs]
        shapes = {spec.name: spec.shape for spec in session.inputs}
        self._cache_shape = [size or 0 for size in shapes["past_k_0"]]
        outputs = [spec.name for spec in session.outputs]
        self._attention = [name for name in outputs if name.startswith("attention")]
        carried = {name.replace("new", "past"): name for name in outputs if name.startswith("new")}
        self._cache = session.places(carried, GROWING_AXIS)
        self._arrays: Mapping[str, np.ndarray] = {}
        self._shapes: dict[str, Shape] = {}

    def begin(self, encoded: _Encoded, turn: object) -> None:
        """Forget the text, for one about something else."""
        shapes = self._shapes_in(encoded.bucket)
        if shapes != self._shapes:
            self._shapes, self._arrays = shapes, self._cache.arrays(shapes)
            later = np.triu(np.ones((self.new, self.new), bool), 1)
            self._arrays["token_mask"][..., -self.new :] = np.where(later, MASKED, 0)
        _mask(self._arrays["frame_mask"], encoded.frames)
        self.turn = turn
        self.length = 0

    def _shapes_in(self, bucket: Bucket) -> dict[str, Shape]:
        sizes: dict[str, Shape] = {
            "tokens": (1, self.new),
            "positions": (self.new,),
            "token_mask": (1, 1, self.new, bucket.places + self.new),
            "frame_mask": (1, 1, 1, bucket.frames),
        }
        _, heads, _, width = self._cache_shape
        for name in self._names:
            if name.startswith("past"):
                sizes[name] = (1, heads, bucket.places, width)
            elif name.startswith("cross_k"):
                sizes[name] = (1, heads, width, bucket.frames)
            elif name.startswith("cross_v"):
                sizes[name] = (1, heads, bucket.frames, width)
        return sizes

    def catch_up(self, other: _Decoder) -> None:
        """Take what another one has in its cache."""
        self._cache.take(other._cache, self.length, other.length)
        self.length = other.length

    def choose(self, encoded: _Encoded, tokens: Sequence[int]) -> tuple[list[int], list[float]]:
        """Take tokens; the choice after each and the logarithm of its probability."""
        chosen, likely = self._run(encoded, tokens, ["next_token", "log_probability"])
        count = len(tokens)
        return chosen[0, :count].tolist(), likely[0, :count, 0].tolist()

    def attention(self, encoded: _Encoded, tokens: Sequence[int]) -> list[np.ndarray]:
        """Take tokens; for each layer how much each listened to each frame, [H, S, T]."""
        layers = self._run(encoded, tokens, self._attention)
        return [layer[0, :, : len(tokens), : encoded.frames] for layer in layers]

    def _run(
        self, encoded: _Encoded, tokens: Sequence[int], outputs: Sequence[str]
    ) -> list[np.ndarray]:
        count, first = len(tokens), self.length
        places = self._arrays["token_mask"].shape[-1] - self.new
        if first + count > places:
            raise ModelError(f"There are places for {places} tokens", code="text_too_long")
        arrays = self._arrays
        arrays["tokens"][0, :count] = tokens
        arrays["tokens"][0, count:] = 0
        arrays["positions"][:] = np.arange(first, first + self.new)
        arrays["token_mask"][..., :first] = 0
        arrays["token_mask"][..., first:places] = MASKED
        made = self._cache.run({**arrays, **encoded.cross}, outputs, first, count)
        self.length += count
        return [value.numpy() for value in made]


def _encoder_shapes(bucket: Bucket) -> dict[str, Shape]:
    return {
        "audio": (1, bucket.samples),
        "norm_mask": (1, bucket.columns, 1),
        "frame_mask": (1, 1, 1, bucket.frames),
        "positions": (bucket.frames,),
    }


def _mask(mask: np.ndarray, length: int) -> None:
    """Leave the first `length` places free."""
    mask[..., :length] = 0
    mask[..., length:] = MASKED


def _chunks(tokens: Sequence[int]) -> Iterator[Sequence[int]]:
    return (tokens[first : first + VERIFIED] for first in range(0, len(tokens), VERIFIED))
