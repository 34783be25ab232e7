"""How two results differ, and how sure that is.

For each figure the ratio of the second side to the first, with a 95 % confidence interval by the
percentile bootstrap: what was measured is drawn again, with replacement, so many times; the
interval holds the middle 95 % of the ratios.

What is drawn are recordings and rounds, not single values, and both at once (crossed): values of
one recording resemble each other, and so do those of one round, when the machine had other work.
Where both sides heard the same recordings, or have as many rounds, the same ones are drawn on both
(paired), so that what is peculiar to them falls out of the ratio. One less is drawn than there are,
and Student's t of as many as there are least of widens the interval, or few would seem surer than
they are. Where values merely scatter, it is rather too wide than too narrow.

With one round a side, what the machine did otherwise during one of them cannot be told from a
difference, and with few hardly. One of twenty figures seems to differ by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Literal

import msgspec
import numpy as np

from edged.bench import figures
from edged.bench.result import Observation, Result, Series, Statistic

DRAWS = 2000
CONFIDENCE = 0.95
SEED = 20
FEWEST_UNITS = 5
"""Recordings or rounds to draw from: of fewer, 95 % lie beyond all that can be drawn"""

Verdict = Literal[
    "faster", "slower", "better", "worse", "no difference seen", "too few values to tell"
]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Of one figure."""

    name: str
    statistic: Statistic
    unit: str
    before: float
    after: float
    ratio: float
    """Of `after` to `before`; null where only `after` is more than nothing"""
    low: float | None = None
    """Of the confidence interval"""
    high: float | None = None
    paired: bool = False
    """Whether both sides heard the same recordings"""
    verdict: Verdict


def compare(before: Sequence[Result], after: Sequence[Result]) -> list[Difference]:
    """Every figure that both sides have. Several results of a side are its rounds."""
    first, second = _merged(before), _merged(after)
    return [
        _difference(first[name], second[name], statistic)
        for name in first
        if name in second
        for statistic in first[name].statistics
    ]


def _merged(results: Sequence[Result]) -> dict[str, Series]:
    """The series of all results; the rounds go on from one to the next."""
    merged: dict[str, Series] = {}
    for number, result in enumerate(results):
        first = sum(earlier.rounds for earlier in results[:number])
        for series in result.series:
            known = merged.setdefault(series.name, msgspec.structs.replace(series, observations=[]))
            known.observations.extend(
                msgspec.structs.replace(one, round=first + one.round) for one in series.observations
            )
    return merged


def _difference(before: Series, after: Series, statistic: Statistic) -> Difference:
    sides = (before, after)
    values = [figures.statistic(series, statistic) or 0.0 for series in sides]
    ratio = float(figures.quotient(np.array(values[1]), np.array(values[0])))
    paired = _names(before) == _names(after)
    low, high = _interval(before, after, statistic)
    return Difference(
        name=before.name,
        statistic=statistic,
        unit=before.unit,
        before=values[0],
        after=values[1],
        ratio=ratio,
        low=low,
        high=high,
        paired=paired,
        verdict=_verdict(after, low, high),
    )


def _verdict(series: Series, low: float | None, high: float | None) -> Verdict:
    if low is None or high is None:
        return "too few values to tell"
    if low <= 1 <= high:
        return "no difference seen"
    is_good = (high < 1) == (series.better == "lower")
    if series.unit.startswith("s") and series.better == "lower":
        return "faster" if is_good else "slower"
    return "better" if is_good else "worse"


def _names(series: Series) -> set[str]:
    return {one.of for one in series.observations}


def _interval(
    before: Series, after: Series, statistic: Statistic
) -> tuple[float, float] | tuple[None, None]:
    """The middle 95 % of the ratios that are drawn; None where there is too little to draw from."""
    sides = [before.observations, after.observations]
    fewest = figures.FEWEST.get(statistic, 2)
    if min(map(len, sides)) < fewest or min(map(_most_units, sides)) < FEWEST_UNITS:
        return None, None
    drawn = _drawn(sides)
    there = drawn[0].any(axis=1) & drawn[1].any(axis=1)
    first = figures.statistics(before, statistic, drawn[0][there])
    second = figures.statistics(after, statistic, drawn[1][there])
    ratios = figures.quotient(second, first)
    tail = 100 * _tail(min(map(_units, sides)))
    low, high = np.percentile(ratios, [tail, 100 - tail], method="inverted_cdf")
    return float(low), float(high)


def _most_units(side: Sequence[Observation]) -> int:
    """Recordings or rounds, whatever there is more of."""
    return max(len({one.of for one in side}), len({one.round for one in side}))


def _units(side: Sequence[Observation]) -> int:
    """Recordings or rounds, whatever there is less of, but one; 1 where there is one of each."""
    counts = [len({one.of for one in side}), len({one.round for one in side})]
    return min((count for count in counts if count > 1), default=1)


def _tail(units: int) -> float:
    """The share of the draws beyond each end: Student's t of so few in place of the normal."""
    normal = NormalDist()
    z, freedom = normal.inv_cdf((1 + CONFIDENCE) / 2), units - 1
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return normal.cdf(-t)


def _drawn(sides: Sequence[Sequence[Observation]]) -> list[np.ndarray]:
    """How often each observation of a side is drawn, a row for each draw."""
    generator = np.random.default_rng(SEED)
    recordings = _multiplicities([[one.of for one in side] for side in sides], generator)
    rounds = _multiplicities([[one.round for one in side] for side in sides], generator)
    return [of * when for of, when in zip(recordings, rounds, strict=True)]


def _multiplicities(
    sides: Sequence[Sequence[Any]], generator: np.random.Generator
) -> list[np.ndarray]:
    """By draw and observation, how often its recording or round was drawn: the same ones on sides
    that have the same."""
    known: dict[tuple[Any, ...], np.ndarray] = {}
    found = []
    for side in sides:
        names = tuple(sorted(set(side)))
        if names not in known:
            known[names] = _draw(len(names), generator)
        found.append(known[names][:, [names.index(name) for name in side]])
    return found


def _draw(count: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of so many is drawn; one alone always is."""
    if count == 1:
        return np.ones((DRAWS, 1), int)
    return generator.multinomial(count - 1, np.full(count, 1 / count), size=DRAWS)
