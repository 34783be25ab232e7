"""What a recogniser asks of the graphs it opens, recorded to be asked again.

So the checks of a provider use the real graphs with real tensors, whatever their format and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edged.provider import Loop, Opener, Session, Value

STEPS = 4
"""Runs of one loop that are kept"""

Arrays = dict[str, np.ndarray]


@dataclass(slots=True)
class Run:
    """One run of a graph."""

    inputs: Arrays
    outputs: list[str]


@dataclass(slots=True)
class LoopRuns:
    """The first runs of a loop, before anything was forgotten."""

    carried: dict[str, str]
    axis: int
    runs: list[Run] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """A graph, and what was asked of it."""

    path: Path
    parallel: bool
    runs: list[Run] = field(default_factory=list)
    loops: list[LoopRuns] = field(default_factory=list)


class RecordingOpener:
    """Loads graphs as an Opener does, and keeps what they were asked."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.formats, self.static = opener.formats, opener.static
        self.compiles = opener.compiles
        self.concurrent = False  # runs are kept in their order
        self.graphs: list[Graph] = []

    def __call__(self, path: Path, parallel: bool) -> Session:
        graph = Graph(path, parallel)
        self.graphs.append(graph)
        return _Recorded(self._opener(path, parallel), graph)


class _Recorded(Session):
    def __init__(self, session: Session, graph: Graph) -> None:
        self._session = session
        self._graph = graph
        self.device = session.device
        self.inputs, self.outputs = session.inputs, session.outputs
        self.placement = session.placement

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        if not self._graph.runs:
            self._graph.runs.append(_run(inputs, outputs))
        return self._session.run(inputs, outputs)

    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        loop = self._session.loop(carried, axis)
        if self._graph.loops:
            return loop
        self._graph.loops.append(LoopRuns(dict(carried), axis))
        return _RecordedLoop(loop, self._graph.loops[0].runs)

    def close(self) -> None:
        self._session.close()


class _RecordedLoop(Loop):
    def __init__(self, loop: Loop, runs: list[Run]) -> None:
        self._loop = loop
        self._runs = runs
        self._whole = True

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        if self._whole and len(self._runs) < STEPS:
            self._runs.append(_run(inputs, outputs))
        return self._loop.run(inputs, outputs)

    def shorten(self, length: int) -> None:
        self._whole = False
        self._loop.shorten(length)


def _run(inputs: Mapping[str, Any], outputs: Sequence[str]) -> Run:
    arrays = {
        name: np.array(tensor if isinstance(tensor, np.ndarray) else tensor.numpy(), order="C")
        for name, tensor in inputs.items()
    }
    return Run(arrays, list(outputs))
