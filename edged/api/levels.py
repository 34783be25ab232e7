"""How loud the microphone is, for a client that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edged.messages import Level
from edged.recognizer import SAMPLE_RATE

SPAN = SAMPLE_RATE // 20
"""Samples that a level is taken of, at least"""
SILENCE = -100.0
"""dB, what is not louder than one step of 16 bits"""
FULL_SCALE = 32768.0


class LevelMeter:
    """Takes audio from the tap and publishes its level, some twenty times a second."""

    def __init__(self, publish: Callable[[Level], None]) -> None:
        self._publish = publish
        self._heard = bytearray()

    def hear(self, pcm: bytes) -> None:
        """16 bit samples."""
        self._heard += pcm
        if len(self._heard) >= 2 * SPAN:
            samples, self._heard = np.frombuffer(self._heard, "<i2"), bytearray()
            self._publish(level(samples))


def level(samples: np.ndarray) -> Level:
    """The level of 16 bit samples, at least one."""
    loudness = samples.astype(np.float64) / FULL_SCALE
    rms = math.sqrt(float(np.mean(np.square(loudness))))
    return Level(_decibels(rms), _decibels(float(np.max(np.abs(loudness)))))


def _decibels(amplitude: float) -> float:
    return SILENCE if amplitude <= 1e-5 else round(20 * math.log10(amplitude), 1)
