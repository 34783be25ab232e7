"""Token times from cross-attention: which frames a token looked at when it was chosen.

The method of Whisper's word timestamps (openai/whisper, timing.py): average the normalised
attention, smooth it along time with a median filter, and find the monotonic path through it by
dynamic time warping.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MEDIAN_WIDTH = 7
"""Frames the median filter looks at"""


def token_frames(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Where each token begins, in frames, from attention of [heads, 1 + tokens, frames] a layer.

    Row i of the attention is the look of the choice of token i. Returns tokens + 1 boundaries.
    """
    attention = np.concatenate([np.asarray(layer, np.float32) for layer in layers])
    spread = attention.std(axis=-2, keepdims=True)
    normal = (attention - attention.mean(axis=-2, keepdims=True)) / np.maximum(spread, 1e-6)
    cost = -_median(normal).mean(axis=0)
    rows, frames = warp(cost)
    jumps = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.asarray(frames[jumps])


def _median(values: np.ndarray) -> np.ndarray:
    """Median over MEDIAN_WIDTH frames, edges reflected."""
    half = MEDIAN_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(half, half)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, MEDIAN_WIDTH, axis=-1)
    return np.asarray(np.median(windows, axis=-1))


def warp(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest monotonic path through cost [rows, columns]: its row and column indices."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    came = np.zeros((rows + 1, columns + 1), np.int8)
    for j in range(1, columns + 1):
        for i in range(1, rows + 1):
            choices = (total[i - 1, j - 1], total[i - 1, j], total[i, j - 1])
            best = min(range(3), key=choices.__getitem__)
            total[i, j] = cost[i - 1, j - 1] + choices[best]
            came[i, j] = best
    return _trace(came)


def _trace(came: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, j = came.shape[0] - 1, came.shape[1] - 1
    path = []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        step = came[i, j]
        i -= step != 2
        j -= step != 1
    ordered = np.array(path[::-1])
    return ordered[:, 0], ordered[:, 1]
