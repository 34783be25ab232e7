"""What a model is made of: against graphs counted by hand, and the default model's own sizes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models.anatomy import graphs
from edged.models.inventory import store
from edged.models.store import Model, read_model
from edged.models.tokenizer import Tokenizer
from tests.conftest import TINY


def made(folder: Path, *files: str) -> Model:
    """A model that is nothing but these files."""
    sizes = {name: {"bytes": (folder / name).stat().st_size, "sha256": ""} for name in files}
    return Model(folder, "made", "none", "en", "", 16000, "", "", {}, {}, None, sizes, {})


@pytest.fixture
def small(tmp_path: Path) -> Model:
    """x [1, samples] -> convolution (5 channels, 3 taps, stride 2) -> product 5 x 7."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "kernel": np.ones((5, 1, 3), np.float32),
        "weight": np.ones((5, 7), np.float32),
        "shape": np.array([1, 1, -1], np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["wide"]),
        helper.make_node("Conv", ["wide", "kernel"], ["columns"], strides=[2]),
        helper.make_node("Transpose", ["columns"], ["rows"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["rows", "weight"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "samples"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "columns", 7])
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], tensors)
    opset = [helper.make_opsetid("", 17)]
    (tmp_path / "fp32").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=opset), tmp_path / "fp32/encoder.onnx")
    return made(tmp_path, "fp32/encoder.onnx")


def test_a_small_graph_costs_what_a_hand_counts(small: Model) -> None:
    (report,) = graphs(small, "fp32", {".onnx"}, seconds=0.5)
    columns = (8000 - 3) // 2 + 1
    assert report.sizes == {"samples": 8000}
    assert report.operators == {"Reshape": 1, "Conv": 1, "Transpose": 1, "MatMul": 1}
    assert report.fused == {}
    assert report.parameters == 5 * 3 + 5 * 7
    assert report.weights == {"float32": 4 * (5 * 3 + 5 * 7)}
    assert report.multiplications == columns * 5 * 3 + columns * 7 * 5
    assert report.operations == 2 * report.multiplications
    assert report.intensity == report.operations / report.weights["float32"]


def test_a_graph_that_cannot_be_run_says_why(small: Model) -> None:
    import onnx

    path = small.path("fp32/encoder.onnx")
    graph = onnx.load(path)
    graph.graph.node[1].domain = "nowhere"
    graph.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    onnx.save(graph, path)
    (report,) = graphs(small, "fp32", {".onnx"}, seconds=1.0)
    assert report.fused == {"Conv": 1}
    assert report.parameters == 50
    assert report.multiplications is None
    assert report.reason
    assert "nowhere" in report.reason


def test_a_tflite_graph_costs_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from edged.models.flatgraph import FlatGraph

    graph = FlatGraph("fp32")
    x = graph.input("x", 9, 5)
    y = graph.linear(x, np.eye(5, 7, dtype=np.float32))
    graph.output("y", graph.matmul(y, graph.constant(np.ones((7, 2), np.float32))))
    graph.save(tmp_path / "fp32/encoder.tflite")
    (report,) = graphs(made(tmp_path, "fp32/encoder.tflite"), "fp32", {".tflite"}, 1.0)
    assert report.operators == {"FULLY_CONNECTED": 1, "BATCH_MATMUL": 1}
    assert report.parameters == 5 * 7 + 7 * 2
    assert report.multiplications == 9 * 7 * 5 + 9 * 2 * 7
    assert report.sizes == {}


def test_the_decoder_multiplies_with_its_weights_and_what_it_heard(static_cache: Path) -> None:
    model = read_model(static_cache / "models" / TINY)
    encoder, decoder = graphs(model, "fp32", {".onnx"}, seconds=1.0)
    assert model.work
    width, layers = 288, 6
    tokens, frames = decoder.sizes["past"] + 1, decoder.sizes["frames"]
    attention = layers * 2 * width * (tokens + frames)
    weights = model.work["bytes"]["fp32"]["decoder"] // 4
    assert decoder.multiplications == weights + attention
    tokens = len(Tokenizer(model.path("tokenizer.bin")))
    assert decoder.parameters > weights + tokens * width  # and what is looked up
    weights = model.work["bytes"]["fp32"]["encoder"] // 4
    assert weights < encoder.parameters < 1.02 * weights  # norms, biases and rotary tables
    assert encoder.multiplications
    assert encoder.multiplications > weights * frames
    whole = model.files["fp32/encoder.weights"]["bytes"] + model.files["fp32/encoder.onnx"]["bytes"]
    assert encoder.bytes == whole


def test_what_is_not_built_is_named() -> None:
    with pytest.raises(ModelError, match=f"{TINY} has nothing in bf12 as .onnx; it is built in"):
        graphs(store().get(TINY), "bf12", {".onnx"}, 1.0)


def test_the_command_shows_what_is_fused_and_where_it_runs() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "edged",
            "models",
            "inspect",
            TINY,
            "--json",
            "--provider=onnxruntime",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    graph = {g["file"]: g for g in found["graphs"]}
    assert graph["int8/decoder.onnx"]["fused"] == {"MatMulNBits": 37}
    assert graph["int8/encoder.onnx"]["fused"] == {}
    assert graph["int8/encoder.onnx"]["optimized"]["DynamicQuantizeMatMul"] > 20
    here = {(p["provider"], p["file"]): p for p in found["placements"] if p["device"] == "cpu"}
    placed = here["onnxruntime", "int8/encoder.onnx"]["operators"]
    operators = sum(graph["int8/encoder.onnx"]["operators"].values())
    assert math.isclose(placed["cpu"], operators, rel_tol=0.1)
