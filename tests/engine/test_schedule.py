"""Whose turn it is, on real speech in this process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from edged.engine.schedule import Served, next_final, next_partial
from edged.engine.supervisor import Supervisor
from edged.messages import USUAL_NEWS, Event, Final, Said
from tests.client import silence
from tests.engine.conftest import Listening
from tests.engine.test_supervisor import engine, finals

RATE = 16000
Listen = Callable[[np.ndarray], Listening]


@pytest.fixture
def serve(listening: Listen) -> Callable[[np.ndarray], Served]:
    """A stream that nothing has been heard of yet."""

    def begin(samples: np.ndarray) -> Served:
        stream = listening(samples)
        return Served(stream.ring, stream.pipeline(), partials=True, live=True, interval=0.3)

    return begin


def listen(stream: Served, until: int) -> None:
    """Hear on to a sample, or to the first thing that is to be recognised."""
    stream.written = until
    while stream.can_go_on:
        for _ in stream.go_on():
            pass


def recognise(stream: Served) -> None:
    stream.recognise()
    stream.recognised()


@pytest.fixture
def sentence(speech: np.ndarray) -> np.ndarray:
    return np.concatenate([speech[: 4 * RATE], silence(2)])


def test_the_oldest_final_comes_first(
    serve: Callable[[np.ndarray], Served], sentence: np.ndarray
) -> None:
    streams = [serve(sentence) for _ in range(3)]
    for stream in (streams[1], streams[2], streams[0]):
        listen(stream, len(sentence))
        # As if its audio had come at the pace of time: it lies before now.
        stream.due = time.monotonic()
    order = []
    while stream := next_final(streams, time.monotonic()):
        order.append(streams.index(stream))
        recognise(stream)
    assert order == [1, 2, 0]


def test_what_lies_ahead_of_its_time_waits_for_who_is_due(
    serve: Callable[[np.ndarray], Served], sentence: np.ndarray
) -> None:
    bulk, live = serve(sentence), serve(sentence)
    listen(bulk, len(sentence))
    assert bulk.wanted
    assert bulk.due > time.monotonic() + 1
    assert next_final([bulk, live], time.monotonic()) is None
    live._opened -= 6
    listen(live, len(sentence))
    assert next_final([bulk, live], time.monotonic()) is live
    live.at_work = True
    assert next_final([bulk, live], math.inf) is bulk


def test_partials_are_thinned_by_how_many_speak(
    serve: Callable[[np.ndarray], Served], speech: np.ndarray
) -> None:
    streams = [serve(speech) for _ in range(8)]
    for stream in streams[:1]:
        listen(stream, 2 * RATE)
    assert next_partial(streams, pace=1.0) is streams[0]
    alone = streams[0].overdue(1, 1.0)
    assert streams[0].overdue(8, 1.0) < alone
    assert streams[0].overdue(1, 3.0) < alone


@pytest.mark.parametrize("partials", [True, False])
def test_who_is_woken_when_it_asks_hears_an_end_at_once(
    listening: Listen, sentence: np.ndarray, partials: bool
) -> None:
    samples = np.concatenate([sentence, sentence])
    heard = listening(samples)
    stream = Served(heard.ring, heard.pipeline(), partials=partials, live=True, interval=0.3)
    window, wakes, spoken, finals = 512, 0, 0, []
    while stream.written < len(samples):
        news = window
        if stream.pipeline.speaking:
            asked = stream.next_news(1, 1.0)
            assert asked > stream.written - window
            news = min(max(asked - stream.written, 1), USUAL_NEWS)
            wakes, spoken = wakes + 1, spoken + news
        stream.written = min(stream.written + news, len(samples))
        finals += _follow(stream)
    assert len(finals) >= 2
    assert all(0 <= late < window for late in finals)
    assert wakes < spoken / window / 2


def _follow(stream: Served) -> list[int]:
    """Hear what has come; how late each final was decided, in samples."""
    found = []
    while stream.can_go_on or stream.wanted:
        if stream.wanted:
            recognise(stream)
        said = [report for report in stream.go_on() if isinstance(report, Said)]
        found += [stream.written - report.decided for report in said]
    if next_partial([stream], 1.0):
        stream.begin_partial()
        recognise(stream)
        list(stream.go_on())
    return found


def test_nobody_who_is_being_recognised_gets_a_partial(
    serve: Callable[[np.ndarray], Served], speech: np.ndarray
) -> None:
    stream = serve(speech)
    listen(stream, 2 * RATE)
    stream.begin_partial()
    assert stream.wanted
    assert not stream.wanted.final
    assert next_partial([stream], 1.0) is None
    assert not stream.can_go_on
    recognise(stream)
    assert [report.text for report in stream.go_on() if hasattr(report, "text")] != []


async def send(supervisor: Supervisor, samples: np.ndarray) -> list[Event]:
    """All of it at once; what is answered."""
    events: list[Event] = []
    stream = supervisor.open(events.append)
    stream.write(samples)
    supervisor.notify(stream)
    await stream.reached(supervisor.flush(stream))
    return events


async def all_at_once(supervisor: Supervisor, parts: list[np.ndarray]) -> list[list[Event]]:
    supervisor.start()
    try:
        await supervisor.wait_ready()
        return await asyncio.gather(*(send(supervisor, part) for part in parts))
    finally:
        await supervisor.stop()


async def one_after_the_other(supervisor: Supervisor, parts: list[np.ndarray]) -> list[list[Event]]:
    supervisor.start()
    try:
        await supervisor.wait_ready()
        return [await send(supervisor, part) for part in parts]
    finally:
        await supervisor.stop()


def test_many_streams_at_once_write_what_each_would_write_alone(speech: np.ndarray) -> None:
    parts = [speech[first * RATE : (first + 9) * RATE] for first in range(0, 24, 3)]
    together = asyncio.run(all_at_once(engine(), parts))
    assert sum(isinstance(event, Final) for events in together for event in events) >= 16
    alone = asyncio.run(one_after_the_other(engine(), parts))
    assert [finals(events) for events in together] == [finals(events) for events in alone]
