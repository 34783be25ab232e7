"""Figures of many values: percentiles, means, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edged.bench.result import Series, Statistic

Spread = dict[str, float | None]
FEWEST = {"p50": 2, "p95": 20, "p99": 100, "p99/p50": 100}
"""Values from which a percentile says something of the next run: one of them lies beyond it"""


def percentile(values: Sequence[float], percent: float) -> float | None:
    """None for no values at all."""
    return round(float(np.percentile(values, percent)), 4) if values else None


def spread(values: Sequence[float]) -> Spread:
    """How many there are, three percentiles and the largest."""
    percentiles = {f"p{p}": percentile(values, p) for p in (50, 95, 99)}
    return {"count": len(values), **percentiles, "max": percentile(values, 100)}


def statistic(series: Series, name: Statistic) -> float | None:
    """A figure of a series; None for one without values."""
    if not series.observations:
        return None
    counts = np.ones((1, len(series.observations)))
    return float(statistics(series, name, counts)[0])


def statistics(series: Series, name: Statistic, counts: np.ndarray) -> np.ndarray:
    """The figure of each row, in which the series' values are there so many times.

    A percentile is the smallest value that so many percent do not exceed.
    """
    values = np.array([one.value for one in series.observations])
    if name == "mean":
        weights = np.array([one.weight for one in series.observations])
        return quotient(counts @ values, counts @ weights, nothing=0.0)
    if name == "p99/p50":
        return quotient(_percentiles(values, counts, 99), _percentiles(values, counts, 50))
    return _percentiles(values, counts, int(name.removeprefix("p")))


def _percentiles(values: np.ndarray, counts: np.ndarray, percent: int) -> np.ndarray:
    order = values.argsort()
    below = counts[:, order].cumsum(axis=1)
    place = (below >= percent / 100 * below[:, -1:]).argmax(axis=1)
    found: np.ndarray = values[order][place]
    return found


def quotient(above: np.ndarray, below: np.ndarray, nothing: float = 1.0) -> np.ndarray:
    """Of nothing over nothing it is `nothing`; something over nothing is infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        divided = above / below
    return np.where((above == 0) & (below == 0), nothing, divided)
