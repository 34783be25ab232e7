"""Notes what a process does, and when, for `edged trace`: one line for each, in a file of its own.

Nothing in edged notes anything by itself: where a trace is wanted, methods are watched from
outside. Times are CLOCK_MONOTONIC, which all processes of a machine share.

Each line is an event of the format that Chrome's tracing defined and Perfetto reads, "Trace Event
Format". It is written at once, so that a process that is killed leaves what it did.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edged.errors import EdgedError

ENDING = ".events"
NANOSECONDS = 1000
"""Of a microsecond, in which the format counts"""


class Event(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An entry of a trace; the names of its fields are the format's."""

    ph: str
    """X: a span, i: a moment, C: a counter, M: the name of a process or row, s, t and f: the
    beginning, a point and the end of an arrow"""
    name: str
    pid: int
    tid: int
    """The thread; small numbers are rows that are none"""
    ts: float = 0.0
    """Microseconds"""
    dur: float | None = None
    """The same"""
    cat: str = ""
    id: int | None = None
    """Of an arrow"""
    bp: str | None = None
    """e: an arrow points to the span that encloses it"""
    s: str | None = None
    """How far a moment's mark reaches: t, its row"""
    args: dict[str, Any] = {}

    @property
    def end(self) -> float:
        return self.ts + (self.dur or 0.0)


About = tuple[str, Mapping[str, Any]]
"""What a span is called, and what else there is to say"""
Span = tuple[int, int, About]
"""From when to when, in nanoseconds, and what it was"""

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode


class Tracer:
    """What one process has to say."""

    def __init__(self, folder: Path, process: str) -> None:
        """Raises EdgedError where nothing can be written."""
        self._pid = os.getpid()
        self._named: set[int] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(
                folder / f"{process}-{self._pid}{ENDING}",
                os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
                0o600,
            )
        except OSError as error:
            raise EdgedError(
                f"{folder} takes no trace: {error.strerror}. Set trace.folder to another one",
                code="trace_folder",
            ) from error
        self._put([self._meta("process_name", 0, process)])

    def watch(self, owner: Any, method: str, about: Callable[..., About]) -> None:
        """From now on note each call of a method, of an object or of all of a class: `about` is
        given what it returned, and what it was given."""
        call = getattr(owner, method)

        def watched(*given: Any, **named: Any) -> Any:
            start = time.monotonic_ns()
            result = call(*given, **named)
            end = time.monotonic_ns()
            self._put([self._span(start, end, about(result, *given, **named), self._thread())])
            return result

        setattr(owner, method, watched)

    def watch_async(self, owner: Any, method: str, about: Callable[..., About], row: int) -> None:
        """The same for one that is awaited, on a row of its own: others run meanwhile."""
        call = getattr(owner, method)

        async def watched(*given: Any, **named: Any) -> Any:
            start = time.monotonic_ns()
            result = await call(*given, **named)
            end = time.monotonic_ns()
            self._put([self._span(start, end, about(result, *given, **named), row)])
            return result

        setattr(owner, method, watched)

    def counter(self, name: str, unit: str, value: float) -> None:
        """How much there is of something now."""
        ts = time.monotonic_ns() / NANOSECONDS
        self._put([Event(ph="C", name=name, pid=self._pid, tid=0, ts=ts, args={unit: value})])

    def row(self, number: int, title: str, spans: Iterable[Span] = ()) -> None:
        """A row that is no thread, and what was timed for it by somebody else."""
        self._put([self._meta("thread_name", number, title)])
        self._put(self._span(*span, number) for span in spans)

    def _put(self, events: Iterable[Event]) -> None:
        """Write events. A full disk ends no process: its trace has a hole."""
        with contextlib.suppress(OSError):
            os.write(self._file, b"".join(encode(event) + b"\n" for event in events))

    def _span(self, start: int, end: int, about: About, row: int) -> Event:
        (name, more), dur = about, (end - start) / NANOSECONDS
        ts = start / NANOSECONDS
        return Event(ph="X", name=name, pid=self._pid, tid=row, ts=ts, dur=dur, args=dict(more))

    def _thread(self) -> int:
        """This thread's row, named when it is first seen."""
        number = threading.get_native_id()
        if number not in self._named:
            self._named.add(number)
            self._put([self._meta("thread_name", number, threading.current_thread().name)])
        return number

    def _meta(self, what: str, row: int, name: str) -> Event:
        return Event(ph="M", name=what, pid=self._pid, tid=row, args={"name": name})
