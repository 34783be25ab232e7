"""A worker's process, as the daemon holds it: start, messages, sign of life, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edged import channel, stderr
from edged.elsewhere import interpreter
from edged.engine.capacity import Capacity
from edged.engine.launch import Launched, launch
from edged.log import fields, get_logger
from edged.messages import (
    Failed,
    Load,
    Loading,
    Message,
    Ping,
    Pong,
    Ready,
    Refused,
    Report,
    Rung,
    Worked,
    WorkerOptions,
    Working,
    decode_report,
)

log = get_logger(__name__)

STALL_SECONDS = 120.0
"""Longest silence of a worker that is loading: some devices compile for minutes"""
STILL_SECONDS = 10.0
"""Longest time that a worker which is loading may use no processor: a compiler does"""
PING_SECONDS = 0.5
DUMP_SECONDS = 0.3
LEAVE_SECONDS, LEAVE_TRACED_SECONDS = 2.0, 60.0
"""Longest wait for a worker that is to leave; one that is traced writes much at its end"""
"""Time for a stuck worker to write its stacks before it is killed"""
LAST_LINES = 20
BEHIND_SECONDS = 3.0
"""Lag of live audio that a slower model is blamed for"""
BEHIND_PONGS = 6
"""So many answers in a row must tell of it"""


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended."""

    reason: str
    fault: bool
    """Its own doing, or that of the audio: not killed from outside, nor replaced on purpose"""
    hung: bool = False
    """It did not answer and was killed for that"""
    behind: bool = False
    """It could not keep up with live audio and was ended for that"""
    failed: bool = False
    """Its rung computes nonsense or has lost its device: another worker of it would fare alike"""

    @property
    def cause(self) -> str:
        """The reason in a word."""
        if self.hung:
            return "hung"
        if self.behind:
            return "behind"
        return "failed" if self.failed else "crashed"


class WorkerProcess:
    """One running worker."""

    def __init__(
        self,
        rung: Rung,
        launched: Launched,
        on_report: Callable[[Report], None],
        traced: bool = False,
    ) -> None:
        self.rung = rung
        self.ready: Ready | None = None
        self.capacity: Capacity | None = None
        """Known once it is ready"""
        self.refused: Refused | None = None
        self.failed: Failed | None = None
        self.work = Pong(0, 0.0)
        """What it said of its work when it was last asked"""
        self.lag = 0.0
        """How far live audio was ahead of it when it was last asked, in seconds"""
        self.working: dict[int, Working] = {}
        """What it was recognising when it was last heard of, by stream"""
        self._process = process = launched.process
        self._patience = LEAVE_TRACED_SECONDS if traced else LEAVE_SECONDS
        self._on_report = on_report
        self._channel = channel.AsyncChannel(
            launched.socket, decode_report, self._take, self._hung_up
        )
        self._ended = asyncio.Event()
        self._loaded = asyncio.Event()
        self._heard = time.monotonic()
        self._pings = 0
        self._asked: float | None = None
        self._hung = False
        self._killed = False
        self._late_pongs = 0
        self._behind = False
        self._stderr: deque[str] = deque(maxlen=LAST_LINES)
        assert process.stderr is not None
        self._reader = asyncio.create_task(stderr.follow(process.stderr, self._said))

    @classmethod
    async def start(
        cls,
        rung: Rung,
        folder: Path,
        options: WorkerOptions,
        on_report: Callable[[Report], None],
        early: Launched | None = None,
    ) -> WorkerProcess:
        """Start a worker for `rung`, which loads on its own, from an early one if that will do."""
        python = interpreter(rung.provider, options.extra)
        if early and not (python.is_ours and early.alive):
            await early.dismiss()
            early = None
        launched = early or await launch(python.python, python.environment)
        worker = cls(rung, launched, on_report, bool(options.trace))
        worker.send(Load(rung, str(folder), options))
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        self._channel.send(message, fds)

    def _take(self, report: Report) -> None:
        self._heard = time.monotonic()
        match report:
            case Loading():
                log.debug(
                    "worker %d: %s",
                    self.pid,
                    report.stage,
                    extra=fields("worker_loads", pid=self.pid, rung=self.rung),
                )
            case Ready():
                self.ready = report
                self.capacity = Capacity(report.check_seconds, report.lanes)
                self._loaded.set()
            case Refused():
                self.refused = report
                self._loaded.set()
            case Pong():
                self._asked = None
                self._learn(self.work, report)
                self.work = report
                self.lag = report.lag
                late = report.lag > BEHIND_SECONDS
                self._late_pongs = self._late_pongs + 1 if late else 0
            case Failed():
                self.failed = report
            case Working():
                self.working[report.stream] = report
            case Worked():
                self.working.pop(report.stream, None)
            case _:
                self._on_report(report)

    def _learn(self, before: Pong, now: Pong) -> None:
        if self.capacity and now.audio > before.audio:
            owed = (now.busy - now.partials) - (before.busy - before.partials)
            self.capacity.learn(max(0.0, owed), now.audio - before.audio)

    def _hung_up(self) -> None:
        self._ended.set()
        self._loaded.set()

    async def loaded(self) -> bool:
        """Wait until it is ready, has refused, or is no more; whether it is ready."""
        stillness = Stillness(self.pid)
        while not self._loaded.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._loaded.wait()
            silent = time.monotonic() - self._heard
            still = min(silent, stillness.seconds())
            if not self._loaded.is_set() and (still > STILL_SECONDS or silent > STALL_SECONDS):
                self._hung = True
                await self.kill()
        return self.ready is not None

    async def ended(self, hang_seconds: float, replaceable: bool = False) -> End:
        """Wait for its end; bring it about when it does not answer for `hang_seconds`.

        A `replaceable` worker is ended too when it cannot keep up with live audio.
        """
        while not self._ended.is_set():
            self._check_answer(hang_seconds)
            if self._hung:
                await self._dump_and_kill()
            elif replaceable and self._late_pongs >= BEHIND_PONGS:
                self._behind = True
                await self.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PING_SECONDS):
                    await self._ended.wait()
        return await self._end()

    def _check_answer(self, hang_seconds: float) -> None:
        now = time.monotonic()
        if self._asked is None:
            self._pings += 1
            self._asked = now
            self.send(Ping(self._pings))
        elif now - max(self._asked, self._heard) > hang_seconds:
            self._hung = True
        self._hung = self._hung or self.work.stuck > hang_seconds

    async def _dump_and_kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(DUMP_SECONDS)
        await self.kill()

    async def kill(self) -> None:
        """End it at once."""
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._channel.close()
        self._hung_up()

    async def stop(self) -> None:
        """Hang up, which a worker takes as its order to leave; kill it if it does not."""
        self._killed = True
        self._channel.close()
        self._hung_up()
        try:
            await asyncio.wait_for(self._process.wait(), self._patience)
        except TimeoutError:
            await self.kill()
        await asyncio.wait({self._reader}, timeout=1.0)

    async def _end(self) -> End:
        # A closed socket is the end, whatever the process still does.
        with contextlib.suppress(ProcessLookupError):
            if self._process.returncode is None:
                await _wait_or_kill(self._process)
        await asyncio.wait({self._reader}, timeout=1.0)  # a grandchild may hold it open
        code = self._process.returncode or 0
        fault = self._hung or not (self._killed or code == -signal.SIGKILL)
        failed = self.failed is not None
        return End(self._reason(code), fault, self._hung, self._behind, failed)

    def _reason(self, code: int) -> str:
        if self.failed:
            return self.failed.message
        if self._hung:
            return "it did not answer"
        if self._behind:
            return "it could not keep up with live audio"
        if code < 0:
            what = f"it was ended by {signal_name(-code)}"
        else:
            what = f"it left with exit code {code}"
        last = next((line for line in reversed(self._stderr) if line.strip()), "")
        return f"{what}: {last}" if last else what

    def _said(self, line: str) -> None:
        self._stderr.append(line)
        origin = fields("worker_said", process="worker", pid=self.pid, rung=self.rung)
        log.info("worker %d: %s", self.pid, line, extra=origin)


class Stillness:
    """How long a process and its children have used no processor: one that hangs does not, a
    compiler does."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._used = 0
        self._since = time.monotonic()

    def seconds(self) -> float:
        used = sum(_processor_ticks(pid) or 0 for pid in family(self._pid))
        if used not in {0, self._used}:
            self._used = used
            self._since = time.monotonic()
        return time.monotonic() - self._since


def family(pid: int) -> list[int]:
    """A process and its children: a runtime may live in one of them."""
    found = [pid]
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # that thread has ended
                found += [int(child) for child in path.read_text().split()]
    return found


def _processor_ticks(pid: int) -> int | None:
    """Processor time that a process has used, in clock ticks; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12])


def signal_name(number: int) -> str:
    """SIGSEGV for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


async def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a process that leads a session of its own, with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 1.0)


async def _wait_or_kill(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), 1.0)
    except TimeoutError:
        process.kill()
        await process.wait()
