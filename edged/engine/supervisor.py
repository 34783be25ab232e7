"""Keeps one engine worker alive and gives every new one the audio that is not yet text.

There is one cure for whatever goes wrong with a worker (exit, signal, hang, refusal): start the
next one, of the same rung or the next, and let it go on at every stream's `resume`. Samples at
which two workers died are skipped and said to be lost, so that it cannot loop for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from edged.engine.process import End, WorkerProcess
from edged.engine.stream import Listener, Stream
from edged.errors import EngineError
from edged.log import get_logger
from edged.messages import (
    Audio,
    Began,
    Close,
    EngineState,
    Heard,
    Message,
    Open,
    Passed,
    Ready,
    Report,
    Rung,
    Said,
    Working,
)

log = get_logger(__name__)

HANG_SECONDS = 5.0
LONGEST_HANG_SECONDS = 60.0
FRUITLESS_ENDS = 5
"""Workers in a row that ended without getting anywhere, before the supervisor waits"""
KILLED_LOADING = 5
"""Workers in a row that were killed from outside while they loaded, before their rung is blamed:
perhaps they need more memory than there is"""
LONGEST_WAIT_SECONDS = 60.0
DEATHS, KILLS = 2, 5
"""Workers in a row that died, or were killed from outside, at the same samples before these are
skipped: killed for what they need, perhaps"""

Locate = Callable[[Rung], Path]
"""The folder of a rung's model"""
Admit = Callable[[Ready], str | None]
"""Why a rung that runs is yet too slow to stay, or None"""
Mend = Callable[[Rung], Awaitable[bool]]
"""Builds a rung's broken model again; whether that worked"""


class Supervisor:
    """The engine, as the rest of the daemon sees it."""

    def __init__(
        self,
        ladder: Sequence[Rung],
        locate: Locate,
        options: msgspec.Struct,
        *,
        admit: Admit | None = None,
        mend: Mend | None = None,
        on_change: Callable[[EngineState], None] = lambda _state: None,
    ) -> None:
        self._ladder = list(ladder)
        self._locate = locate
        self._options = options
        self._admit = admit
        self._mend = mend
        self._mended: set[Rung] = set()
        self._on_change = on_change
        self._streams: dict[int, Stream] = {}
        self._numbers = 0
        self._worker: WorkerProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._generation = 0
        """Counts the ladders, so that what was begun for one is not applied to the next"""
        self._wake = asyncio.Event()
        """Ends a pause"""
        self._index = 0
        self._reason: str | None = None
        """Why it is not the first rung"""
        self._fruitless = 0
        self._killed_loading = 0
        self._progressed = False
        self._last_working: Working | None = None
        self._deaths = 0
        """Workers in a row that ended at `_last_working`"""
        self._hang_seconds = HANG_SECONDS
        self.state = EngineState(self._ladder[0] if self._ladder else None, None, "starting")
        self.starts = 0
        """Workers started so far"""
        self.problem: EngineError | None = None
        """Why no rung runs, once all were tried"""

    # -- life -----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        return self._ready.is_set()

    @property
    def worker_pid(self) -> int | None:
        return self._worker.pid if self._worker else None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def wait_ready(self) -> None:
        """Wait for a rung that runs. Raises EngineError when every rung was refused."""
        while not self.ready:
            if self.problem:
                raise self.problem
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), 0.05)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._worker:
            await self._worker.stop()
        for stream in list(self._streams.values()):
            self.close(stream)

    async def replace(
        self, ladder: Sequence[Rung], options: msgspec.Struct, admit: Admit | None = None
    ) -> None:
        """Go over to another ladder: its first rung is started, everything is replayed."""
        self._generation += 1
        self._ladder = list(ladder)
        self._options = options
        self._admit = admit
        self._go_to(0, None)
        self._fruitless = 0
        self.problem = None
        self._wake.set()
        if self._worker:
            await self._worker.kill()

    # -- streams --------------------------------------------------------------------------------

    def open(
        self, listener: Listener, *, partials: bool = True, words: bool = False, live: bool = False
    ) -> Stream:
        """Begin a stream; audio may be written at once, whatever the worker does."""
        self._numbers += 1
        stream = Stream(self._numbers, listener, partials=partials, words=words, live=live)
        stream.engine = self.state
        self._streams[stream.number] = stream
        self._introduce(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream at once."""
        if self._streams.pop(stream.number, None):
            self._tell(Close(stream.number))
            stream.close()

    def notify(self, stream: Stream) -> None:
        """There is new audio in a stream's ring."""
        if stream.free < 0:
            self._overrun(stream)
        if stream.is_news():
            self._announce(stream)

    def _announce(self, stream: Stream) -> None:
        stream.told = stream.written
        self._tell(Audio(stream.number, stream.written))

    def flush(self, stream: Stream) -> int:
        """Finish the open utterance with the audio that is there; the position it is at."""
        self._announce(stream)
        self._tell(stream.mark(stream.written, stream.written))
        return stream.written

    def gap(self, stream: Stream, start: int, end: int, reason: str) -> None:
        """Audio from `start` to `end` is missing."""
        self._announce(stream)
        self._tell(stream.mark(start, end))
        stream.announce_gap(start, end, reason)

    def _overrun(self, stream: Stream) -> None:
        """The writer cannot wait and the worker is a whole ring behind: say what is lost."""
        end = stream.written - stream.ring.capacity // 2
        log.error("stream %d: audio is lost, the engine is too far behind", stream.number)
        stream.skip(end, "overrun")
        self._tell(Close(stream.number))
        self._introduce(stream)

    def _tell(self, message: Message) -> None:
        if self._worker and self._ready.is_set():
            self._worker.send(message)

    def _introduce(self, stream: Stream) -> None:
        """Open a stream on the worker, at the place where the last one left it."""
        if not (self._worker and self._ready.is_set()):
            return
        opening = Open(
            stream.number,
            stream.resume,
            stream.floor,
            stream.partials,
            stream.words,
            stream.live,
        )
        self._worker.send(opening, [stream.ring.fd])
        for mark in stream.marks:
            self._worker.send(mark)
        self._announce(stream)

    def _take(self, report: Report) -> None:
        if not isinstance(report, (Began, Heard, Said, Passed)):
            return
        if isinstance(report, (Said, Passed)):
            self._progressed = True
        stream = self._streams.get(report.stream)
        if stream is not None:
            stream.take(report)

    # -- keeping a worker -----------------------------------------------------------------------

    async def _keep(self) -> None:
        """For ever: whatever goes wrong here too must not leave the daemon without an engine."""
        while True:
            try:
                await self._once()
            except Exception:
                log.exception("keeping a worker failed")
                self._ready.clear()
                self._fruitless = max(FRUITLESS_ENDS, self._fruitless + 1)
            if self._fruitless >= FRUITLESS_ENDS:
                await self._pause()

    async def _once(self) -> None:
        """One worker, from its start to its end."""
        generation = self._generation
        rung = self._ladder[self._index]
        self.starts += 1
        self._progressed = False
        worker = self._worker = await WorkerProcess.start(
            rung, self._locate(rung), self._options, self._take
        )
        loaded = await worker.loaded()
        if generation != self._generation:
            await worker.kill()  # another ladder has come meanwhile
        elif not loaded:
            await self._descend(worker, generation)
        elif not await self._too_slow(worker):
            self._serve(worker)
            end = await worker.ended(self._hang_seconds, self._has_lower)
            self._ready.clear()
            self._recover(worker, end)

    @property
    def _has_lower(self) -> bool:
        return self._index + 1 < len(self._ladder)

    def _go_to(self, index: int, reason: str | None) -> None:
        """Make another rung the next to be started."""
        self._index = index
        self._reason = reason

    async def _too_slow(self, worker: WorkerProcess) -> bool:
        """Whether a better rung has to make way for a faster one; if so, it is gone."""
        assert worker.ready is not None
        slow = self._admit(worker.ready) if self._admit and self._has_lower else None
        if slow is None:
            return False
        log.info("%s is left: %s", worker.rung, slow)
        self._go_to(self._index + 1, slow)
        await worker.stop()
        return True

    def _serve(self, worker: WorkerProcess) -> None:
        assert worker.ready is not None
        log.info(
            "%s is ready after %.2f s (%s)",
            worker.rung,
            worker.ready.load_seconds,
            worker.ready.runtime,
        )
        self.problem = None
        self._killed_loading = 0
        self._ready.set()
        self._change(EngineState(self._ladder[0], worker.rung, self._reason))
        for stream in self._streams.values():
            self._introduce(stream)

    def _change(self, state: EngineState) -> None:
        self.state = state
        for stream in self._streams.values():
            stream.engine = state
        self._on_change(state)

    def _recover(self, worker: WorkerProcess, end: End) -> None:
        """A worker that had been ready is gone: count it, and skip what killed two."""
        log.error("the worker of %s is gone: %s", worker.rung, end.reason)
        self._fruitless = 0 if self._progressed or not end.fault else self._fruitless + 1
        self._hang_seconds = (
            min(self._hang_seconds * 2, LONGEST_HANG_SECONDS) if end.hung else HANG_SECONDS
        )
        self._change(EngineState(self._ladder[0], None, end.reason))
        if end.behind and self._has_lower:
            self._go_to(self._index + 1, f"{worker.rung}: {end.reason}")
        if worker.working is not None:
            self._blame(worker.working, DEATHS if end.fault else KILLS)

    def _blame(self, working: Working, limit: int) -> None:
        """Skip samples at which so many workers in a row have ended."""
        self._deaths = self._deaths + 1 if working == self._last_working else 1
        self._last_working = working
        if self._deaths >= limit:
            self._skip(working)

    def _skip(self, working: Working) -> None:
        stream = self._streams.get(working.stream)
        if stream is None or working.end <= stream.floor:
            return
        log.error(
            "stream %d: workers end at samples %d to %d, which are skipped",
            working.stream,
            working.start,
            working.end,
        )
        stream.skip(working.end, "skipped")
        self._last_working = None

    async def _descend(self, worker: WorkerProcess, generation: int) -> None:
        """A worker died before it was ready: mend its model, or try the next rung."""
        if worker.refused:
            await worker.stop()
            code, reason = worker.refused.code, worker.refused.message
        else:
            end = await worker.ended(HANG_SECONDS)
            code, reason = "worker_start", end.reason
            self._killed_loading += not end.fault
            if not end.fault and self._killed_loading < KILLED_LOADING:
                return
        log.error("%s cannot be used: %s", worker.rung, reason)
        self._change(EngineState(self._ladder[0], None, reason))
        if code.startswith("model_") and await self._mends(worker.rung):
            return
        if generation != self._generation:
            return
        if self._has_lower:
            self._go_to(self._index + 1, reason)
            return
        self.problem = EngineError(reason, code=code)
        self._go_to(0, None)
        self._fruitless = max(FRUITLESS_ENDS, self._fruitless + 1)

    async def _mends(self, rung: Rung) -> bool:
        """Have a rung's model built again, once."""
        if self._mend is None or rung in self._mended:
            return False
        self._mended.add(rung)
        return await self._mend(rung)

    async def _pause(self) -> None:
        """Nothing works: wait, longer each time, with the API up."""
        over = self._fruitless - FRUITLESS_ENDS
        seconds = min(2.0 ** min(over + 1, 10), LONGEST_WAIT_SECONDS)
        log.error("no engine worker stays up; the next try is in %.0f s", seconds)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)
