"""`edged trace`: from a recording, or what a daemon has noted, to a file and some tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from edged.config import Configuration
from edged.engine.choose import AUTO
from edged.errors import EdgedError
from edged.models.inventory import store
from edged.trace.journeys import finals, partials
from edged.trace.latencies import Row, operators, rows
from edged.trace.parts import Spans, read
from edged.trace.play import Progress, play
from edged.trace.timeline import write

STAGES = ("", "median", "longest", "its work")
"""Heads of the columns of stages, in milliseconds"""
OPERATORS = ("graph", "operator", "runs", "ms", "share")


class Found(msgspec.Struct, frozen=True):
    """What a trace shows."""

    finals: int
    final: list[Row]
    """Where the time of finals went"""
    partials: int
    partial: list[Row]
    operators: list[Row]
    """Those that cost most"""
    workers: int
    """How many took part: more than one where the engine was replaced"""


def trace(
    configuration: Configuration,
    source: Path,
    output: Path,
    progress: Progress,
    *,
    fast: bool = False,
    seconds: float = 0.0,
) -> Found:
    """Write a trace of a recording, with operators for so many seconds; or one of the folder of a
    daemon's `trace.folder`. Raises EdgedError."""
    _require_writable(output)
    with _noted(configuration, source, progress, fast, seconds) as folder:
        events = read(folder)
    write(events, output)
    spans = Spans(events)
    final, partial = finals(spans), partials(spans)
    return Found(
        finals=len(final),
        final=rows(final, spans),
        partials=len(partial),
        partial=rows(partial, spans),
        operators=operators(events),
        workers=len({journey.work.pid for journey in (*final, *partial)}),
    )


@contextlib.contextmanager
def _noted(
    configuration: Configuration, source: Path, progress: Progress, fast: bool, seconds: float
) -> Iterator[Path]:
    """The folder in which everything is noted."""
    if source.is_dir():
        yield source
        return
    if configuration.engine.model != AUTO:
        store().get(configuration.engine.model)  # says what is missing before anything is started
    with TemporaryDirectory(prefix="edged-trace-") as name:
        folder = Path(name)
        play(configuration, source, folder, progress, fast=fast, operators=seconds)
        yield folder


def _require_writable(output: Path) -> None:
    try:
        output.open("ab").close()
    except OSError as error:
        raise EdgedError(
            f"{output} cannot be written: {error.strerror}. Name another file: --output FILE.json",
            code="output",
        ) from error
