"""A client's audio on its way into the engine, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from edged.audio.pcm import PcmConverter, PcmFormat
from edged.daemon import FINISH_SECONDS, Daemon
from edged.errors import EngineError
from edged.messages import Error, Event, Turns
from edged.recognizer import SAMPLE_RATE

PIECE = SAMPLE_RATE
"""Samples written to the ring at once"""
WAITED_SECONDS = 0.002
"""A frame that took longer to come was waited for: there is none behind it"""

_numbers = itertools.count(1)


@contextlib.contextmanager
def place(daemon: Daemon) -> Iterator[None]:
    """One of the places for streams, given back at the end. Raises EngineError if all are taken."""
    require_place(daemon)
    daemon.streams += 1
    try:
        yield
    finally:
        daemon.streams -= 1


def require_place(daemon: Daemon) -> None:
    """Raise EngineError where `place` would."""
    if daemon.streams >= daemon.most_streams:
        raise EngineError("Too many streams; try later", code="too_many_clients")


@contextlib.contextmanager
def attendance(daemon: Daemon) -> Iterator[None]:
    """One of the places for clients, likewise."""
    if daemon.clients >= daemon.configuration.server.max_clients:
        raise EngineError("Too many clients; try later", code="too_many_clients")
    daemon.clients += 1
    try:
        yield
    finally:
        daemon.clients -= 1


class Intake:
    """One stream of audio that a client sends, and the events that come of it."""

    def __init__(
        self,
        daemon: Daemon,
        protocol: str,
        layout: PcmFormat,
        publish: Callable[[Event], None],
        *,
        partials: bool = True,
        words: bool = False,
        awaited: bool = False,
        tokens: bool = False,
        turns: Turns | None = None,
    ) -> None:
        """`protocol` is what the client speaks. `publish` is called with every event of the stream,
        finals with their numbers; `awaited` by a client that sends no more until it has its reply.
        Raises AudioError where there is no such layout."""
        self.name = f"stream-{next(_numbers)}"
        self._daemon = daemon
        self._publish = publish
        self._awaited = awaited
        self._converter = PcmConverter(layout)
        self._piece_bytes = PIECE * layout.frame_bytes
        self._bytes_per_second = layout.rate * layout.frame_bytes
        self._bad_samples = 0
        self._unheard: deque[memoryview] = deque()
        """Audio that came and is not yet converted, in pieces"""
        self._unheard_bytes = 0
        self._unwritten: deque[Any] = deque()
        """Converted, and waiting for room in the ring"""
        self._listening_since = math.inf
        """When we began to wait for the next frame, by the monotonic clock, in seconds"""
        self._order = asyncio.Lock()
        """One at a time converts and writes: the client's audio keeps its order"""
        self._finishing = False
        """Whether no more audio is taken: the client or the daemon has had its last word"""
        self.stream = daemon.open_stream(
            self.name,
            protocol,
            self.tell,
            partials=partials,
            words=words,
            tokens=tokens,
            turns=turns,
        )

    def tell(self, event: Event) -> None:
        """Publish an event of this stream; finals are stored, and sinks are told."""
        self._publish(self._daemon.remember(self.name, event))

    async def hear(self, data: bytes) -> None:
        """Take audio, as much as there is room for: whoever is too fast waits here.

        What came is kept until it is worth a wake-up: handling a small frame costs more than it.
        Whoever is at the pace of time has no more to be read until then, one with a backlog is not
        held up.
        """
        if self._finishing:
            return
        waited = time.monotonic() - self._listening_since
        self._gather(data)
        if self._unheard_seconds >= self.stream.chunk_seconds:
            await self._take_in()
        if waited > WAITED_SECONDS and not self._awaited:
            await self.stream.rest(self._unheard_seconds)
            self._listening_since = math.inf  # what comes next may have been there for long
        else:
            self._listening_since = time.monotonic()

    async def flush(self) -> int:
        """Finish the open utterance with what was heard so far; the position it is at."""
        await self._take_in()
        return self._daemon.supervisor.flush(self.stream)

    async def finish(self) -> None:
        """Take no more audio, and wait until all is recognised."""
        if not self._finishing:
            self._finishing = True
            await self._take_in(last=True)
        elif self._unwritten:
            await self._take_in()
        await self.stream.reached(self._daemon.supervisor.flush(self.stream))

    async def finish_in_time(self) -> None:
        """The same, given up after a while: the client or the daemon is about to go."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.finish(), FINISH_SECONDS)

    async def leave(self) -> None:
        """The client is gone; what it had sent is still recognised and stored."""
        try:
            await self.finish_in_time()
        finally:
            self._daemon.supervisor.close(self.stream)

    @property
    def _unheard_seconds(self) -> float:
        return self._unheard_bytes / self._bytes_per_second

    def _gather(self, data: bytes) -> None:
        size, view = self._piece_bytes, memoryview(data)
        self._unheard += (view[first : first + size] for first in range(0, len(view), size))
        self._unheard_bytes += len(view)

    async def _take_in(self, last: bool = False) -> None:
        """Everything that has come, into the ring; `last` with what the resampler holds.

        A client that is too fast is not read while this waits for room. What is not yet written
        when it is cancelled is written by the next call.
        """
        async with self._order:
            while self._unheard:
                if self._converter.direct:
                    await self._pour()
                else:
                    self._queue(self._converter.feed(self._next_piece()))
                    await self._write()
            if last:
                self._queue(self._converter.finish())
            await self._write()
            self._count_bad_samples()

    async def _pour(self) -> None:
        """Convert the next piece where it is to lie."""
        count = self._converter.count(self._unheard[0])
        await self.stream.room(count)
        piece = self._next_piece()
        self.stream.fill(count, lambda place: self._converter.pour(piece, place))
        self._daemon.supervisor.notify(self.stream)

    def _next_piece(self) -> memoryview:
        piece = self._unheard.popleft()
        self._unheard_bytes -= len(piece)
        return piece

    def _queue(self, samples: Any) -> None:
        self._unwritten += (samples[i : i + PIECE] for i in range(0, len(samples), PIECE))

    async def _write(self) -> None:
        while self._unwritten:
            await self.stream.room(len(self._unwritten[0]))
            self.stream.write(self._unwritten.popleft())
            self._daemon.supervisor.notify(self.stream)

    def _count_bad_samples(self) -> None:
        if self._converter.bad_samples > self._bad_samples:
            if not self._bad_samples:
                self.tell(Error("bad_samples", "Samples that are no numbers are taken as silence"))
            self._bad_samples = self._converter.bad_samples
