"""Intervals cover what they should; what is the same is not called different."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from edged.bench import figures
from edged.bench.compare import Difference, compare
from edged.bench.result import Observation, Result, Series, Statistic

RECORDINGS = 16
SCATTER = 0.1
"""Of a value from one hearing of a recording to the next"""
DRIFT = 0.05
"""Of a whole round, as other programs come and go"""
TRIALS = 100


def result(values: np.ndarray, statistics: Sequence[Statistic] = ("mean",)) -> Result:
    """Seconds by round and recording."""
    observations = [
        Observation(f"recording {column}", float(value), 1.0, row)
        for (row, column), value in np.ndenumerate(values)
    ]
    return of([Series(name="x", unit="s", statistics=tuple(statistics), observations=observations)])


def of(series: list[Series]) -> Result:
    rounds = max((one.round for each in series for one in each.observations), default=0) + 1
    return Result(time=0.0, environment={}, rounds=rounds, series=series)


def simulated(
    rounds: int, ratio: float, drift: float, recordings: int = RECORDINGS
) -> Iterator[Difference]:
    """What a comparison says of two sides of which the truth is known."""
    generator = np.random.default_rng(5)
    for _ in range(TRIALS):
        length = generator.lognormal(0, 0.4, recordings)
        sides = [
            length
            * np.exp(generator.normal(0, SCATTER, (rounds, recordings)))
            * np.exp(generator.normal(0, drift, (rounds, 1)))
            for _ in range(2)
        ]
        yield from compare([result(sides[0])], [result(ratio * sides[1])])


@pytest.mark.parametrize(("rounds", "drift"), [(1, 0.0), (5, DRIFT)])
def test_an_interval_covers_the_true_ratio(rounds: int, drift: float) -> None:
    found = [(d.low, d.high) for d in simulated(rounds, 0.9, drift)]
    covered = sum(low <= 0.9 <= high for low, high in found if low and high)
    assert covered >= 0.92 * TRIALS


def test_an_interval_covers_it_with_few_recordings() -> None:
    found = [(d.low, d.high) for d in simulated(1, 0.9, 0.0, recordings=6)]
    assert sum(low <= 0.9 <= high for low, high in found if low and high) >= 0.9 * TRIALS


@pytest.mark.parametrize(("rounds", "drift"), [(1, 0.0), (5, DRIFT)])
def test_two_runs_of_the_same_do_not_differ(rounds: int, drift: float) -> None:
    verdicts = [d.verdict for d in simulated(rounds, 1.0, drift)]
    assert verdicts.count("no difference seen") >= 0.92 * TRIALS


def test_what_is_a_fifth_faster_is_called_faster() -> None:
    assert [d.verdict for d in simulated(1, 0.8, 0.0)].count("faster") >= 0.95 * TRIALS
    assert [d.verdict for d in simulated(5, 1.25, DRIFT)].count("slower") >= 0.95 * TRIALS


def test_more_is_better_where_more_is_better() -> None:
    def carried(count: float) -> Result:
        seen = [Observation("", count + number % 2, 1.0, number) for number in range(6)]
        return of([Series(name="y", unit="streams", better="higher", observations=seen)])

    assert compare([carried(8)], [carried(16)])[0].verdict == "better"
    assert compare([carried(16)], [carried(8)])[0].verdict == "worse"


def test_other_recordings_are_compared_unpaired() -> None:
    generator = np.random.default_rng(5)
    values = generator.lognormal(0, 0.4, (1, RECORDINGS))
    first, second = result(values), result(values * 0.8)
    paired = compare([first], [second])[0]
    renamed = [Observation(f"another {o.of}", o.value) for o in second.series[0].observations]
    unpaired = compare([first], [of([Series(name="x", unit="s", observations=renamed)])])[0]
    assert paired.paired
    assert not unpaired.paired
    assert paired.ratio == unpaired.ratio
    assert paired.verdict == "faster"
    assert unpaired.verdict == "no difference seen"


def test_several_results_of_a_side_are_its_rounds() -> None:
    generator = np.random.default_rng(5)
    rounds = [generator.lognormal(0, 0.1, (1, RECORDINGS)) for _ in range(10)]
    apart = compare([result(r) for r in rounds[::2]], [result(r) for r in rounds[1::2]])
    together = compare(
        [result(np.concatenate(rounds[::2]))], [result(np.concatenate(rounds[1::2]))]
    )
    assert apart == together


def test_one_value_tells_nothing() -> None:
    [difference] = compare([result(np.array([[1.0]]))], [result(np.array([[2.0]]))])
    assert difference.ratio == 2.0
    assert difference.low is None
    assert difference.verdict == "too few values to tell"


def test_a_tail_needs_many_values() -> None:
    values = np.random.default_rng(5).lognormal(0, 0.1, (1, RECORDINGS))
    sides = [[result(values * factor, ("p50", "p99"))] for factor in (1.0, 0.5)]
    assert [d.verdict for d in compare(*sides)] == ["faster", "too few values to tell"]


def test_nothing_on_both_sides_is_no_difference() -> None:
    nothing = result(np.zeros((1, RECORDINGS)))
    [difference] = compare([nothing], [nothing])
    assert (difference.ratio, difference.verdict) == (1.0, "no difference seen")


def test_only_what_both_have_is_compared() -> None:
    other = of([Series(name="z", unit="s", observations=[Observation("", 1.0)])])
    assert compare([other], [result(np.ones((1, 2)))]) == []


@pytest.mark.parametrize("percent", [50, 95, 99])
def test_a_percentile_counts_what_was_drawn(percent: int) -> None:
    generator = np.random.default_rng(5)
    values = generator.lognormal(0, 1, 30)
    counts = generator.integers(0, 4, (3, len(values)))
    series = Series(name="x", unit="s", observations=[Observation("", v) for v in values])
    name: Statistic = {50: "p50", 95: "p95", 99: "p99"}[percent]  # type: ignore[assignment]
    found = figures.statistics(series, name, counts)
    for row, value in zip(counts, found, strict=True):
        repeated = list(itertools.chain(*([v] * n for v, n in zip(values, row, strict=True))))
        assert value == np.percentile(repeated, percent, method="inverted_cdf")
