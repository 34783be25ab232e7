"""When systemd's watchdog is fed, and when not: a real daemon's parts, looked at ahead of time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edged import paths
from edged.config import load
from edged.daemon import Daemon
from edged.watchdog import (
    CANARY_SECONDS,
    FRAMES_SECONDS,
    LATELY_SECONDS,
    LOAD_SECONDS,
    SIGN_SECONDS,
    Watchdog,
)
from tests import chaos
from tests.audio.sound_server import SoundServer
from tests.conftest import TINY

Test = Callable[[Daemon], Awaitable[None]]


def run(test: Test, engine: dict[str, str] | None = None, **microphone: object) -> None:
    """Run a test on a daemon whose engine is ready."""
    flags = {"engine": {"model": TINY, **(engine or {})}, "microphone": microphone}

    async def main() -> None:
        async with started(flags) as daemon:
            await daemon.supervisor.wait_ready()
            await test(daemon)

    asyncio.run(main())


@contextlib.asynccontextmanager
async def started(flags: dict[str, dict[str, object]]) -> AsyncIterator[Daemon]:
    configuration = load(None, flags)
    daemon = Daemon(configuration, lambda: configuration)
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.stop()


def problem(daemon: Daemon, seconds: float = 0.0) -> str | None:
    """What the watchdog would say if nothing more happened for so long."""
    return Watchdog(daemon).problem(time.monotonic() + seconds)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(paths.cache_directory()))
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path))


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    if reason := SoundServer.missing():
        pytest.skip(reason)
    server = SoundServer(tmp_path / "sound")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


# -- engine ---------------------------------------------------------------------------------------


def test_an_engine_that_nobody_uses_shows_that_it_could_be_and_one_that_is_away_is_known() -> None:
    async def test(daemon: Daemon) -> None:
        supervisor = daemon.supervisor
        before, worker = supervisor.recognised, supervisor.worker_pid
        assert problem(daemon) is None
        await asyncio.sleep(0.2)
        assert supervisor.recognised == before, "no canary is sent before one is due"
        assert problem(daemon, CANARY_SECONDS + 1) is None
        await until(lambda: supervisor.recognised > before)
        assert supervisor.worker_pid == worker

        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        await until(lambda: not supervisor.ready)
        assert problem(daemon, LATELY_SECONDS + 1) is None
        assert "none is tried" in (problem(daemon, LOAD_SECONDS + 1) or "")

    run(test, enabled=False)


def test_an_engine_that_is_said_to_be_ready_and_is_not_ends_it() -> None:
    async def test(daemon: Daemon) -> None:
        supervisor = daemon.supervisor
        assert supervisor._task is not None
        supervisor._task.cancel()  # who should notice, is dead too
        assert supervisor.worker_pid is not None
        os.kill(supervisor.worker_pid, signal.SIGSTOP)
        before = supervisor.recognised
        assert problem(daemon, CANARY_SECONDS + 1) is None
        await asyncio.sleep(0.5)
        assert supervisor.recognised == before
        assert "not even a canary" in (problem(daemon, LATELY_SECONDS + 1) or "")

    run(test, enabled=False)


def test_an_engine_whose_canary_writes_nonsense_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    monkeypatch.setenv("EDGED_TEST_FAULT", str(fault))
    chaos.install(tmp_path, monkeypatch)

    async def test(daemon: Daemon) -> None:
        supervisor = daemon.supervisor
        worker = supervisor.worker_pid
        fault.write_text("nan")
        supervisor.sing()
        await until(lambda: supervisor.ready and supervisor.worker_pid != worker)

    run(test, {"provider": "chaos", "fallback": "fail"}, enabled=False)


# -- microphone -----------------------------------------------------------------------------------


def test_a_microphone_must_deliver_unless_it_is_known_not_to(sound: SoundServer) -> None:
    handle = sound.plug()

    async def test(daemon: Daemon) -> None:
        await until(lambda: daemon.microphone_state.state == "listening")
        assert problem(daemon) is None
        assert "no audio comes from" in (problem(daemon, FRAMES_SECONDS + 1) or "")
        before = daemon.heard
        await until(lambda: daemon.heard > before)
        daemon.mute(True)
        await daemon.muting()
        assert problem(daemon, FRAMES_SECONDS + 1) is None
        daemon.mute(False)
        await daemon.muting()
        sound.unplug(handle)
        await until(lambda: daemon.microphone_state.state == "waiting")
        assert problem(daemon, FRAMES_SECONDS + 1) is None
        assert "sign of life" in (problem(daemon, SIGN_SECONDS + 1) or "")

    run(test)


def test_a_program_may_pause() -> None:
    async def test(daemon: Daemon) -> None:
        await until(lambda: daemon.microphone_state.state == "listening")
        assert problem(daemon, FRAMES_SECONDS + 1) is None

    run(test, source="program:sleep 60")
