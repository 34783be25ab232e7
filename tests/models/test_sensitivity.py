"""Which layers suffer, and in which ranges activations lie, on graphs whose answers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.models.calibration import METHODS, Ranges
from edged.models.quantize import activations, dynamic, layers, static
from edged.models.sensitivity import divergence, losses
from edged.models.trial import Trial

ROWS, WIDTH = 50, 16


@pytest.fixture
def model() -> Any:
    """y = x calm + (x spread) outlier: one of the second product's inputs is 10000 times as large
    as the others, which drown in its steps, and counts for nothing."""
    from onnx import TensorProto, helper, numpy_helper

    choice = np.random.default_rng(0)
    weights = {
        "calm": choice.normal(0, 1, (WIDTH, WIDTH)),
        "outlier": choice.normal(0, 1, (WIDTH, WIDTH)),
        "spread": np.ones(WIDTH),
    }
    weights["spread"][3] = 10000.0
    weights["outlier"][3] = 0.0
    nodes = [
        helper.make_node("MatMul", ["x", "calm"], ["a"]),
        helper.make_node("Mul", ["x", "spread"], ["wide"]),
        helper.make_node("MatMul", ["wide", "outlier"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", WIDTH])
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "outlier", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def feed() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).normal(0, 1, (ROWS, WIDTH)).astype(np.float32)}


def test_the_layer_with_the_outlier_loses_most(model: Any, feed: dict[str, np.ndarray]) -> None:
    assert layers(model) == {"calm": 4 * WIDTH**2, "outlier": 4 * WIDTH**2}
    found = dict(losses(model, [feed], dynamic))
    assert found["calm"] < 0.02
    assert found["outlier"] > 0.2


def test_ranges_that_are_known_give_the_same_products(
    model: Any, feed: dict[str, np.ndarray]
) -> None:
    (reference,) = Trial(model).run(feed, ["y"])
    assert activations(model) == ["x", "wide"]
    ranges = Ranges(model, activations(model), "minmax")
    ranges.show([feed])
    found = ranges.found()
    assert found["x"] == (pytest.approx(feed["x"].min()), pytest.approx(feed["x"].max()))
    (made,) = Trial(static(model, found, kept=["outlier"])).run(feed, ["y"])
    assert 0 < np.abs(made - reference).max() < 0.02 * np.abs(reference).max()
    kept = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert kept["outlier"] == 1  # float32


@pytest.mark.parametrize("method", METHODS)
def test_what_is_rare_is_left_out_of_a_range(
    model: Any, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = np.random.default_rng(2)
    ranges = Ranges(model, ["x"], method)
    for _ in range(3):
        samples = choice.normal(0, 1, (4000, WIDTH)).astype(np.float32)
        samples[0, 0] = 60.0
        ranges.show([{"x": samples}])
    low, high = ranges.found()["x"]
    assert -6.0 < low < -3.0
    assert high == 60.0 if method == "minmax" else 3.0 < high < 30.0
    assert not capsys.readouterr().out


def test_a_divergence_is_what_a_hand_computes() -> None:
    even, sure = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    expected = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert divergence(even, sure + 7.0) == pytest.approx(expected)
    assert divergence(even, even - 3.0) == pytest.approx(0.0)
