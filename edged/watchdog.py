"""Tells systemd what runs, and feeds its watchdog: only while what is said to work does.

A server that is deadlocked and yet says that it is well is the fault that a watchdog is for. So it
is fed while audio comes from a microphone that is said to listen, and while the engine that is said
to be ready has recognised something lately: speech, or else a canary, the check clip. What is known
to be amiss, and said so, is no reason: a robot whose microphone is unplugged, or whose engine
cannot be loaded, would only be restarted again and again.
"""

from __future__ import annotations

import asyncio
import time

from edged.audio.capture import IDENTITIES
from edged.daemon import Daemon
from edged.log import fields, get_logger
from edged.microphone import Microphone
from edged.notify import notify, watchdog_seconds

log = get_logger(__name__)

LOOK_SECONDS = 5.0
"""Longest time between two looks"""
LOOKS = 4
"""Looks in the time that systemd waits"""
FRAMES_SECONDS = 15.0
"""Longest silence of a microphone that listens: capture itself calls it lost after 0.5 s, and what
does not even answer, after 5 s"""
SIGN_SECONDS = 60.0
"""Longest time without a sign of life of any capture process; one may open its device for 30 s"""
CANARY_SECONDS = 60.0
"""Time without recognition after which a canary is sent: 6 s of audio to recognise"""
LATELY_SECONDS = 135.0
"""Longest time without recognition: a worker that hangs is replaced after 5 to 60 s"""
LOAD_SECONDS = 600.0
"""Longest time for an engine that is not ready without a new try: a build of its model, then a
worker that compiles"""


class Watchdog:
    """Looks after the daemon from within its event loop, which is thereby watched too."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._status = ""
        self._problem: str | None = None
        self._excused = time.monotonic()
        """When the microphone last had a reason to be silent, CLOCK_MONOTONIC"""
        self._sent = 0.0
        """When a canary was last sent, CLOCK_MONOTONIC"""

    async def run(self) -> None:
        """For ever."""
        patience = watchdog_seconds()
        pause = min(LOOK_SECONDS, patience / LOOKS) if patience else LOOK_SECONDS
        while True:
            self._tell_status()
            if patience:
                self._feed()
            await asyncio.sleep(pause)

    def _tell_status(self) -> None:
        if self._daemon.status != self._status:
            self._status = self._daemon.status
            notify(f"STATUS={self._status}")

    def _feed(self) -> None:
        before, self._problem = self._problem, self.problem(time.monotonic())
        if self._problem is None:
            notify("WATCHDOG=1")
        elif self._problem != before:
            hungry = fields("watchdog_not_fed", reason=self._problem)
            log.error("%s: systemd's watchdog is not fed any more", self._problem, extra=hungry)

    def problem(self, now: float) -> str | None:
        """What is said to work and does not; a canary is sent when one is due."""
        return self._microphone_problem(now) or self._engine_problem(now)

    def _microphone_problem(self, now: float) -> str | None:
        microphone = self._daemon.microphone
        if microphone is None or microphone.state.state == "ended":
            self._excused = now
            return None
        if now - microphone.alive > SIGN_SECONDS:
            return "no capture process gives a sign of life"
        if not _owes_audio(microphone):
            self._excused = now
        if now - max(self._daemon.heard, self._excused) > FRAMES_SECONDS:
            return f"no audio comes from {microphone.state.label}, which is said to listen"
        return None

    def _engine_problem(self, now: float) -> str | None:
        supervisor = self._daemon.supervisor
        if not supervisor.ready:
            late = now - supervisor.tried > LOAD_SECONDS
            return "there is no engine, and none is tried" if late else None
        silent = now - supervisor.recognised
        if silent > CANARY_SECONDS and now - self._sent > CANARY_SECONDS:
            self._sent = now
            supervisor.sing()
        return (
            "the engine has recognised nothing, not even a canary"
            if silent > LATELY_SECONDS
            else None
        )


def _owes_audio(microphone: Microphone) -> bool:
    """Whether it is a device, which never pauses, and listens."""
    state = microphone.state
    scheme = state.source.partition(":")[0]
    return state.state == "listening" and (state.source == "auto" or scheme in IDENTITIES)
