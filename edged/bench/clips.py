"""The recordings that are heard: the model's own, or a folder of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edged.audio.files import open_recording
from edged.errors import AudioError, EdgedError
from edged.models import check
from edged.models.store import Model
from edged.recognizer import SAMPLE_RATE

ENDINGS = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a"}
SHORTEST_SECONDS = 0.1


@dataclass(frozen=True)
class Clip:
    """One recording."""

    name: str
    samples: np.ndarray
    """int16, mono, 16 kHz"""
    reference: str | None = None
    """What is said in it, where that is known"""

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def of_model(model: Model) -> list[Clip]:
    """Those that every rung is proven with; the reference is what float32 writes."""
    texts = model.gate or {check.CHECK_CLIP: model.check_text}
    return [
        Clip(name, _as_int16(check.read_clip(model.path(name))), text)
        for name, text in texts.items()
    ]


def of_folder(folder: Path) -> list[Clip]:
    """All below a folder, by name; NAME.txt beside NAME.wav is its reference. Raises EdgedError."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise EdgedError(
            f"{folder} has no recordings ({', '.join(sorted(ENDINGS))}). Name a folder that does",
            code="no_recordings",
        )
    return [_read(path, str(path.relative_to(folder))) for path in paths]


def _read(path: Path, name: str) -> Clip:
    samples = _as_int16(np.concatenate(list(open_recording(path))))
    if len(samples) < SHORTEST_SECONDS * SAMPLE_RATE or not samples.any():
        raise AudioError(
            f"{path} holds only silence. Take it out of the folder", code="empty_audio"
        )
    text = path.with_suffix(".txt")
    return Clip(name, samples, text.read_text("utf-8").strip() if text.is_file() else None)


def _as_int16(samples: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    return scaled
