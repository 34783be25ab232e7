from __future__ import annotations

import pytest

from edged.engine.capacity import FIRST_SECONDS, SHARE, Capacity


def test_a_slower_rung_serves_fewer_streams() -> None:
    assert Capacity(0.04, 2).streams > Capacity(0.4, 2).streams


def test_a_second_lane_serves_as_many_again() -> None:
    assert Capacity(0.04, 2).streams == pytest.approx(2 * Capacity(0.04, 1).streams, abs=1)


def test_one_stream_is_always_served() -> None:
    assert Capacity(60.0, 1).streams == 1


def test_what_audio_costs_in_fact_counts_for_more_and_more() -> None:
    capacity = Capacity(0.04, 1)
    estimated = capacity.streams
    capacity.learn(work=10 * 0.1, audio=10)
    assert capacity.streams < estimated
    capacity.learn(work=10 * FIRST_SECONDS * 0.1, audio=10 * FIRST_SECONDS)
    assert capacity.streams == pytest.approx(SHARE / 0.1, abs=1)


def test_what_was_long_ago_is_forgotten() -> None:
    capacity = Capacity(0.04, 1)
    capacity.learn(work=3600 * 0.2, audio=3600)
    capacity.learn(work=3600 * 0.02, audio=3600)
    assert capacity.streams == pytest.approx(SHARE / 0.02, abs=2)
