"""How long texts took of late."""

from __future__ import annotations

import pytest

from edged.latencies import MOST, Latencies, percentile


def test_latencies_are_told_apart_by_stage_and_time() -> None:
    latencies = Latencies()
    for second in range(60):
        latencies.add("total", 0.1 if second < 30 else 0.4, clock=1000.5 + second)
    latencies.add("decode", 7.0, clock=1010.0)
    early, late = latencies.of("total", now=1060.0, seconds=60, parts=2)
    assert (early.age, early.count, early.p50, early.p99) == (45, 30, 0.1, 0.1)
    assert (late.age, late.count, late.p50, late.p99) == (15, 30, 0.4, 0.4)
    assert latencies.of("endpoint", 1060.0, 60, 2) == []


def test_what_is_older_is_left_out() -> None:
    latencies = Latencies()
    latencies.add("total", 0.1, clock=1000.0)
    assert latencies.of("total", now=1011.0, seconds=10, parts=5) == []
    [span] = latencies.of("total", now=1009.0, seconds=10, parts=5)
    assert span.age == 9


def test_only_so_many_are_remembered() -> None:
    latencies = Latencies()
    for number in range(MOST + 5):
        latencies.add("total", 0.1, clock=float(number))
    [span] = latencies.of("total", now=MOST + 5.0, seconds=1e9, parts=1)
    assert span.count == MOST


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [
        ([3.0], 3, 3),
        ([1.0, 2.0], 1, 2),
        (list(range(1, 101)), 50, 99),
        (list(range(1, 1001)), 500, 990),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], p50: float, p99: float) -> None:
    assert (percentile(values, 50), percentile(values, 99)) == (p50, p99)
