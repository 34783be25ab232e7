"""The speech corpus beside the checkout: utterances with references, and noise."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).parent.parent
FOLDER = ROOT.parent / "shared" / "corpus"
RATE = 16000
"""Hertz, of all audio here"""
OUTSIDE_CORE = ("speech_commands", "digit_strings", "longform", "voxforge_tutorial")
"""Sets that are reported apart: no sentences, or too easy or long to be averaged with the rest"""
SEED = 20


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of speech with its reference."""

    path: Path
    set: str
    reference: str
    """Lower case, no punctuation, digits as words"""

    @property
    def core(self) -> bool:
        return self.set not in OUTSIDE_CORE


@dataclass(frozen=True, slots=True)
class NoiseTrack:
    """One recording in which nobody says a word."""

    path: Path
    human: bool
    """Made by people: coughs, laughter, steps"""


def utterances(folder: Path = FOLDER) -> list[Utterance]:
    """All utterances, in the manifest's order."""
    return [
        Utterance(folder / line["path"], line["set"], line["norm"])
        for line in _lines(folder / "manifest.jsonl")
    ]


def noise_tracks(folder: Path = FOLDER) -> list[NoiseTrack]:
    """The noise tracks without speech."""
    return [
        NoiseTrack(folder / line["path"], line["human_nonspeech"])
        for line in _lines(folder / "noise_manifest.jsonl")
        if not line["contains_speech"]
    ]


def _lines(manifest: Path) -> list[dict[str, Any]]:
    if not manifest.is_file():
        raise SystemExit(f"the speech corpus is not at {manifest.parent}; see --corpus")
    return [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]


def choose_evenly(candidates: Sequence[Utterance], count: int, seed: int = SEED) -> list[Utterance]:
    """`count` utterances, as many of each set as it has; the same ones for the same seed."""
    choice = random.Random(seed)
    piles: dict[str, list[Utterance]] = {}
    for utterance in candidates:
        piles.setdefault(utterance.set, []).append(utterance)
    for pile in piles.values():
        choice.shuffle(pile)
    chosen: list[Utterance] = []
    while len(chosen) < count and any(piles.values()):
        chosen += [pile.pop() for pile in piles.values() if pile]
    return chosen[:count]


def choose_core(folder: Path, count: int) -> list[Utterance]:
    """`count` utterances of the core sets, likewise."""
    return choose_evenly([u for u in utterances(folder) if u.core], count)


def load(path: Path) -> np.ndarray:
    """A recording as int16 mono at 16 kHz, the samples of the file untouched."""
    samples: np.ndarray
    samples, rate = soundfile.read(path, dtype="int16")
    if rate != RATE or samples.ndim != 1:
        raise ValueError(f"{path} is not 16 kHz mono")
    return samples


def floats(samples: np.ndarray) -> np.ndarray:
    """int16 samples as the engine hears them: float32 from -1 to 1."""
    return (samples / 32768).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    """Digital silence."""
    return np.zeros(round(seconds * RATE), np.int16)
