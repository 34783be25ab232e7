"""Sizes of Moonshine's graphs where shapes are fixed: audio and text are padded to a bucket's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edged.recognizer import SAMPLE_RATE

SECONDS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 24, 30, 36)
"""Audio that a bucket holds at least. Close together where utterances are frequent: what is padded
is computed."""
FEW_SECONDS = (4, 9, 18, 36)
"""The same for devices that compile a graph for each"""
FRAME = 384
"""Samples an encoder frame stands for (24 ms)."""
SAMPLES_BESIDE = 832
"""Samples of a bucket beyond those of its frames: what the convolutions look over"""
TAPS = 127
HOP = 64
"""Of the first convolution, in samples"""
TOKENS_PER_SECOND = 6.5
"""The model's own limit on what can be said; beyond it lies only repetition."""
PLACES_TO_SPARE = 24
"""For the token that a text begins with, for those that are allowed beyond the audio's, and for
drafts"""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One choice of the sizes that are fixed."""

    frames: int
    """Of the encoder, 24 ms each"""

    @property
    def samples(self) -> int:
        """Of audio.

        Chosen so that every convolution's stride divides what it is given: then windows are plain
        slices, without strides, which some devices do not have.
        """
        return FRAME * self.frames + SAMPLES_BESIDE

    @property
    def columns(self) -> int:
        """Of the first convolution."""
        return columns_of(self.samples)

    @property
    def places(self) -> int:
        """Of the decoder's cache, in tokens: all that may be said in so much audio."""
        tokens = self.samples / SAMPLE_RATE * TOKENS_PER_SECOND + PLACES_TO_SPARE
        return math.ceil(tokens / 8) * 8

    @classmethod
    def of_seconds(cls, seconds: float) -> Bucket:
        """That holds so much audio and hardly more."""
        return cls(math.ceil((seconds * SAMPLE_RATE - SAMPLES_BESIDE) / FRAME))


BUCKETS = tuple(Bucket.of_seconds(seconds) for seconds in SECONDS)
FEW_BUCKETS = tuple(Bucket.of_seconds(seconds) for seconds in FEW_SECONDS)


def bucket_for(samples: int, buckets: Sequence[Bucket] = BUCKETS) -> Bucket | None:
    """The smallest that holds so many samples, or None."""
    return next((bucket for bucket in buckets if bucket.samples >= samples), None)


def columns_of(samples: int) -> int:
    """Of the first convolution over so many samples."""
    return (samples - TAPS) // HOP + 1


def frames_of(samples: int) -> int:
    """Of the encoder over so many samples."""
    return ((columns_of(samples) - 7) // 3 + 1 - 3) // 2 + 1
