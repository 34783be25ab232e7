"""Recordings to calibrate with, and recordings whose words are known.

A reference file has a line for each recording: its path from the file's folder, a tab, and what is
said. A folder of references holds a text file beside each recording, with the same name and .txt.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edged.audio.files import open_recording
from edged.errors import ModelError
from edged.models.check import cut
from edged.recognizer import SAMPLE_RATE

ENDINGS = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".webm"}
SHORTEST_SECONDS = 0.5
"""Less is no speech"""
SEED = 0


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it; no text where that is not known."""

    samples: np.ndarray
    """float32, mono, 16 kHz"""
    text: str = ""


def calibration(folder: Path, seconds: float) -> list[np.ndarray]:
    """Clips of at most 8 s out of a folder's recordings, until so many seconds are together.

    The recordings are taken in a fixed order that is not that of their names, so that a part of
    the folder stands for all of it. Raises ModelError where there is none.
    """
    paths = sorted(_recordings(folder))
    random.Random(SEED).shuffle(paths)  # noqa: S311  no secret
    clips: list[np.ndarray] = []
    for clip in _clips(paths):
        clips.append(clip)
        if sum(map(len, clips)) >= seconds * SAMPLE_RATE:
            break
    if not clips:
        raise ModelError(
            f"There are no recordings in {folder}. Put some there of what the model will hear, "
            "two minutes or so",
            code="no_recordings",
        )
    return clips


def references(path: Path) -> list[Utterance]:
    """All recordings of a reference file or folder. Raises ModelError where there is none."""
    listed = list(_in_folder(path) if path.is_dir() else _in_file(path))
    if not listed:
        raise ModelError(
            f"{path} names no recordings with their texts: write lines of a path, a tab and the "
            "text, or put NAME.txt beside each recording of a folder",
            code="no_recordings",
        )
    return [Utterance(_read(recording), text) for recording, text in listed]


def _recordings(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _clips(paths: Iterable[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        for clip in cut(_read(path)):
            if len(clip) >= SHORTEST_SECONDS * SAMPLE_RATE:
                yield np.ascontiguousarray(clip)


def _read(path: Path) -> np.ndarray:
    """A whole recording. Raises AudioError."""
    return np.concatenate(list(open_recording(path)))


def _in_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    for recording in sorted(_recordings(folder)):
        text = recording.with_suffix(".txt")
        if text.is_file():
            yield recording, text.read_text("utf-8").strip()


def _in_file(path: Path) -> Iterator[tuple[Path, str]]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read ({error})", code="no_recordings") from error
    for line in lines:
        recording, tab, text = line.partition("\t")
        if tab:
            yield path.parent / recording, text.strip()
