"""The daemon's side of capture: keeps one capture process alive on the configured source."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec.structs import replace

from edged import channel, stderr
from edged.engine.stream import Stream
from edged.log import fields, get_logger
from edged.messages import (
    Allow,
    Attend,
    Beat,
    Captured,
    CaptureReport,
    Ended,
    Gone,
    Lost,
    MicrophoneChanged,
    Mute,
    Muted,
    Opened,
    Waiting,
    decode_capture_report,
)
from edged.recognizer import SAMPLE_RATE

log = get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds between tries to get a source back"""
DEAF_SECONDS = 5.0
"""Silence of the capture process itself after which it is replaced"""
OPEN_SECONDS = 30.0
"""The same while it opens its source: a slow board takes its time to start PortAudio"""
OBEY_SECONDS = 1.0
"""Longest wait for the capture process to carry out an order to mute, before it is ended"""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What to listen to."""

    source: str
    channel: int | None
    rate: int
    encoding: str
    channels: int
    mute_file: str | None
    mute_command: str | None
    trace: Path | None = None
    """Folder to note in what is captured when"""


@dataclass(frozen=True, slots=True)
class MicrophoneState:
    """What the microphone does, for people and programs."""

    state: Literal["off", "waiting", "listening", "muted", "ended"]
    source: str
    muted_by: tuple[Literal["order", "switch"], ...] = ()
    identity: str | None = None
    """What is heard, or was last"""
    label: str | None = None
    rate: int | None = None
    """Hertz at which it is recorded"""
    channels: int | None = None
    drift: float | None = None
    """How much faster than CLOCK_MONOTONIC its clock goes, in parts per million"""
    reason: str | None = None
    """Why it is not heard, or what is wrong with what is heard"""
    code: str | None = None

    @property
    def muted(self) -> bool:
        return bool(self.muted_by)


class Microphone:
    """Feeds one stream from a capture process."""

    def __init__(
        self,
        options: SourceOptions,
        stream: Stream,
        *,
        muted: bool,
        on_audio: Callable[[], None],
        on_gap: Callable[[int, int, str], None],
        on_quiet: Callable[[], None],
        on_end: Callable[[], None],
        on_change: Callable[[MicrophoneChanged], None],
    ) -> None:
        self._options = options
        self._stream = stream
        self._on_audio = on_audio
        self._on_gap = on_gap
        self._on_quiet = on_quiet
        self._on_end = on_end
        self._on_change = on_change
        self._clock = 0.0
        """When the last sample was captured, CLOCK_MONOTONIC"""
        self._channel: channel.AsyncChannel[CaptureReport] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._phase: Literal["waiting", "open", "ended"] = "waiting"
        self._why: Gone | Waiting | None = None
        """Why it waits"""
        self._opened: Opened | None = None
        """What was opened last"""
        self._beat = Beat()
        """How it delivers"""
        self._alive = 0.0
        """When the capture process was last heard of, CLOCK_MONOTONIC"""
        self._heard = False
        """Whether this capture process has delivered anything"""
        self._attends = True
        """Whether it tells of each block"""
        self._ordered = muted
        self._muting = Muted(muted, False)
        """What is in force: what the capture process says, or that there is none"""
        self._obeyed = asyncio.Event()
        self._obeyed.set()
        self._enforcing: asyncio.TimerHandle | None = None
        self._complaint: str | None = None
        """The reason for waiting that the log has; None once there was audio again"""
        self._told = self._change()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The capture process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    @property
    def alive(self) -> float:
        """When a capture process was last started or heard of, CLOCK_MONOTONIC."""
        return self._alive

    def start(self) -> None:
        self._alive = time.monotonic()
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._end_process()

    def allow(self) -> None:
        """Tell a source that is not bound to time how far it may write."""
        if self._channel and self._options.source.startswith("fast:"):
            self._channel.send(Allow(self._stream.written + max(0, self._stream.free)))

    # -- mute -----------------------------------------------------------------------------------

    def mute(self, muted: bool) -> None:
        """Let nothing into the ring, or let it in again, unless the switch is against it."""
        self._ordered = muted
        if self._channel is None:
            self._mutes(replace(self._muting, ordered=muted))
            return
        self._obeyed.clear()
        self._channel.send(Mute(muted))
        if self._enforcing:
            self._enforcing.cancel()
        if muted:
            loop = asyncio.get_running_loop()
            self._enforcing = loop.call_later(OBEY_SECONDS, self._enforce)

    async def obeyed(self) -> None:
        """Wait until the last order is in force."""
        await self._obeyed.wait()

    def _enforce(self) -> None:
        """End a capture process that does not obey: then it hears nothing for sure."""
        if not self._obeyed.is_set():
            self._wait(Gone("capture_hung", "the capture process does not obey"))
            self._over.set()

    def _mutes(self, muting: Muted) -> None:
        """This is in force."""
        silenced = _muted_by(muting) and not _muted_by(self._muting)
        self._muting = muting
        if muting.ordered == self._ordered:
            self._obeyed.set()
        if silenced and self._phase == "open":
            self._on_quiet()
        self._tell()

    # -- state ----------------------------------------------------------------------------------

    @property
    def state(self) -> MicrophoneState:
        code, reason = self._trouble
        return MicrophoneState(
            state=self._state,
            source=self._options.source,
            muted_by=_muted_by(self._muting),
            identity=self._opened.identity if self._opened else None,
            label=self._opened.label if self._opened else None,
            rate=self._opened.rate if self._opened else None,
            channels=self._opened.channels if self._opened else None,
            drift=self._beat.drift,
            reason=reason,
            code=code,
        )

    @property
    def _state(self) -> Literal["waiting", "listening", "muted", "ended"]:
        if self._phase != "open":
            return self._phase
        return "muted" if _muted_by(self._muting) else "listening"

    @property
    def _trouble(self) -> tuple[str | None, str | None]:
        """Code and reason of what is wrong."""
        if self._phase == "waiting" and self._why:
            return self._why.code, self._why.message
        if self._muting.problem:
            return "mute_switch", self._muting.problem
        if self._beat.problem:
            return "only_zeros", self._beat.problem
        return None, None

    def _change(self, instead_of: str | None = None) -> MicrophoneChanged:
        state = self.state
        return MicrophoneChanged(
            state.state,
            state.source,
            state.identity,
            state.label,
            instead_of,
            state.reason,
            state.code,
            list(state.muted_by),
        )

    def _tell(self, instead_of: str | None = None) -> None:
        """Tell what is so now, if it is another thing than what was told last."""
        now = self._change(instead_of)
        if now != replace(self._told, instead_of=None):
            self._told = now
            self._on_change(now)

    # -- the capture process --------------------------------------------------------------------

    async def _keep(self) -> None:
        wait = FIRST_WAIT
        while True:
            self._heard, self._attends = False, True
            try:
                await self._start_process()
            except OSError as error:  # a machine that is short of descriptors, processes or memory
                why = f"the capture process cannot be started: {error.strerror}"
                self._wait(Gone("capture_failed", why))
            else:
                await self._listen()
            await self._end_process()
            if self._phase == "ended":
                return
            wait = FIRST_WAIT if self._heard else min(wait * 2, LONGEST_WAIT)
            await asyncio.sleep(wait)

    async def _listen(self) -> None:
        """Until the source is over, or its process gives no sign of life: PortAudio can hang."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._over.wait()
            self.allow()
            patience = DEAF_SECONDS if self._phase == "open" else OPEN_SECONDS
            if time.monotonic() - self._alive > patience:
                self._wait(Gone("capture_hung", "the capture process does not answer"))
                self._over.set()

    async def _start_process(self) -> None:
        self._over.clear()
        ordered = self._ordered
        self._alive = time.monotonic()
        ours, theirs = channel.channel_pair()
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "edged.audio.capture",
                    *self._arguments(theirs.fileno()),
                    pass_fds=[theirs.fileno(), self._stream.ring.fd],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        assert self._process.stderr is not None
        self._reader = asyncio.create_task(stderr.follow(self._process.stderr, self._said))
        self._channel = channel.AsyncChannel(ours, decode_capture_report, self._take, self._gone)
        if self._ordered != ordered:
            self.mute(self._ordered)
        self.allow()

    def _arguments(self, fd: int) -> list[str]:
        options = self._options
        arguments = [
            f"--socket={fd}",
            f"--ring={self._stream.ring.fd}",
            f"--source={options.source}",
            f"--position={self._stream.written}",
            f"--clock={self._clock}",
            f"--rate={options.rate}",
            f"--encoding={options.encoding}",
            f"--channels={options.channels}",
        ]
        if self._ordered:
            arguments.append("--muted")
        if options.channel is not None:
            arguments.append(f"--channel={options.channel}")
        if options.mute_file:
            arguments.append(f"--mute-file={options.mute_file}")
        if options.mute_command:
            arguments.append(f"--mute-command={options.mute_command}")
        if options.trace:
            arguments.append(f"--trace={options.trace}")
        return arguments

    async def _end_process(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None
        if self._process:
            # With the program that it may have started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
            self._process = None  # its number may be another's now
        if self._reader:
            await asyncio.wait({self._reader}, timeout=0.2)  # who has left the group may hold it
            self._reader.cancel()
        self._mutes(replace(self._muting, ordered=self._ordered))

    def _say_heard(self) -> None:
        opened = self._opened
        heard = fields("microphone_heard", microphone=opened.identity if opened else None)
        log.info("listening to %s", opened.label if opened else "it", extra=heard)

    def _said(self, line: str) -> None:
        """What a sound library, or the program that is listened to, has written."""
        origin = fields("capture_said", process="capture", pid=self.pid)
        log.info("capture: %s", line, extra=origin)

    def _take(self, report: CaptureReport) -> None:
        self._alive = time.monotonic()
        match report:
            case Captured():
                if not self._heard:
                    self._heard, self._complaint = True, None
                    self._say_heard()
                self._clock = report.clock
                if self._opened and (self._opened.rate, self._opened.channels) != (SAMPLE_RATE, 1):
                    self._stream.copied += report.written - self._stream.written
                self._stream.wrote(report.written, report.clock)
                self._on_audio()
                self._attend()
            case Lost():
                self._on_gap(report.start, report.end, report.reason)
            case Beat():
                self._beat = report
                self._tell()
            case Muted():
                self._mutes(report)
            case Opened():
                self._open(report)
            case Waiting():
                self._wait(report)
            case Gone():
                self._wait(report)
                self._over.set()
            case Ended():
                # Counts may have been dropped on the way; this one never is.
                self._stream.wrote(max(self._stream.written, report.written), time.monotonic())
                self._phase = "ended"
                self._tell()
                self._on_end()
                self._over.set()

    def _attend(self) -> None:
        """While somebody speaks each block counts."""
        if self._channel and self._stream.speaking != self._attends:
            self._attends = self._stream.speaking
            self._channel.send(Attend(self._attends))

    def _open(self, opened: Opened) -> None:
        before, self._opened = self._opened, opened
        self._phase, self._beat = "open", Beat()
        other = before.identity if before and before.identity != opened.identity else None
        if other:
            changed = fields("microphone_changed", microphone=opened.identity)
            log.warning("%s is listened to, instead of %s", opened.identity, other, extra=changed)
        self._tell(other)

    def _wait(self, why: Gone | Waiting) -> None:
        was_open = self._phase == "open"
        self._phase, self._why, self._beat = "waiting", why, Beat()
        if was_open:
            self._on_quiet()
        if why.message != self._complaint:
            waiting = fields("microphone_waits", code=why.code)
            log.warning("waiting for a microphone: %s", why.message, extra=waiting)
            self._complaint = why.message
        self._tell()

    def _gone(self) -> None:
        """The capture process has hung up."""
        if not self._over.is_set():
            self._wait(Gone("capture_died", "the capture process died"))
            self._over.set()


def _muted_by(muting: Muted) -> tuple[Literal["order", "switch"], ...]:
    who: list[Literal["order", "switch"]] = []
    if muting.ordered:
        who.append("order")
    if muting.switched:
        who.append("switch")
    return tuple(who)
