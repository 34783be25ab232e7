"""What is said: blocks of speech, noise between them, the same for the same seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench import corpus
from bench.corpus import RATE

BLOCK_SECONDS = 30.0
"""Speech of one block, at least"""
NOISE_SECONDS = 12.0
PAUSE_SECONDS = 1.2
"""Between two utterances"""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of speech, in seconds of the script."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Script:
    """All that is said."""

    samples: np.ndarray
    """int16 at 16 kHz"""
    blocks: list[Block]

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def write(minutes: float, folder: Path = corpus.FOLDER) -> Script:
    """A script that lasts so long: speech and noise in turn."""
    choice = random.Random(corpus.SEED)
    speech = _shuffled([u.path for u in corpus.utterances(folder) if u.core], choice)
    noise = _shuffled([track.path for track in corpus.noise_tracks(folder)], choice)
    pieces: list[np.ndarray] = []
    blocks = []
    length = 0
    while length < minutes * 60 * RATE:
        block = _block(speech)
        blocks.append(Block(length / RATE, (length + len(block)) / RATE))
        rest = corpus.load(next(noise))[: round(NOISE_SECONDS * RATE)]
        pieces += [block, rest]
        length += len(block) + len(rest)
    return Script(_hiss(np.concatenate(pieces)), blocks)


def _shuffled(paths: list[Path], choice: random.Random) -> Iterator[Path]:
    choice.shuffle(paths)
    return itertools.cycle(paths)


def _block(speech: Iterator[Path]) -> np.ndarray:
    pieces = [corpus.silence(PAUSE_SECONDS)]
    while sum(len(piece) for piece in pieces) < BLOCK_SECONDS * RATE:
        pieces += [corpus.load(next(speech)), corpus.silence(PAUSE_SECONDS)]
    return np.concatenate(pieces)


def _hiss(samples: np.ndarray) -> np.ndarray:
    """No real microphone writes zeros."""
    floor = np.random.default_rng(corpus.SEED).integers(-3, 4, len(samples), np.int16)
    return np.clip(samples.astype(np.int32) + floor, -32768, 32767).astype(np.int16)
