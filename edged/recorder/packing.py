"""Samples in the fewest bytes that lose nothing."""

from __future__ import annotations

import numpy as np

S16, F32 = "s16le", "f32le"
BYTES = {S16: 2, F32: 4}
"""Of a sample"""
_FULL_SCALE = 32768


def packed(samples: bytes) -> tuple[bytes, str]:
    """float32 samples as 16 bit ones, where they were such, and how they are encoded."""
    scaled = np.frombuffer(samples, np.float32) * _FULL_SCALE
    whole = np.clip(np.rint(scaled), -_FULL_SCALE, _FULL_SCALE - 1)
    if np.array_equal(whole, scaled):
        return whole.astype("<i2").tobytes(), S16
    return samples, F32


def unpacked(data: bytes, encoding: str) -> np.ndarray:
    """What was packed, sample for sample."""
    if encoding == S16:
        return np.frombuffer(data, "<i2").astype(np.float32) / _FULL_SCALE
    return np.frombuffer(data, "<f4").astype(np.float32)
