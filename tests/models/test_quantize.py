from __future__ import annotations

import numpy as np
import pytest

from edged.models.grid import quantized
from edged.models.quantize import weights_only
from edged.models.rounding import BLOCK, block_quantize


def test_block_quantisation_is_within_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (70, 5)).astype(np.float32)
    values, scale, zero = block_quantize(weight)
    assert values.shape == (5, 3, BLOCK)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    restored = restored.reshape(5, -1)[:, :70].T
    assert np.abs(restored - weight).max() <= scale.max() / 2 + 1e-6


def test_weights_alone_are_within_half_a_step() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(0, 1, (70, 5)).astype(np.float32)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 70])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    constants = [numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph([product], "product", [x], [y], constants)
    model = weights_only(helper.make_model(graph))
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "MatMul"]
    values, scale = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    assert values.dtype == np.int8
    assert np.abs(values * scale - weight).max() <= scale.max() / 2 + 1e-6


def test_constant_and_zero_blocks_survive() -> None:
    weight = np.zeros((BLOCK, 2), np.float32)
    weight[:, 1] = 3.0
    values, scale, zero = block_quantize(weight)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    assert np.allclose(restored[0], 0)
    assert np.allclose(restored[1], 3)


@pytest.mark.parametrize("lowest", [-127, -90, -20])
def test_weights_of_8_bits_keep_their_grid_in_blocks(lowest: int) -> None:
    """They lie around any zero point; every block reaches its own largest and least."""
    numbers = np.random.default_rng(0).integers(lowest, lowest + 255, (70, 5))
    weight = (numbers * np.float32(0.0123)).astype(np.float32)
    values, scale, zero = block_quantize(weight)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    assert np.abs(restored.reshape(5, -1)[:, :70].T - weight).max() < 1e-5


def test_rows_of_8_bits_keep_their_grid_and_others_get_one() -> None:
    choice = np.random.default_rng(0)
    grid = choice.integers(-100, 101, (4, 200)) * np.float32(0.5)
    values, scale = quantized(grid.astype(np.float32))
    assert (values * scale[:, None] == grid).all()
    rows = choice.normal(0, 1, (4, 200)).astype(np.float32)
    values, scale = quantized(rows)
    assert (np.abs(values).max(axis=1) == 127).all()
    assert np.abs(values * scale[:, None] - rows).max() <= scale.max() / 2 + 1e-6


def _restored(weight: np.ndarray, moment: np.ndarray | None) -> np.ndarray:
    values, scale, zero = block_quantize(weight, 4, moment)
    restored = (values.astype(np.float32) - zero[..., None]) * scale[..., None]
    return np.asarray(restored.reshape(len(values), -1)[:, : len(weight)].T)


def test_products_of_4_bits_lose_less_where_it_is_known_what_they_are_given() -> None:
    """With inputs that go together, seen or not."""
    choice = np.random.default_rng(0)
    weight = choice.normal(0, 1, (70, 8)).astype(np.float32)
    mix = choice.normal(0, 1, (10, 70))
    seen, other = (
        (choice.normal(0, 1, (400, 10)) @ mix + choice.normal(0, 0.3, (400, 70))) for _ in range(2)
    )
    rounded = _restored(weight, None)
    chosen = _restored(weight, seen.T @ seen / len(seen))
    for rows in (seen, other):
        lost = np.linalg.norm(rows @ (chosen - weight)) / np.linalg.norm(rows @ (rounded - weight))
        assert lost < 0.7


def test_inputs_that_have_nothing_in_common_are_rounded_to_the_nearest() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (64, 8)).astype(np.float32)
    assert np.allclose(_restored(weight, np.eye(64)), _restored(weight, None), rtol=1e-5)
