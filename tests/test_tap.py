"""The microphone's audio for those who want more than its text."""

from __future__ import annotations

import numpy as np

from edged.engine.stream import Stream
from edged.tap import MOST, Tap
from tests.client import s16


def block(level: float, samples: int = 480) -> np.ndarray:
    return np.full(samples, level, np.float32)


def test_audio_is_handed_on_once_and_what_was_before_is_not() -> None:
    stream, tap, heard = Stream(1, lambda event: None), Tap(), bytearray()
    tap.begin(stream)
    stream.write(block(0.1))
    tap.flow(stream)
    with tap.open(heard.extend):
        for level in (0.2, 0.3):
            stream.write(block(level))
            tap.flow(stream)
        tap.flow(stream)
    stream.write(block(0.4))
    tap.flow(stream)
    assert bytes(heard) == s16(np.concatenate([block(0.2), block(0.3)]))


def test_what_the_ring_holds_in_a_gap_is_older_and_is_not_given_out() -> None:
    stream, tap, heard = Stream(1, lambda event: None, ring_seconds=4), Tap(), bytearray()
    tap.begin(stream)
    for _ in range(stream.ring.capacity // 480 + 1):  # said before, and still there
        stream.write(block(0.5))
    tap.flow(stream)
    with tap.open(heard.extend):
        end = stream.written + 9600
        tap.skip(end)
        stream.wrote(stream.ring.write(end, block(0.1)), 0.0)
        tap.flow(stream)
    assert bytes(heard) == s16(block(0.1))


def test_another_stream_begins_anew_and_a_backlog_is_cut() -> None:
    tap, heard = Tap(), bytearray()
    long, other = Stream(1, lambda event: None), Stream(2, lambda event: None)
    with tap.open(heard.extend):
        tap.begin(long)
        long.write(block(0.2, MOST + 480))
        tap.flow(long)
        assert len(heard) == 2 * MOST
        heard.clear()
        tap.begin(other)
        other.write(block(0.3))
        tap.flow(other)
    assert bytes(heard) == s16(block(0.3))
