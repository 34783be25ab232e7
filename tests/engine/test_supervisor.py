"""Whatever ends a worker, every utterance gets the final it would have got."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edged.config import load
from edged.engine.assembly import make_supervisor
from edged.engine.ladder import Ladder
from edged.engine.supervisor import Supervisor
from edged.messages import EngineState, Error, Event, Final, Gap, SpeechStarted
from tests import chaos
from tests.client import silence
from tests.conftest import TINY

RATE = 16000
BLOCK = 320
Harm = Callable[[Supervisor], Awaitable[None]]


@pytest.fixture(scope="module")
def minute(speech: np.ndarray) -> np.ndarray:
    """A minute of speech: the recording and its beginning again."""
    return np.concatenate([speech, silence(1), speech[: 15 * RATE], silence(1)])[: 60 * RATE]


def engine(flags: dict[str, dict[str, str]] | None = None) -> Supervisor:
    return make_supervisor(load(None, flags or {"engine": {"model": TINY}}))


async def hear(
    supervisor: Supervisor, samples: np.ndarray, harm: Harm | None = None, pace: float = 1.0
) -> list[Event]:
    """Send samples at `pace` times the pace of time while `harm` goes on; all events."""
    events: list[Event] = []
    supervisor.start()
    try:
        await supervisor.wait_ready()
        stream = supervisor.open(events.append)
        harming = asyncio.create_task(harm(supervisor)) if harm else None
        started = asyncio.get_running_loop().time()
        for first in range(0, len(samples), BLOCK):
            await asyncio.sleep(
                max(0.0, started + first / RATE / pace - asyncio.get_running_loop().time())
            )
            await stream.room(BLOCK)
            stream.write(samples[first : first + BLOCK])
            supervisor.notify(stream)
        if harming:
            await harming
        await stream.reached(supervisor.flush(stream))
    finally:
        await supervisor.stop()
    return events


def finals(events: list[Event]) -> list[tuple[int, str, float, float]]:
    return [(e.utterance, e.text, e.start, e.end) for e in events if isinstance(e, Final)]


def signals(seed: int, times: int, number: signal.Signals, seconds: float) -> Harm:
    """Signal the worker at random moments, whatever it is doing, loading included."""

    async def harm(supervisor: Supervisor) -> None:
        rng = random.Random(seed)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for moment in sorted(rng.uniform(0, seconds) for _ in range(times)):
            await asyncio.sleep(max(0.0, started + moment - loop.time()))
            if supervisor.worker_pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(supervisor.worker_pid, number)

    return harm


@pytest.fixture(scope="module")
def undisturbed(minute: np.ndarray) -> list[Event]:
    return asyncio.run(hear(engine(), minute, pace=20.0))


def survive_kills(seed: int, minute: np.ndarray, undisturbed: list[Event]) -> None:
    """Ten kills at random moments of the minute, at twice the pace of time."""
    supervisor = engine()
    harm = signals(seed, 10, signal.SIGKILL, 29.0)
    events = asyncio.run(hear(supervisor, minute, harm, pace=2.0))
    assert supervisor.starts > 5
    assert finals(events) == finals(undisturbed)
    assert not [event for event in events if isinstance(event, (Gap, Error))]


def test_kills_at_random_moments_change_no_final(
    minute: np.ndarray, undisturbed: list[Event]
) -> None:
    survive_kills(0, minute, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_fifty_kills_at_random_moments_change_no_final(
    seed: int, minute: np.ndarray, undisturbed: list[Event]
) -> None:
    survive_kills(seed, minute, undisturbed)


def test_a_worker_that_hangs_is_replaced_and_no_final_changes(
    minute: np.ndarray, undisturbed: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.engine.supervisor.HANG_SECONDS", 1.5)
    supervisor = engine()
    harm = signals(1, 4, signal.SIGSTOP, 25.0)
    events = asyncio.run(hear(supervisor, minute, harm, pace=2.0))
    assert supervisor.starts > 2
    assert finals(events) == finals(undisturbed)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_fifty_hangs_at_random_moments_change_no_final(
    minute: np.ndarray, undisturbed: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.engine.supervisor.HANG_SECONDS", 1.5)
    monkeypatch.setattr("edged.engine.process.STILL_SECONDS", 3.0)
    for seed in range(2, 7):
        harm = signals(seed, 10, signal.SIGSTOP, 58.0)
        events = asyncio.run(hear(engine(), minute, harm))
        assert finals(events) == finals(undisturbed)


def test_a_worker_that_hangs_while_it_loads_is_replaced(
    speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.engine.process.STILL_SECONDS", 1.0)
    supervisor = engine()

    async def load() -> None:
        supervisor.start()
        try:
            while supervisor.worker_pid is None:
                await asyncio.sleep(0.01)
            os.kill(supervisor.worker_pid, signal.SIGSTOP)
            while not supervisor.ready:
                await asyncio.sleep(0.05)
        finally:
            await supervisor.stop()

    asyncio.run(load())
    assert supervisor.starts == 2


def test_every_utterance_that_started_has_exactly_one_final(undisturbed: list[Event]) -> None:
    started = [event.utterance for event in undisturbed if isinstance(event, SpeechStarted)]
    assert started == [number for number, *_ in finals(undisturbed)]
    assert started == list(range(1, len(started) + 1))


def test_a_segmentation_fault_is_survived(speech: np.ndarray) -> None:
    samples = np.concatenate([speech[: 10 * RATE], silence(1)])
    events = asyncio.run(hear(engine(), samples, signals(0, 1, signal.SIGSEGV, 4.0)))
    calm = asyncio.run(hear(engine(), samples, pace=20.0))
    assert finals(events) == finals(calm)


def test_samples_that_end_two_workers_are_skipped_and_said_to_be_lost(
    speech: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that aborts on one utterance must not take the others with it."""
    chaos.install(tmp_path, monkeypatch)
    flags = {"engine": {"model": TINY, "provider": "chaos", "fallback": "fail"}}
    samples = np.concatenate([speech[: 5 * RATE], silence(1), speech[16 * RATE : 20 * RATE]])
    number, text, start, end = finals(asyncio.run(hear(engine(flags), samples, pace=20.0)))[0]
    assert text
    monkeypatch.setenv("EDGED_TEST_TRAP", str(round((end - start) * RATE)))
    supervisor = engine(flags)
    events = asyncio.run(hear(supervisor, samples, pace=20.0))
    first, *rest = finals(events)
    assert supervisor.starts == 3
    assert (first[0], first[1]) == (number, "")
    assert [gap.reason for gap in events if isinstance(gap, Gap)] == ["skipped"]
    assert rest
    assert all(text for _, text, *_ in rest)


def test_a_model_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = engine({"engine": {"model": "no-such-model"}})

    async def start() -> None:
        supervisor.start()
        try:
            await supervisor.wait_ready()
        finally:
            await supervisor.stop()

    with pytest.raises(Exception, match="no-such-model"):
        asyncio.run(start())


def test_the_next_rung_is_taken_and_said_when_the_first_refuses() -> None:
    changes: list[EngineState] = []
    good = engine().ladder.step.rung
    bad = msgspec.structs.replace(good, model="no-such-model")
    supervisor = engine()
    supervisor.ladder = Ladder([bad, good])
    supervisor._on_change = changes.append

    async def start() -> None:
        supervisor.start()
        await supervisor.wait_ready()
        await supervisor.stop()

    asyncio.run(start())
    assert changes[-1].effective == good
    assert changes[-1].requested == bad
    assert "no-such-model" in (changes[-1].reason or "")
