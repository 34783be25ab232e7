"""Figures of many values: percentiles and spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Spread = dict[str, float | None]


def percentile(values: Sequence[float], percent: float) -> float | None:
    """None for no values at all."""
    return round(float(np.percentile(values, percent)), 4) if values else None


def spread(values: Sequence[float]) -> Spread:
    """How many there are, three percentiles and the largest."""
    percentiles = {f"p{p}": percentile(values, p) for p in (50, 95, 99)}
    return {"count": len(values), **percentiles, "max": percentile(values, 100)}
