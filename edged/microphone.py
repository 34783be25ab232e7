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

from edged import channel
from edged.engine.stream import Stream
from edged.log import get_logger
from edged.messages import (
    Allow,
    Captured,
    CaptureReport,
    Ended,
    Lost,
    Mute,
    Opened,
    Waiting,
    decode_capture_report,
)

log = get_logger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
"""Seconds between tries to get a source back"""
DEAF_SECONDS = 5.0
"""Silence of the capture process itself after which it is replaced"""
OPEN_SECONDS = 30.0
"""The same while it opens its source: a slow board takes its time to start PortAudio"""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What to listen to."""

    source: str
    channel: int | None
    rate: int
    encoding: str
    channels: int


@dataclass(slots=True)
class MicrophoneState:
    """What the microphone does, for people and programs."""

    state: str
    """off, waiting, listening, muted or ended"""
    source: str
    identity: str | None = None
    label: str | None = None
    reason: str | None = None
    code: str | None = None


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
    ) -> None:
        self._options = options
        self._stream = stream
        self._on_audio = on_audio
        self._on_gap = on_gap
        self._on_quiet = on_quiet
        self._on_end = on_end
        self.muted = muted
        self.state = MicrophoneState("waiting", options.source)
        self._clock = 0.0
        self._channel: channel.AsyncChannel[CaptureReport] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._over = asyncio.Event()
        self._open = False
        """Whether the capture process has opened its source"""
        self._alive = 0.0
        """When the capture process was last heard of, CLOCK_MONOTONIC"""
        self._heard = False
        """Whether this capture process has delivered anything"""
        self._complaint: str | None = None
        """The reason for waiting that the log has; None once there was audio again"""
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

    def mute(self, muted: bool) -> None:
        """Let nothing into the ring, from now on, or let it in again."""
        if muted == self.muted:
            return
        self.muted = muted
        if self._channel:
            self._channel.send(Mute(muted))
        if self.state.state in {"listening", "muted"}:
            self.state.state = "muted" if muted else "listening"
        if muted:
            self._on_quiet()

    def allow(self) -> None:
        """Tell a source that is not bound to time how far it may write."""
        if self._channel and self._options.source.startswith("fast:"):
            self._channel.send(Allow(self._stream.written + max(0, self._stream.free)))

    async def _keep(self) -> None:
        wait = FIRST_WAIT
        while True:
            self._heard = False
            await self._start_process()
            await self._listen()
            await self._end_process()
            if self.state.state == "ended":
                return
            wait = FIRST_WAIT if self._heard else min(wait * 2, LONGEST_WAIT)
            await asyncio.sleep(wait)

    async def _listen(self) -> None:
        """Until the source is over, or its process gives no sign of life: PortAudio can hang."""
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), 1.0)
            self.allow()
            patience = DEAF_SECONDS if self._open else OPEN_SECONDS
            if time.monotonic() - self._alive > patience:
                self._wait("capture_hung", "the capture process does not answer")

    async def _start_process(self) -> None:
        self._over.clear()
        self._open = False
        muted = self.muted
        self._alive = time.monotonic()
        ours, theirs = channel.channel_pair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "edged.audio.capture",
                *self._arguments(theirs.fileno()),
                pass_fds=[theirs.fileno(), self._stream.ring.fd],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        self._channel = channel.AsyncChannel(ours, decode_capture_report, self._take, self._gone)
        if self.muted != muted:
            self._channel.send(Mute(self.muted))
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
        if self.muted:
            arguments.append("--muted")
        if options.channel is not None:
            arguments.append(f"--channel={options.channel}")
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

    def _take(self, report: CaptureReport) -> None:
        self._alive = time.monotonic()
        match report:
            case Captured():
                if not self._heard:
                    self._heard, self._complaint = True, None
                    log.info("listening to %s", self.state.label)
                self._clock = report.clock
                self._stream.wrote(report.written, report.clock)
                self._on_audio()
            case Lost():
                self._on_gap(report.start, report.end, report.reason)
            case Opened():
                self._open = True
                state = "muted" if self.muted else "listening"
                self.state = MicrophoneState(
                    state, self._options.source, report.identity, report.label
                )
            case Waiting():
                self._wait(report.code, report.message)
            case Ended():
                # Counts may have been dropped on the way; this one never is.
                self._stream.wrote(max(self._stream.written, report.written), time.monotonic())
                self.state = MicrophoneState("ended", self._options.source)
                self._on_end()
                self._over.set()

    def _wait(self, code: str, reason: str) -> None:
        if self._heard:
            self._on_quiet()
        if reason != self._complaint:
            log.warning("waiting for a microphone: %s", reason)
            self._complaint = reason
        self.state = MicrophoneState(
            "waiting",
            self._options.source,
            self.state.identity,
            self.state.label,
            reason,
            code,
        )
        self._over.set()

    def _gone(self) -> None:
        if not self._over.is_set():
            self._wait("capture_died", "the capture process died")
