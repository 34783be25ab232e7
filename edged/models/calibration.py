"""What a float32 model's networks take in while it recognises, in which ranges and how together.

The recogniser itself runs, on sessions that remember what they were given: nothing here knows how
its graphs are wired.

Histograms and the choice of a range from them are onnxruntime's (`HistogramCollector`); its own
default of 128 bins leaves the entropy method one range to choose from, and it prints.

Imports onnx and onnxruntime: never in the daemon.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edged.errors import ModelError
from edged.models.quantize import Range
from edged.models.trial import Trial
from edged.provider import Opener, Session, Tensor, Value
from edged.recognizer import Recognizer

METHODS = ("minmax", "entropy", "percentile")
BINS = 1024
QUANTIZED_BINS = 128
PERCENTILE = 99.99
"""Of an activation's numbers, so many per cent lie within the range"""

Feed = Mapping[str, Tensor]
"""What a graph was given for one run"""


@dataclass(slots=True)
class Network:
    """One graph of a recogniser."""

    path: Path
    parallel: bool
    """Whether its operators are large: many rows at a time"""
    feeds: list[Feed] | None = None
    """What it was given since it is listened to; None while it is not"""


class Recorder:
    """Opens graphs as `Opener` does, and remembers what they are given."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        """By the graph's name: encoder, decoder"""

    def through(self, open_session: Opener) -> Recorder:
        """Open by this opener from now on."""
        self._opener = open_session
        self.formats, self.static = open_session.formats, open_session.static
        self.compiles = open_session.compiles
        self.concurrent = False  # feeds are kept in their order
        return self

    def __call__(self, path: Path, parallel: bool) -> Session:
        network = self.networks[path.name.partition(".")[0]] = Network(path, parallel)
        return _Recorded(self._opener(path, parallel), network)

    def heard(self, recognizer: Recognizer, clips: Iterable[np.ndarray]) -> dict[str, list[Feed]]:
        """What each graph is given while these are recognised, word after word."""
        for network in self.networks.values():
            network.feeds = []
        for clip in clips:
            recognizer.start().advance(clip)
        found = {name: network.feeds or [] for name, network in self.networks.items()}
        for network in self.networks.values():
            network.feeds = None
        return found


class _Recorded(Session):
    """A session whose inputs its network remembers."""

    def __init__(self, session: Session, network: Network) -> None:
        self._session = session
        self._network = network
        self.device = session.device
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        if self._network.feeds is not None:
            self._network.feeds.append(dict(inputs))
        return self._session.run(inputs, outputs)

    def close(self) -> None:
        self._session.close()


class Ranges:
    """In which ranges some of a graph's tensors lie, over all that it is shown."""

    def __init__(self, model: Any, names: Iterable[str], method: str) -> None:
        """Raises ModelError for a method that there is not."""
        if method not in METHODS:
            raise ModelError(f"No calibration called {method}; there is {', '.join(METHODS)}")
        self._names = list(dict.fromkeys(names))
        self._trial = Trial(model, self._names)
        self._extremes: dict[str, Range] = {}
        self._histograms = None if method == "minmax" else _collector(method)

    def show(self, feeds: Iterable[Feed]) -> None:
        """Run the graph on these and take note."""
        joined = {name: rows.ravel() for name, rows in _seen(self._trial, self._names, feeds)}
        for name, array in joined.items():
            low, high = self._extremes.get(name, (0.0, 0.0))
            self._extremes[name] = min(low, float(array.min())), max(high, float(array.max()))
        if self._histograms and joined:
            with _silence():
                self._histograms.collect(joined)

    def found(self) -> dict[str, Range]:
        """By the tensor's name."""
        if self._histograms is None or not self._names:
            return dict(self._extremes)
        with _silence():
            chosen = self._histograms.compute_collection_result()
        return {name: (float(low), float(high)) for name, (low, high, *_) in chosen.items()}


class Moments:
    """How what some of a graph's products are given goes together, over all that it is shown."""

    def __init__(self, model: Any, names: Iterable[str]) -> None:
        self._names = list(dict.fromkeys(names))
        self._trial = Trial(model, self._names)
        self._sums: dict[str, np.ndarray] = {}
        self._rows = dict.fromkeys(self._names, 0)

    def show(self, feeds: Iterable[Feed]) -> None:
        """Run the graph on these and take note."""
        for name, rows in _seen(self._trial, self._names, feeds):
            self._sums[name] = self._sums.get(name, 0.0) + rows.T @ rows
            self._rows[name] += len(rows)

    def found(self) -> dict[str, np.ndarray]:
        """Mean outer products [in, in], by the tensor's name."""
        return {name: total / self._rows[name] for name, total in self._sums.items()}


def _seen(
    trial: Trial, names: Sequence[str], feeds: Iterable[Feed]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor's numbers over some runs, as rows: [n, last axis]."""
    runs = [trial.run(feed, names) for feed in feeds]
    for name, arrays in zip(names, zip(*runs, strict=True), strict=False):
        yield name, np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])


def _collector(method: str) -> Any:
    from onnxruntime.quantization.calibrate import HistogramCollector

    return HistogramCollector(
        method=method,
        symmetric=False,
        num_bins=BINS,
        num_quantized_bins=QUANTIZED_BINS,
        percentile=PERCENTILE,
        scenario="same",
    )


def _silence() -> contextlib.AbstractContextManager[Any]:
    """The library prints, and JSON may be what is asked for."""
    return contextlib.redirect_stdout(io.StringIO())
