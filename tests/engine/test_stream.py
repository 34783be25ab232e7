from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from edged.engine.stream import IDLE_NEWS, NEWS, Stream
from edged.errors import EngineError
from edged.messages import (
    USUAL_NEWS,
    Began,
    Event,
    Final,
    Gap,
    Heard,
    Partial,
    Passed,
    Playback,
    Said,
    SpeechStarted,
)

RATE = 16000
RING_SECONDS = 10.0


def said(start: int, end: int, text: str = "hello", resume: int | None = None) -> Said:
    return Said(1, start, end, end, end + 100, text, 0.9, end + 100 if resume is None else resume)


def run(scenario: Callable[[Stream, list[Event]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        events: list[Event] = []
        stream = Stream(1, events.append, ring_seconds=RING_SECONDS)
        try:
            await scenario(stream, events)
        finally:
            stream.close()

    asyncio.run(main())


def finals(events: list[Event]) -> list[tuple[int, str]]:
    return [(event.utterance, event.text) for event in events if isinstance(event, Final)]


def test_what_a_second_worker_says_again_is_not_said_twice() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        for _ in range(2):
            stream.take(Began(1, 1000))
            stream.take(Heard(1, 1000, 5000, "hel", 0))
        for _ in range(2):
            stream.take(said(1000, 9000))
        assert len([e for e in events if isinstance(e, SpeechStarted)]) == 1
        assert finals(events) == [(1, "hello")]

    run(scenario)


def test_a_final_without_its_beginning_brings_it_along() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.take(said(1000, 9000))
        assert [type(event) for event in events] == [SpeechStarted, Final]

    run(scenario)


def test_a_gap_longer_than_the_ring_is_no_audio_that_fills_it() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.wrote(3 * RATE, 100.0)
        free = stream.free
        stream.mark(3 * RATE, 3 * RATE + 60 * RATE)
        stream.wrote(63 * RATE + 512, 160.0)
        assert stream.free == free - 512

    run(scenario)


def test_room_is_made_by_what_is_done_with() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        while stream.free >= RATE:
            stream.write(np.zeros(RATE, np.float32))
        waiting = asyncio.create_task(stream.room(RATE))
        await asyncio.sleep(0)
        assert not waiting.done()
        stream.take(Passed(1, 5 * RATE, 5 * RATE))
        await asyncio.wait_for(waiting, 1)

    run(scenario)


def test_nobody_waits_for_a_stream_that_is_closed() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        waiting = asyncio.create_task(stream.reached(RATE))
        await asyncio.sleep(0)
        stream.close()
        with pytest.raises(EngineError):
            await asyncio.wait_for(waiting, 1)

    run(scenario)


def test_what_is_skipped_closes_the_open_utterance_and_is_announced() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.wrote(5 * RATE, 100.0)
        stream.take(Began(1, RATE))
        stream.skip(4 * RATE, "skipped")
        assert finals(events) == [(1, "")]
        assert events[-1] == Gap(1.0, 4.0, "skipped")
        assert stream.resume == stream.floor == 4 * RATE

    run(scenario)


def test_an_utterance_that_another_worker_does_not_find_gets_its_final_all_the_same() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.take(Began(1, RATE))
        stream.take(Passed(1, 12 * RATE, 12 * RATE))
        assert finals(events) == [(1, "")]

    run(scenario)


def test_an_idle_worker_is_woken_at_once_when_it_grows_louder() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        quiet = np.random.default_rng(0).normal(0, 0.001, IDLE_NEWS).astype(np.float32)
        for first in range(0, IDLE_NEWS - NEWS, NEWS):
            stream.write(quiet[first : first + NEWS])
            assert not stream.is_news()
        stream.write(50 * quiet[:NEWS])
        assert stream.is_news()

    run(scenario)


def test_an_idle_worker_is_woken_now_and_then() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.write(np.zeros(IDLE_NEWS, np.float32))
        assert stream.is_news()
        stream.tell()
        stream.write(np.zeros(NEWS, np.float32))
        assert not stream.is_news()

    run(scenario)


def test_while_somebody_speaks_the_worker_is_told_of_what_it_asked_for() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.take(Began(1, 0))
        stream.wrote(USUAL_NEWS - 1, 100.0)
        assert not stream.is_news()
        stream.wrote(USUAL_NEWS, 100.0)
        assert stream.is_news()
        stream.tell()
        stream.awaits(USUAL_NEWS + 3 * NEWS)
        stream.wrote(USUAL_NEWS + 3 * NEWS - 1, 100.1)
        assert not stream.is_news()
        stream.wrote(USUAL_NEWS + 3 * NEWS, 100.1)
        assert stream.is_news()

    run(scenario)


def test_a_client_rests_no_longer_than_the_worker_asks_for() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.take(Began(1, 0))
        resting = asyncio.create_task(stream.rest(kept=0.0))
        await asyncio.sleep(0)
        assert not resting.done()
        stream.awaits(NEWS)
        await asyncio.wait_for(resting, USUAL_NEWS / RATE / 2)
        assert stream.chunk_seconds == NEWS / RATE

    run(scenario)


def test_a_partial_of_the_machine_s_own_words_is_none() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        stream.play("I am on my way", 10 * RATE)
        stream.take(Began(1, 1000))
        stream.take(Heard(1, 1000, 5000, "I am on", 0))
        assert not partials(events)
        stream.take(Heard(1, 1000, 7000, "I am on wait", 0))
        stream.take(Heard(1, 1000, 9000, "I am on my way", 0))
        assert partials(events) == ["wait", ""]

    run(scenario)


def test_a_gate_is_told_before_and_after() -> None:
    async def scenario(stream: Stream, events: list[Event]) -> None:
        block = np.zeros(RATE, np.float32)
        stream.play(None, 10 * RATE)
        stream.write(block)
        assert stream.keep_out() == (0, RATE)
        stream.stop_playing(RATE // 2)
        stream.write(block)
        assert stream.keep_out() == (RATE, RATE + RATE // 2)
        assert stream.keep_out() is None
        started, gap, stopped = events
        assert isinstance(gap, Gap)
        assert (gap.start, gap.end, gap.reason) == (0.0, 1.5, "playback")
        assert [type(started), type(stopped)] == [Playback, Playback]

    run(scenario)


def partials(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Partial)]
