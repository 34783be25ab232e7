from __future__ import annotations

import numpy as np

from edged.models.alignment import token_frames, warp


def test_the_warp_follows_the_cheap_diagonal() -> None:
    cost = np.ones((3, 9))
    for token in range(3):
        cost[token, token * 3 : token * 3 + 3] = -1
    rows, columns = warp(cost)
    assert rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert columns.tolist() == list(range(9))


def test_tokens_begin_where_attention_moves_on() -> None:
    attention = np.full((4, 3, 60), 1e-4, np.float32)
    for token in range(3):
        attention[:, token, token * 20 : token * 20 + 20] = 0.05
    boundaries = token_frames([attention, attention])
    assert np.abs(boundaries - np.array([0, 20, 40])).max() <= 2
