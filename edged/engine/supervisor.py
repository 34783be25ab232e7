"""Keeps one engine worker alive and gives every new one the audio that is not yet text.

There is one cure for whatever goes wrong with a worker (exit, signal, hang, refusal): start the
next one, of the same rung or the next, and let it go on at every stream's `resume`. Samples at
which two workers of the last rung died are skipped and said to be lost, so that it cannot loop for
ever. A move to another rung that is wished for, down or up, is the same, but that the new worker is
ready before the old one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edged.engine.blame import Blame
from edged.engine.ladder import Ladder
from edged.engine.launch import Launched
from edged.engine.process import End, WorkerProcess
from edged.engine.stream import Listener, Stream, Traffic
from edged.engine.witness import Witness
from edged.errors import EngineError
from edged.log import fields, get_logger
from edged.messages import (
    Audio,
    Awaited,
    Began,
    Canary,
    Close,
    EngineState,
    Guessed,
    Heard,
    Introduced,
    Judged,
    Message,
    Open,
    Pace,
    Passed,
    Pong,
    Ready,
    Report,
    Rung,
    Said,
    Sang,
    Turns,
    WorkerOptions,
    Working,
)
from edged.recognizer import SAMPLE_RATE

log = get_logger(__name__)

HANG_SECONDS = 5.0
LONGEST_HANG_SECONDS = 60.0
FRUITLESS_ENDS = 5
"""Workers in a row that ended without getting anywhere, before the supervisor waits"""
KILLED_LOADING = 5
"""Workers in a row that were killed from outside while they loaded, before their rung is blamed:
perhaps they need more memory than there is"""
LONGEST_WAIT_SECONDS = 60.0
SAME_TEXTS = 5
"""Lengths of utterances in a row with one text, or none: perhaps the device computes the same
whatever it is given. One recording that many clients send has one length. A new worker is held
against float32 when it loads, which tells"""
TELLING_SAMPLES = SAMPLE_RATE
"""Speech that is shorter may well be the same again, or nothing"""
RECENT_FINALS = 20
"""Finals whose latency is remembered"""

Fits = Callable[[Rung], bool]
"""Whether there is memory for a worker of this rung beside the one that runs"""
Locate = Callable[[Rung], Path]
"""The folder of a rung's model"""
Admit = Callable[[Ready], str | None]
"""Why a rung that runs is yet too slow to stay, or None"""
Mend = Callable[[Rung], Awaitable[bool]]
"""Builds a rung's broken model again; whether that worked"""


@dataclass(frozen=True, slots=True)
class _Wish:
    """A move that was asked for."""

    index: int
    reason: str
    cause: str = ""
    pin: bool = False
    fresh: bool = False
    """A new worker is wanted even for the same rung"""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a stream begins that is not new, in samples."""

    written: int = 0
    position: int = 0
    floor: int = 0


class Supervisor:
    """The engine, as the rest of the daemon sees it."""

    def __init__(
        self,
        rungs: Sequence[Rung],
        locate: Locate,
        options: WorkerOptions,
        *,
        admit: Admit | None = None,
        fits: Fits = lambda _rung: True,
        mend: Mend | None = None,
        on_change: Callable[[EngineState], None] = lambda _state: None,
        witness: Witness | None = None,
        early: Launched | None = None,
    ) -> None:
        """`early` is a worker that was started already, and waits to be told its rung."""
        self._early = early
        self.ladder = Ladder(rungs)
        self._locate = locate
        self._options = options
        self._admit = admit
        self._fits = fits
        self._mend = mend
        self._mended: set[Rung] = set()
        self._on_change = on_change
        self._witness = witness or Witness()
        self._streams: dict[int, Stream] = {}
        self._past = Traffic()
        """Of the streams that are closed"""
        self._numbers = 0
        self._worker: WorkerProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = asyncio.Event()
        self._ready = asyncio.Event()
        self._generation = 0
        """Counts the ladders, so that what was begun for one is not applied to the next"""
        self._wake = asyncio.Event()
        """Ends a pause"""
        self._wish: _Wish | None = None
        self._wished = asyncio.Event()
        self._coming: WorkerProcess | None = None
        """Loads beside the one that serves, to take its place"""
        self._blame = Blame()
        self._fruitless = 0
        self._killed_loading = 0
        self._progressed = False
        self._latencies: deque[float] = deque(maxlen=RECENT_FINALS)
        self.degenerate = 0
        """Texts in a row that went in circles or had no end"""
        self._last_text = ""
        self._same: set[int] = set()
        """Finals in a row with that text; people repeat themselves too, so counted anew after each
        look at the engine"""
        self._hang_seconds = HANG_SECONDS
        self.state = EngineState(self.ladder.requested, None, "starting")
        self.cause = ""
        """Why the rung changed last, in a word"""
        self.starts = 0
        """Workers started so far"""
        self.tried = time.monotonic()
        """When the last of them was started, CLOCK_MONOTONIC"""
        self.recognised = 0.0
        """When an inference of the worker that serves was last finished, CLOCK_MONOTONIC"""
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

    async def begun(self) -> None:
        """Wait until the first worker loads on its own, or could not be started."""
        await self._begun.wait()

    async def wait_ready(self) -> None:
        """Wait for a rung that runs. Raises EngineError when every rung was refused."""
        while not self.ready:
            if self.problem:
                raise self.problem
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._ready.wait()

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for worker in (self._worker, self._coming):
            if worker:
                await worker.stop()
        for stream in list(self._streams.values()):
            self.close(stream)

    async def replace(
        self, rungs: Sequence[Rung], options: WorkerOptions, admit: Admit | None = None
    ) -> None:
        """Go over to another ladder: its first rung is started, everything is replayed."""
        self._generation += 1
        self.cause = "configured"
        self.ladder = Ladder(rungs)
        self._options = options
        self._admit = admit
        self._wish = None
        self._fruitless = 0
        self.problem = None
        self._wake.set()
        if self._worker:
            await self._worker.kill()

    # -- moves ----------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nobody speaks, so that a move costs nothing."""
        return not any(stream.speaking for stream in self._streams.values())

    @property
    def streams(self) -> list[Stream]:
        """Those that are open, oldest first."""
        return list(self._streams.values())

    @property
    def traffic(self) -> Traffic:
        """Audio that came since the start."""
        return sum((stream.traffic for stream in self._streams.values()), self._past)

    @property
    def lag(self) -> float:
        """How far live audio is ahead of the engine, in seconds."""
        return self._worker.lag if self._worker and self.ready else 0.0

    @property
    def capacity(self) -> int | None:
        """How many streams the engine serves in time; None while it is not known."""
        capacity = self._worker.capacity if self._worker and self.ready else None
        return capacity.streams if capacity else None

    @property
    def work(self) -> Pong | None:
        """What the worker that serves said of its work when it was last asked."""
        return self._worker.work if self._worker and self.ready else None

    @property
    def p95(self) -> float | None:
        """Seconds from endpoint to text that 5 % of the finals of late took longer than."""
        if len(self._latencies) < RECENT_FINALS // 2:
            return None
        return sorted(self._latencies)[int(len(self._latencies) * 0.95)]

    @property
    def stuck(self) -> bool:
        """Whether it may be that the engine writes one text whatever it hears."""
        return len(self._same) >= SAME_TEXTS

    def lose(self, device: str) -> bool:
        """A device, such as "openvino npu", is unplugged: leave it, if it serves."""
        self.ladder.attend(device, present=False)
        return self.ladder.step.absent and self.step_down(f"{device} is unplugged", "unplugged")

    def step_down(self, reason: str, cause: str = "asked") -> bool:
        """Go one step down; False at the bottom. `cause` is the reason in a word."""
        index = self.ladder.lower()
        return index is not None and self._ask(_Wish(index, reason, cause))

    def climb(self, patient: bool = True) -> bool:
        """Try the best step above that may be tried again; False if there is none.

        Not `patient`: the next one above, however long it should wait.
        """
        index = self.ladder.higher(time.monotonic())
        if not patient and self.ladder.index > 0 and not self.ladder.pinned:
            index = self.ladder.index - 1
        return index is not None and self._ask(
            _Wish(index, "it is tried again", "recovered" if patient else "asked")
        )

    def pin(self, index: int) -> None:
        """Go to a step and stay there until `release`. Raises EngineError while it cannot move."""
        if not self._ask(_Wish(index, "pinned", "pinned", pin=True)):
            raise EngineError(
                "The engine is loading or moving. Try again in a moment", code="engine_moving"
            )

    def release(self) -> None:
        self.ladder.pinned = False

    def sing(self) -> None:
        """Have the worker show that it still recognises: `recognised` tells."""
        self._tell(Canary())

    def renew(self, reason: str) -> None:
        """Replace the worker by another one of the same rung."""
        self._same = set()
        self._ask(_Wish(self.ladder.index, reason, fresh=True))

    def _ask(self, wish: _Wish) -> bool:
        if not self.ready or self._wish or self._coming:
            return False
        self._wish = wish
        self._wished.set()
        return True

    async def _tend(self, worker: WorkerProcess) -> None:
        """Until it ends, or another one has taken its place."""
        replaceable = self.ladder.next_rung is not None
        ended = asyncio.create_task(worker.ended(self._hang_seconds, replaceable))
        try:
            while True:
                wished = asyncio.create_task(self._wished.wait())
                await asyncio.wait({ended, wished}, return_when=asyncio.FIRST_COMPLETED)
                wished.cancel()
                if ended.done():
                    self._ready.clear()
                    self._recover(worker, ended.result())
                    return
                if await self._grant(worker):
                    return
        finally:
            ended.cancel()

    async def _grant(self, worker: WorkerProcess) -> bool:
        """Do what is wished; whether the worker is gone."""
        wish, self._wish = self._wish, None
        self._wished.clear()
        if wish is None:
            return False
        step = self.ladder.steps[wish.index]
        if step.rung == worker.rung and not wish.fresh:
            self._arrive(wish)
            self._settle(worker)
            return False
        if not self._fits(step.rung):
            self._ready.clear()
            self._arrive(wish)
            await worker.kill()
            return True
        return await self._exchange(worker, wish)

    async def _exchange(self, worker: WorkerProcess, wish: _Wish) -> bool:
        """Load the wished worker beside the one that serves, then let it take over."""
        generation = self._generation
        coming = self._coming = await self._start(self.ladder.steps[wish.index].rung)
        loaded = await coming.loaded()
        trouble = self._trouble(coming, wish) if loaded else _why_not(coming)
        if generation != self._generation or trouble:
            await self._drop_coming()
            if generation == self._generation and wish.index != self.ladder.index:
                step = self.ladder.steps[wish.index]
                about = fields("engine_not_taken", rung=step, reason=trouble)
                log.info("%s is not taken: %s", step, trouble, extra=about)
                self.ladder.refuse(wish.index, trouble or "", time.monotonic())
            elif coming.refused:
                self.step_down(f"a new worker is refused: {trouble}", "refused")
            return False
        self._ready.clear()
        self._arrive(wish)
        await worker.kill()
        return True

    def _trouble(self, coming: WorkerProcess, wish: _Wish) -> str | None:
        """Why a loaded worker of a better rung is yet too slow."""
        assert coming.ready is not None
        better = wish.index < self.ladder.index and not wish.pin
        return self._admit(coming.ready) if self._admit and better else None

    def _arrive(self, wish: _Wish) -> None:
        """The wish is granted: the ladder stands where it was wished to."""
        now = time.monotonic()
        before, index = self.ladder.step, self.ladder.index
        self.cause = wish.cause or self.cause
        if wish.pin:
            self.ladder.pin(wish.index, now)
        elif wish.index > self.ladder.index:
            self.ladder.leave(wish.index, wish.reason, now)
        elif wish.index < self.ladder.index:
            self.ladder.climb(wish.index, now)
        self.degenerate = 0
        self._latencies.clear()
        log.log(
            logging.WARNING if wish.index > index else logging.INFO,
            "from %s to %s: %s",
            before,
            self.ladder.step,
            wish.reason,
            extra=fields("engine_moved", rung=self.ladder.step, cause=self.cause),
        )

    # -- streams --------------------------------------------------------------------------------

    def open(
        self,
        listener: Listener,
        *,
        partials: bool = True,
        words: bool = False,
        live: bool = False,
        tokens: bool = False,
        turns: Turns | None = None,
        name: str = "",
        trace: bool = False,
        begin: Beginning | None = None,
    ) -> Stream:
        """Begin a stream; audio may be written at once, whatever the worker does."""
        self._numbers += 1
        stream = Stream(
            self._numbers,
            listener,
            partials=partials,
            words=words,
            live=live,
            tokens=tokens,
            turns=turns,
            name=name,
            trace=trace,
        )
        if begin:
            stream.begin(begin.written, begin.position, begin.floor)
        stream.engine = self.state
        self._streams[stream.number] = stream
        self._introduce(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream at once."""
        if self._streams.pop(stream.number, None):
            self._past += stream.traffic
            self._tell(Close(stream.number))
            self._clear(stream.number, math.inf)
            self._see(stream, Close(stream.number))
            stream.close()

    def notify(self, stream: Stream) -> None:
        """There is new audio in a stream's ring."""
        if stream.free < 0:
            self._overrun(stream)
        if stream.is_news():
            self._announce(stream)

    def _announce(self, stream: Stream) -> None:
        if kept_out := stream.keep_out():
            self.mark(stream, *kept_out)
        if stream.trace:
            self._witness.heard(stream, stream.told, stream.written)
        stream.tell()
        self._tell(Audio(stream.number, stream.written))

    def flush(self, stream: Stream) -> int:
        """Finish the open utterance with the audio that is there; the position it is at."""
        self._announce(stream)
        self.mark(stream, stream.written, stream.written)
        return stream.written

    def gap(self, stream: Stream, start: int, end: int, reason: str) -> None:
        """Audio from `start` to `end` is missing."""
        self._announce(stream)
        self.mark(stream, start, end)
        self._witness.missed(stream, end)
        stream.announce_gap(start, end, reason)

    def mark(self, stream: Stream, start: int, end: int) -> None:
        """Finish the open utterance at `start` and go on at `end`."""
        mark = stream.mark(start, end)
        self._tell(mark)
        self._see(stream, mark)

    def _see(self, stream: Stream, message: Message) -> None:
        if stream.trace:
            self._witness.told(stream, message)

    def _overrun(self, stream: Stream) -> None:
        """The writer cannot wait and the worker is a whole ring behind: say what is lost."""
        end = stream.written - stream.ring.capacity // 2
        log.error(
            "stream %d: audio is lost, the engine is too far behind",
            stream.number,
            extra=fields("audio_lost", stream=stream.number),
        )
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
            stream.tokens,
            stream.turns,
            stream.trace,
        )
        self._worker.send(opening, [stream.ring.fd])
        self._see(stream, self._introduction(self._worker, opening))
        for mark in stream.marks:
            self._worker.send(mark)
        self._announce(stream)

    def _introduction(self, worker: WorkerProcess, opening: Open) -> Introduced:
        assert worker.ready is not None
        options = self._options
        return Introduced(
            opening,
            worker.rung,
            worker.ready.runtime,
            worker.ready.model,
            options.detector,
            options.encoder_threads,
            options.decoder_threads,
        )

    def _take(self, report: Report) -> None:
        if isinstance(report, Awaited):
            self._await(report)
        if isinstance(report, (Heard, Said, Sang)):
            self.recognised = time.monotonic()
        if not isinstance(report, (Began, Heard, Said, Passed, Judged, Guessed)):
            return
        if isinstance(report, (Said, Passed)):
            self._progressed = True
            self._clear(
                report.stream, report.resume if isinstance(report, Said) else report.position
            )
        stream = self._streams.get(report.stream)
        if stream is None:
            return
        if not isinstance(report, (Began, Heard)):  # they are told as events
            self._see(stream, report)
        if isinstance(report, (Judged, Guessed)):
            return
        if isinstance(report, Said):
            self._watch(stream, report)
        stream.take(report)

    def _await(self, report: Awaited) -> None:
        """A worker wants to be woken sooner than is usual."""
        if stream := self._streams.get(report.stream):
            stream.awaits(report.written)
            self.notify(stream)

    def _clear(self, stream: int, position: float) -> None:
        """Samples before this one have killed nobody."""
        if self._blame.survived(stream, position) and self._worker and self._ready.is_set():
            self._settle(self._worker)

    def _watch(self, stream: Stream, said: Said) -> None:
        """What a final tells of the engine's health."""
        self.degenerate = self.degenerate + 1 if said.degenerate else 0
        if said.speech_end - said.start >= TELLING_SAMPLES:
            length = said.end - said.start
            self._same = {*self._same, length} if said.text == self._last_text else {length}
            self._last_text = said.text
        if stream.is_paced(said.start, said.decided):
            self._latencies.append(time.monotonic() - stream.clock_of(said.decided))

    # -- keeping a worker -----------------------------------------------------------------------

    async def _keep(self) -> None:
        """For ever: whatever goes wrong here too must not leave the daemon without an engine."""
        while True:
            try:
                await self._once()
            except Exception:
                log.exception("keeping a worker failed", extra=fields("engine_fault"))
                self._ready.clear()
                await self._drop_coming()
                self._fruitless = max(FRUITLESS_ENDS, self._fruitless + 1)
            if self._fruitless >= FRUITLESS_ENDS:
                await self._pause()

    async def _drop_coming(self) -> None:
        coming, self._coming = self._coming, None
        if coming:
            await coming.stop()

    async def _once(self) -> None:
        """One worker, from its start to its end."""
        worker, self._coming = self._coming, None
        if worker is None:
            worker = await self._load()
        if worker is not None:
            self._serve(worker)
            await self._tend(worker)

    async def _start(self, rung: Rung) -> WorkerProcess:
        self.starts += 1
        self.tried = time.monotonic()
        try:
            folder = self._locate(rung)
            early, self._early = self._early, None
            return await WorkerProcess.start(rung, folder, self._options, self._take, early)
        finally:
            self._begun.set()

    async def _load(self) -> WorkerProcess | None:
        """A worker of the present rung, ready to serve; None if it may not."""
        generation = self._generation
        worker = self._worker = await self._start(self.ladder.step.rung)
        loaded = await worker.loaded()
        if generation != self._generation:
            await worker.kill()  # another ladder has come meanwhile
        elif not loaded:
            await self._descend(worker, generation)
        elif not await self._too_slow(worker):
            return worker
        return None

    async def _too_slow(self, worker: WorkerProcess) -> bool:
        """Whether a better rung has to make way for a faster one; if so, it is gone."""
        assert worker.ready is not None
        lower = self.ladder.next_rung
        slow = self._admit(worker.ready) if self._admit and lower else None
        if slow is None or lower is None:
            return False
        left = fields("engine_left", rung=worker.rung, reason=slow)
        log.info("%s is left: %s", worker.rung, slow, extra=left)
        self.ladder.leave(lower, slow, time.monotonic(), lasting=True)
        self.cause = "slow"
        await worker.stop()
        return True

    def _serve(self, worker: WorkerProcess) -> None:
        assert worker.ready is not None
        self._worker = worker
        self._progressed = False
        self._wish = None  # it was meant for the last one
        self._wished.clear()
        log.info(
            "%s is ready after %.2f s (%s)",
            worker.rung,
            worker.ready.load_seconds,
            worker.ready.runtime,
            extra=fields(
                "engine_ready",
                rung=worker.rung,
                pid=worker.pid,
                seconds=worker.ready.load_seconds,
                runtime=worker.ready.runtime,
            ),
        )
        self.problem = None
        self._killed_loading = 0
        self.recognised = time.monotonic()  # the check clip
        self._ready.set()
        self._settle(worker)
        for stream in self._streams.values():
            self._introduce(stream)

    def _settle(self, worker: WorkerProcess) -> None:
        """The worker and everybody else learn which step serves."""
        pace = self.ladder.step.pace
        worker.send(Pace(pace, lanes=1 if self._blame.suspects else 0))
        self._change(EngineState(self.ladder.requested, worker.rung, self.ladder.reason, pace))

    def _change(self, state: EngineState) -> None:
        self.state = state
        for stream in self._streams.values():
            stream.engine = state
        self._on_change(state)

    def _recover(self, worker: WorkerProcess, end: End) -> None:
        """A worker that had been ready is gone: count it, and skip what killed two."""
        gone = fields("worker_gone", rung=worker.rung, pid=worker.pid, cause=end.cause)
        log.error("the worker of %s is gone: %s", worker.rung, end.reason, extra=gone)
        self._fruitless = 0 if self._progressed or not end.fault else self._fruitless + 1
        self._hang_seconds = (
            min(self._hang_seconds * 2, LONGEST_HANG_SECONDS) if end.hung else HANG_SECONDS
        )
        self._change(EngineState(self.ladder.requested, None, end.reason))
        now = time.monotonic()
        guilty = self._blame.samples(worker.working.values(), end.fault)
        unfit = self._blame.rung(worker.rung, end.fault, now) or end.behind or end.failed
        lower = self.ladder.next_rung
        if lower is not None and (guilty or unfit) and not self.ladder.pinned:
            self._leave(lower, f"{worker.rung}: {end.reason}", end.cause)
            self._blame.forget()
        elif guilty:
            self._skip(guilty)
            self._blame.forget()

    def _leave(self, lower: int, reason: str, cause: str) -> None:
        """Go to a lower rung, which is tried at once, however long the last one was waited for."""
        self.ladder.leave(lower, reason, time.monotonic())
        self.cause = cause
        self._fruitless = 0

    def _skip(self, working: Working) -> None:
        stream = self._streams.get(working.stream)
        if stream is None or working.end <= stream.floor:
            return
        log.error(
            "stream %d: workers end at samples %d to %d, which are skipped",
            working.stream,
            working.start,
            working.end,
            extra=fields("audio_skipped", stream=working.stream),
        )
        stream.skip(working.end, "skipped")

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
        unusable = fields("engine_unusable", rung=worker.rung, code=code)
        log.error("%s cannot be used: %s", worker.rung, reason, extra=unusable)
        self._change(EngineState(self.ladder.requested, None, reason))
        if code.startswith("model_") and await self._mends(worker.rung):
            return
        if generation != self._generation:
            return
        lower = self.ladder.next_rung
        if lower is not None:
            self._leave(lower, reason, "refused")
            return
        self.problem = EngineError(reason, code=code)
        self.ladder.restart()
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
        waits = fields("engine_waits", seconds=seconds)
        log.error("no engine worker stays up; the next try is in %.0f s", seconds, extra=waits)
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


def _why_not(worker: WorkerProcess) -> str:
    return worker.refused.message if worker.refused else "it died while it loaded"
