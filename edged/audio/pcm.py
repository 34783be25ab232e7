"""Raw PCM of any usual kind to float32 mono at 16 kHz, block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.errors import AudioError
from edged.recognizer import SAMPLE_RATE

Bytes = bytes | memoryview
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
"""Hertz"""
MOST_CHANNELS = 64


def _expand_mulaw(codes: np.ndarray) -> np.ndarray:
    """ITU-T G.711 mu-law bytes to float32."""
    inverted = ~codes
    exponent = (inverted >> 4) & 7
    magnitude = ((((inverted & 15).astype(np.int32) << 3) + 132) << exponent) - 132
    return np.where(inverted & 128, -magnitude, magnitude).astype(np.float32) / 32768


def _expand_alaw(codes: np.ndarray) -> np.ndarray:
    """ITU-T G.711 A-law bytes to float32."""
    inverted = codes ^ 0x55
    exponent = (inverted >> 4) & 7
    mantissa = ((inverted & 15).astype(np.int32) << 4) + 8
    shifted = (mantissa + 256) << np.maximum(exponent.astype(np.int32) - 1, 0)
    magnitude = np.where(exponent == 0, mantissa, shifted)
    return np.where(inverted & 128, magnitude, -magnitude).astype(np.float32) / 32768


_EVERY_BYTE = np.arange(256, dtype=np.uint8)
_MULAW, _ALAW = _expand_mulaw(_EVERY_BYTE), _expand_alaw(_EVERY_BYTE)


def _from_s16(data: Bytes, out: np.ndarray) -> None:
    np.multiply(np.frombuffer(data, "<i2"), np.float32(1 / 32768), out=out)


def _from_f32(data: Bytes, out: np.ndarray) -> None:
    out[:] = np.frombuffer(data, "<f4")


def _from_mulaw(data: Bytes, out: np.ndarray) -> None:
    np.take(_MULAW, np.frombuffer(data, np.uint8), out=out)


def _from_alaw(data: Bytes, out: np.ndarray) -> None:
    np.take(_ALAW, np.frombuffer(data, np.uint8), out=out)


ENCODINGS: dict[str, tuple[int, Callable[[Bytes, np.ndarray], None]]] = {
    "s16le": (2, _from_s16),
    "f32le": (4, _from_f32),
    "mulaw": (1, _from_mulaw),
    "alaw": (1, _from_alaw),
}
"""Bytes a sample, and the decoder: it writes float32 samples where it is told"""
UNLIMITED = {"f32le"}
"""What can hold more than full scale, or no numbers"""


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """How raw audio is laid out."""

    rate: int = SAMPLE_RATE
    """Hertz"""
    encoding: str = "s16le"
    channels: int = 1
    """Interleaved"""

    def check(self) -> None:
        """Raise AudioError, saying what would do, when edged cannot read this."""
        if self.encoding not in ENCODINGS:
            raise AudioError(
                f"encoding {self.encoding[:40]!r} is unknown; use one of {', '.join(ENCODINGS)}",
                code="bad_encoding",
            )
        if not LOWEST_RATE <= self.rate <= HIGHEST_RATE:
            raise AudioError(
                f"rate {self.rate} is out of range; use {LOWEST_RATE} to {HIGHEST_RATE} hertz",
                code="bad_rate",
            )
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise AudioError(
                f"{self.channels} channels are out of range; use 1 to {MOST_CHANNELS}",
                code="bad_channels",
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return ENCODINGS[self.encoding][0] * self.channels


class PcmConverter:
    """Turns a stream of bytes, cut anywhere, into float32 mono at 16 kHz.

    NaN and infinite samples become silence and are counted; samples beyond full scale are
    limited. Channels are mixed, or one of them chosen.
    """

    def __init__(self, layout: PcmFormat, channel: int | None = None) -> None:
        layout.check()
        self._format = layout
        self._decode = ENCODINGS[layout.encoding][1]
        self._rest = b""
        self._mixer = Mixer(layout.rate, layout.channels, channel)

    @property
    def bad_samples(self) -> int:
        """Samples so far that were not a number or infinite."""
        return self._mixer.bad_samples

    @property
    def direct(self) -> bool:
        """Whether each sample becomes one, so that `pour` may be used."""
        return self._format.channels == 1 and not self._mixer.resamples

    def count(self, data: Bytes) -> int:
        """How many frames are complete once these bytes have come."""
        return (len(self._rest) + len(data)) // self._format.frame_bytes

    def feed(self, data: Bytes) -> np.ndarray:
        """Convert what is complete; a frame cut in two waits for its other half."""
        samples = np.empty(self.count(data) * self._format.channels, np.float32)
        self._decode(self._whole(data), samples)
        return self._mixer.feed(samples.reshape(-1, self._format.channels))

    def pour(self, data: Bytes, out: np.ndarray) -> None:
        """The same for one channel at 16 kHz, written where it is wanted: float32 [count(data)]."""
        self._decode(self._whole(data), out)
        if self._format.encoding in UNLIMITED:
            self._mixer.limit(out)

    def _whole(self, data: Bytes) -> Bytes:
        if self._rest:
            data = self._rest + bytes(data)
        if cut := len(data) % self._format.frame_bytes:
            self._rest = bytes(data[-cut:])
            return data[:-cut]
        self._rest = b""
        return data

    def finish(self) -> np.ndarray:
        """What the resampler still holds. Half a frame at the end is dropped."""
        self._rest = b""
        return self._mixer.finish()


class Mixer:
    """float32 frames [n, channels] at any rate to float32 mono at 16 kHz."""

    def __init__(self, rate: int, channels: int, channel: int | None = None) -> None:
        if channel is not None and not 0 <= channel < channels:
            raise AudioError(
                f"channel {channel} of {channels} does not exist; count from 0",
                code="bad_channels",
            )
        self._channel = channel
        self.bad_samples = 0
        self._resampler = _resampler(rate) if rate != SAMPLE_RATE else None

    @property
    def resamples(self) -> bool:
        return self._resampler is not None

    def feed(self, frames: np.ndarray) -> np.ndarray:
        frames = np.array(frames, np.float32)
        self.limit(frames)
        mono = self._mono(frames)
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono)
        return np.ascontiguousarray(mono, np.float32)

    def finish(self) -> np.ndarray:
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        return np.ascontiguousarray(rest, np.float32)

    def limit(self, samples: np.ndarray) -> None:
        """Make those silence that are no numbers, and the others no louder than full scale."""
        if not samples.size:
            return
        # Either meets every NaN and infinity, before the slow look for which ones.
        highest, lowest = samples.max(), samples.min()
        if not (np.isfinite(highest) and np.isfinite(lowest)):
            self.bad_samples += int(np.count_nonzero(~np.isfinite(samples)))
            np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            highest, lowest = samples.max(), samples.min()
        if highest > 1.0 or lowest < -1.0:
            np.clip(samples, -1.0, 1.0, out=samples)

    def _mono(self, frames: np.ndarray) -> np.ndarray:
        if frames.shape[1] == 1:
            return np.asarray(frames[:, 0])
        if self._channel is not None:
            return np.asarray(frames[:, self._channel])
        return np.asarray(frames.mean(axis=1, dtype=np.float32))


def _resampler(rate: int) -> Any:
    import soxr

    return soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
