from __future__ import annotations

import numpy as np

from edged.models.quantize import BLOCK, block_quantize


def test_block_quantisation_is_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (70, 5)).astype(np.float32)
    values, scale, zero = block_quantize(weight)
    assert values.shape == (5, 3, BLOCK)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    restored = restored.reshape(5, -1)[:, :70].T
    assert np.abs(restored - weight).max() <= scale.max() / 2 + 1e-6


def test_constant_and_zero_blocks_survive() -> None:
    weight = np.zeros((BLOCK, 2), np.float32)
    weight[:, 1] = 3.0
    values, scale, zero = block_quantize(weight)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    assert np.allclose(restored[0], 0)
    assert np.allclose(restored[1], 3)
