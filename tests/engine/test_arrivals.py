from __future__ import annotations

import pytest

from edged.engine.arrivals import MOST, Arrivals

RATE = 16000


def test_a_sample_came_with_its_block_as_long_before_as_it_lies_before_its_end() -> None:
    arrivals = Arrivals()
    arrivals.add(320, 10.0)
    arrivals.add(640, 10.05)
    assert arrivals.clock_of(320) == 10.0
    assert arrivals.clock_of(321) == pytest.approx(10.05 - 319 / RATE)
    assert arrivals.clock_of(640) == 10.05
    assert arrivals.clock_of(641) is None


def test_only_so_many_blocks_are_remembered() -> None:
    arrivals = Arrivals()
    for block in range(10 * MOST):
        arrivals.add((block + 1) * 320, block * 0.02)
    assert len(arrivals._ends) == len(arrivals._clocks) <= 2 * MOST
    for block in (10 * MOST - 1, 9 * MOST):
        assert arrivals.clock_of((block + 1) * 320) == pytest.approx(block * 0.02)
    assert arrivals.clock_of(320) == pytest.approx(0.0)
