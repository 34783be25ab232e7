"""What a worker does, noted from outside: its sessions, detector, recogniser and reports.

Nothing of it is there in a worker that is not traced.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec
import numpy as np

from edged.engine.pipeline import Pipeline
from edged.messages import Report
from edged.provider import Loop, Opener, Places, Session
from edged.recognizer import SAMPLE_RATE, Decoding, Hypothesis, Recognizer
from edged.tracer import About, Span, Tracer

DETECTION = "voice detector"
PARTIAL, FINAL = "recognise partial", "recognise final"
OPERATORS = "operators: "
"""What the rows of sessions begin with that were profiled"""
FIRST_ROW = 2
"""Of sessions; the one before is for endpoints"""
SHAPES = 3
"""Of so many inputs the shape is told; the others are caches"""


class WorkerTrace:
    """The parts of one worker, watched."""

    def __init__(self, folder: str, profiled: float) -> None:
        """Operators are timed for so many seconds of a stream. Raises EdgedError where nothing can
        be written."""
        self._tracer = Tracer(Path(folder), "worker")
        self._profiled = profiled * SAMPLE_RATE
        self._sessions: list[tuple[str, Session]] = []
        """Those whose operators are yet to be written"""
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        self._watch_openers()
        self._watch_pipelines()
        self._tracer.watch(self, "write_operators", functools.partial(_called, "write operators"))
        atexit.register(self.write_operators)

    def watch(self, engine: Any, connection: Any) -> None:
        """An engine that is loaded, and what it reports on."""
        self._tracer.watch(engine.detector, "probabilities", _judged)
        self._tracer.watch(connection, "send", _reported)
        self._watch_recognizer(engine.recognizer)

    def _watch_recognizer(self, recognizer: Recognizer) -> None:
        for stage in recognizer.stages:
            self._tracer.watch(recognizer, stage, functools.partial(_called, stage))
        start = recognizer.start

        def started() -> Decoding:
            decoding = start()
            self._tracer.watch(decoding, "advance", functools.partial(_recognised, PARTIAL))
            self._tracer.watch(decoding, "finish", functools.partial(_recognised, FINAL))
            return decoding

        _replace(recognizer, "start", started)

    def _watch_openers(self) -> None:
        opened = Opener.__call__

        def watched(opener: Opener, path: Path, parallel: bool) -> Session:
            session = opened(opener, path, parallel)
            self._watch_session(path.name.partition(".")[0], session)
            return session

        _replace(Opener, "__call__", watched)

    def _watch_session(self, graph: str, session: Session) -> None:
        """Its runs, and those that a runtime keeps inside for its loops and places."""
        ran = functools.partial(_ran, graph)
        loop, places = session.loop, session.places

        def watched_loop(carried: Mapping[str, str], axis: int) -> Loop:
            made = loop(carried, axis)
            if type(made).run is not Loop.run:  # else it runs the session
                self._tracer.watch(made, "run", ran)
            return made

        def watched_places(carried: Mapping[str, str], axis: int) -> Places:
            made = places(carried, axis)
            if type(made).run is not Places.run:
                self._tracer.watch(made, "run", ran)
            return made

        self._sessions.append((graph, session))
        self._tracer.watch(session, "run", ran)
        _replace(session, "loop", watched_loop)
        _replace(session, "places", watched_places)

    def _watch_pipelines(self) -> None:
        advance = Pipeline.advance

        def watched(pipeline: Pipeline, written: int) -> Iterator[Report]:
            lag = (written - pipeline.position) / SAMPLE_RATE
            self._tracer.counter("lag", "ms", round(lag * 1000, 1))
            self._pipelines.add(pipeline)
            if self._sessions and pipeline.position >= self._profiled:
                self._write_if_idle()
            return advance(pipeline, written)

        _replace(Pipeline, "advance", watched)

    def _write_if_idle(self) -> None:
        """No session is used while nobody speaks."""
        if not any(pipeline.speaking for pipeline in self._pipelines):
            self.write_operators()

    def write_operators(self) -> None:
        """What the runtime itself has noted, once: it keeps all of it in memory until then."""
        sessions, self._sessions = self._sessions, []
        rows = [(graph, spans) for graph, session in sessions for spans in _operators(session)]
        for row, (graph, spans) in enumerate(rows, FIRST_ROW):
            self._tracer.row(row, OPERATORS + graph, spans)


def _replace(owner: Any, method: str, by: Callable[..., Any]) -> None:
    setattr(owner, method, by)


def _operators(session: Session) -> Iterable[list[Span]]:
    """By thread: several may run one graph at the same time."""
    found: dict[int, list[Span]] = {}
    for one in session.profile():
        span = one.start, one.end, (one.kind, {"operator": one.name})
        found.setdefault(one.thread, []).append(span)
    return found.values()


def _called(name: str, _result: object, *_given: object, **_named: object) -> About:
    return name, {}


def _judged(result: Sequence[tuple[float, object]], *_given: object, **_named: object) -> About:
    loudest = max(probability for probability, _ in result)
    return DETECTION, {"windows": len(result), "probability": round(loudest, 4)}


def _recognised(
    name: str, hypothesis: Hypothesis, samples: np.ndarray, *_given: object, **_named: object
) -> About:
    return name, {"samples": len(samples), "text": hypothesis.text}


def _ran(
    graph: str, _made: object, inputs: Mapping[str, Any], *_given: object, **_named: object
) -> About:
    arrays = [(name, given) for name, given in inputs.items() if isinstance(given, np.ndarray)]
    return graph, {name: list(given.shape) for name, given in arrays[:SHAPES]}


def _reported(_result: object, report: Report) -> About:
    """The report's name, and what of it is short."""
    told = msgspec.to_builtins(report)
    name = told.pop("type")
    return f"report {name}", {k: v for k, v in told.items() if not isinstance(v, (list, dict))}
