"""Endless speech and endless noise: neither memory nor lag grows. In full: `bench.endurance`."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import psutil

from edged.engine.stream import Stream
from edged.engine.supervisor import Supervisor
from edged.messages import Event, Final
from tests.client import silence
from tests.engine.test_supervisor import RATE, engine

ROUNDS = 10
GROWTH_MEGABYTES = 8.0
LAG_SECONDS = 3.0
BLOCK = RATE // 10
PACE = 8.0


async def feed(supervisor: Supervisor, stream: Stream, samples: np.ndarray) -> tuple[float, float]:
    """Send all of it; the worker's memory in megabytes, and seconds until all was recognised."""
    started = time.monotonic()
    for first in range(0, len(samples), BLOCK):
        await asyncio.sleep(max(0.0, started + first / RATE / PACE - time.monotonic()))
        await stream.room(BLOCK)
        stream.write(samples[first : first + BLOCK])
        supervisor.notify(stream)
    sent = time.monotonic()
    await stream.reached(supervisor.flush(stream))
    memory = psutil.Process(supervisor.worker_pid).memory_full_info().uss / 1e6
    return memory, time.monotonic() - sent


async def listen(samples: np.ndarray, events: list[Event]) -> list[tuple[float, float]]:
    supervisor = engine()
    supervisor.start()
    try:
        await supervisor.wait_ready()
        stream = supervisor.open(events.append)
        return [await feed(supervisor, stream, samples) for _ in range(ROUNDS)]
    finally:
        await supervisor.stop()


def check(rounds: list[tuple[float, float]]) -> None:
    memories, lags = zip(*rounds, strict=True)
    # What malloc keeps comes and goes with each utterance; the least of some rounds does not.
    early, late = memories[: ROUNDS // 2], memories[ROUNDS // 2 :]
    assert min(late) - min(early) < GROWTH_MEGABYTES, memories
    assert max(lags) < LAG_SECONDS, lags


def test_endless_speech_grows_nothing(speech: np.ndarray) -> None:
    events: list[Event] = []
    check(asyncio.run(listen(np.concatenate([speech, silence(1)]), events)))
    texts = [event.text for event in events if isinstance(event, Final)]
    assert len(texts) % ROUNDS == 0
    assert texts == texts[: len(texts) // ROUNDS] * ROUNDS


def test_endless_noise_grows_nothing_and_says_nothing() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 30 * RATE).astype(np.float32)
    events: list[Event] = []
    check(asyncio.run(listen(noise, events)))
    assert not [event.text for event in events if isinstance(event, Final) and event.text]
