"""Which key was pressed: the strongest of four low and four high tones, frame by frame."""

import itertools
import json

import numpy as np

from edged.recognizer import SAMPLE_RATE, Decoding, Hypothesis, Recognizer, VoiceDetector, Word

TONES = np.array([697, 770, 852, 941, 1209, 1336, 1477, 1633])
"""Hertz: rows, then columns"""
KEYS = np.array(list("123A456B789C*0#D"))
FRAME = 512
"""Samples: 32 ms, in which two tones are told apart"""
LEAST_LEVEL = 1e-3
"""Root mean square of what is heard at all"""
WAVES = np.exp(-2j * np.pi * np.outer(np.arange(FRAME), TONES) / SAMPLE_RATE)


def shares(samples):
    """Each tone's share of the power of each frame, float32 [T, 8]."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(frames**2, axis=1, keepdims=True)
    tones = np.abs(frames @ WAVES) ** 2 / FRAME**2 * 2
    heard = power > LEAST_LEVEL**2
    return np.where(heard, tones / np.maximum(power, LEAST_LEVEL**2), 0).astype(np.float32)


def keys(found, least):
    """For each frame the number of its key, -1 for none, and how sure that is."""
    low, high = found[:, :4], found[:, 4:]
    share = np.clip(low.max(axis=1) + high.max(axis=1), 0, 1)
    both = np.minimum(low.max(axis=1), high.max(axis=1)) > least / 4
    key = 4 * low.argmax(axis=1) + high.argmax(axis=1)
    return np.where((share > least) & both, key, -1), share


class Keys(Recognizer):
    family = "dtmf"

    def __init__(self, model, precision, open_session):
        limits = json.loads(model.path(f"{precision}/limits.json").read_text())
        self._least, self._frames = limits["share"], limits["frames"]

    def start(self):
        return Pressed(self)

    def features(self, samples):
        return shares(samples)

    def hypothesis(self, samples):
        key, share = keys(shares(samples), self._least)
        words, first = [], 0
        for number, run in itertools.groupby(key):
            end = first + len(list(run))
            if number >= 0 and end - first >= self._frames:
                sure = float(share[first:end].mean())
                words.append(Word(str(KEYS[number]), first * FRAME, end * FRAME, sure))
            first = end
        certainty = tuple(word.confidence for word in words)
        confidence = float(np.mean(certainty)) if words else 0.0
        text = " ".join(word.text for word in words)
        return Hypothesis(text, confidence, certainty, words=tuple(words))


class Pressed(Decoding):
    def __init__(self, recognizer):
        self._recognizer = recognizer

    def advance(self, samples):
        return self._recognizer.hypothesis(samples)

    def finish(self, samples, words=False):
        return self._recognizer.hypothesis(samples)


class Tones(VoiceDetector):
    name = "dtmf"
    window = FRAME
    context = 0

    def __init__(self, open_session):
        pass

    def probability(self, samples, state):
        key, share = keys(shares(samples), 0.5)
        return (float(share[0]) if key[0] >= 0 else 0.0), None
