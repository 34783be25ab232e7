"""What runtimes say of their own operators: every run of a real recognition, on our clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.plugins import Plugins
from edged.provider import ExecutionProvider, Opener, OperatorSpan, Session, SessionOptions
from edged_onnxruntime.profile import monotonic
from tests.conftest import TINY

CLOCKS = 1_000_000
"""Nanoseconds that a runtime's clock may be off"""


@dataclass
class Watched:
    """Opens graphs, and knows when each was run."""

    opener: Opener
    sessions: list[Session] = field(default_factory=list)
    runs: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.formats, self.static = self.opener.formats, self.opener.static
        self.compiles = False
        self.concurrent = False

    def __call__(self, path: Path, parallel: bool) -> Session:
        session = self.opener(path, parallel)
        runs: list[tuple[int, int]] = []
        self.sessions.append(session)
        self.runs.append(runs)
        loop = session.loop
        session.run = timed(session.run, runs)  # type: ignore[method-assign]

        def timed_loop(carried: Any, axis: int) -> Any:
            made = loop(carried, axis)
            made.run = timed(made.run, runs)  # type: ignore[method-assign]
            return made

        session.loop = timed_loop  # type: ignore[method-assign]
        return session


def timed(run: Any, runs: list[tuple[int, int]]) -> Any:
    def ran(*given: Any) -> Any:
        start = time.monotonic_ns()
        made = run(*given)
        runs.append((start, time.monotonic_ns()))
        return made

    return ran


def of_cpu(name: str) -> tuple[ExecutionProvider, Any]:
    provider = Plugins.discover().provider(name)
    return provider, next(device for device in provider.probe() if device.name == "cpu")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_each_run_is_accounted_for(name: str, speech: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip(name)
    provider, device = of_cpu(name)
    watched = Watched(Opener(provider, device, SessionOptions(profile=tmp_path)))
    Moonshine(store().get(TINY), "int8", watched).start().advance(speech[16000:48000])
    for session, runs in zip(watched.sessions, watched.runs, strict=True):
        spans = session.profile()
        assert runs
        assert [s.start for s in spans] == sorted(s.start for s in spans)
        parts = [taken(spans, *run) for run in dict.fromkeys(runs)]
        assert sum(len(part) for part in parts) >= len(spans), "all lie within a run"
        covered = sum(s.end - s.start for s in spans) / total(runs)
        assert 0.2 < covered <= 1.05, "a first run also prepares itself"
        assert sum("MatMul" in s.kind or "FullyConnected" in s.kind for s in spans) > len(runs)
    assert not list(tmp_path.iterdir()), "no file is left"


def taken(spans: Sequence[OperatorSpan], start: int, end: int) -> list[OperatorSpan]:
    return [s for s in spans if start - CLOCKS <= s.start <= s.end <= end + CLOCKS]


def total(runs: Sequence[tuple[int, int]]) -> int:
    """Of runs inside each other, the outer one counts."""
    outer = [r for r in runs if not any(o != r and o[0] <= r[0] and r[1] <= o[1] for o in runs)]
    return sum(end - start for start, end in outer)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "tflite"])
def test_who_is_not_asked_or_cannot_tell_says_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip({"tflite": "ai_edge_litert"}.get(name, name))
    provider, device = of_cpu(name)
    asked = provider.name == "tflite"
    endings = provider.formats_on(device.name)
    model = store().get(TINY)
    if not model.precisions_for(endings):
        pytest.skip(f"{TINY} is not built for {name}")
    options = SessionOptions(profile=tmp_path if asked else None)
    path = model.graph(model.precisions_for(endings)[0], "encoder", endings)
    session = provider.open(path, device, options)
    assert not session.profile()
    session.close()


@pytest.mark.parametrize("clock", [time.time_ns, time.monotonic_ns])
def test_either_clock_of_a_cpp_library_is_told_as_ours(clock: Any) -> None:
    assert abs(monotonic(clock()) - time.monotonic_ns()) < CLOCKS
