"""Read Moonshine's weights, as float32, out of the ORT files that its wheels ship.

The two wheels carry differently prepared graphs: tiny-en has ONNX Runtime's fused operators baked
in, base-en holds int8 weights behind `Cast -> Mul -> Add`. Both name their nodes by the module they
came from, so a walk over the nodes gives every weight its name. Dequantisation is exact, so the
result is "the float of the shipped int8 weights".

Imports onnxruntime and onnx: build time only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edged.errors import ModelError

Weights = dict[str, np.ndarray]
"""Weights by name, e.g. `encoder.layers.0.self_attn.q_proj.weight`; matrices are [in, out]."""

_NORM = re.compile(
    r"(?:model\.decoder\.)?"
    r"(?P<name>.*?(?:layernorm|layer_norm|norm|fc1|fc2|up_proj|down_proj)\.(?:weight|bias))"
    r"(?:_merged_0)?"
)
_FOLDED = ("Cast", "Mul", "Add", "Transpose")


def read_weights(encoder: Path, decoder: Path) -> Weights:
    """Read all weights of a model from its `encoder_model.ort` and `decoder_model_merged.ort`.

    Raises ModelError, naming the file, when one is not what it should be.
    """
    weights: Weights = {}
    for part, path in (("encoder", encoder), ("decoder", decoder)):
        try:
            model = _load_ort(path)
        except Exception as error:
            raise ModelError(f"{path} is not a Moonshine model: {error}", path=path) from error
        weights.update(_Reader(part, model).read())
    return weights


def _load_ort(path: Path) -> Any:
    """Convert an ORT-format file to an onnx.ModelProto, unoptimised."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/model.onnx"
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def _graphs(graph: Any) -> Iterator[Any]:
    """The graph and the graphs nested in its `If` nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


class _Reader:
    """Finds the weights of one part (`encoder` or `decoder`) of a model."""

    def __init__(self, part: str, model: Any) -> None:
        from onnx import numpy_helper

        self.part = part
        self._to_array = numpy_helper.to_array
        graphs = list(_graphs(model.graph))
        self._initializers = {t.name: t for graph in graphs for t in graph.initializer}
        self._nodes = [node for graph in graphs for node in graph.node]
        self._producers = {name: node for node in self._nodes for name in node.output}
        self._constants: dict[str, np.ndarray | None] = {}
        self.weights: Weights = {}

    def read(self) -> Weights:
        for node in self._nodes:
            self._read_node(node)
        self._read_vectors()
        return self.weights

    def _value(self, name: str) -> np.ndarray | None:
        """The constant behind `name`, folded through casts and scales; None if it is computed."""
        if name not in self._constants:
            self._constants[name] = self._fold(name)
        return self._constants[name]

    def _constant(self, name: str) -> np.ndarray:
        value = self._value(name)
        if value is None:
            raise ValueError(f"{name} is no constant")
        return value

    def _fold(self, name: str) -> np.ndarray | None:
        if name in self._initializers:
            return np.asarray(self._to_array(self._initializers[name]))
        node = self._producers.get(name)
        if node is None or node.op_type not in _FOLDED:
            return None
        values = [self._value(source) for source in node.input]
        known = [value for value in values if value is not None]
        if len(known) != len(values):
            return None
        if node.op_type == "Cast":
            return known[0].astype(np.float32)
        if node.op_type == "Transpose":
            return known[0].T
        folded = known[0] * known[1] if node.op_type == "Mul" else known[0] + known[1]
        return np.asarray(folded)

    def _name(self, output: str) -> str:
        """The module that a node's output name speaks of."""
        if output == "logits":
            return "decoder.proj_out"
        name = re.sub(r"^/model/decoder/|^/", "", output)
        name = re.sub(r"/(MatMul|Add)_output_0.*$", "", name)
        return f"{self.part}.{name.replace('/dense', '/o_proj').replace('/', '.')}"

    def _read_node(self, node: Any) -> None:
        reader = {
            "Conv": self._read_convolution,
            "FusedConv": self._read_convolution,
            "MatMulIntegerToFloat": self._read_integer_matmul,
            "DynamicQuantizeMatMul": self._read_quantized_matmul,
            "MatMul": self._read_matmul,
            "DequantizeLinear": self._read_quantized_embedding,
            "Gather": self._read_embedding,
            "Add": self._read_bias,
            "Mul": self._read_group_norm,
        }.get(node.op_type)
        if reader:
            reader(node)

    def _read_convolution(self, node: Any) -> None:
        match = re.search(r"conv\d", node.input[1])
        if not match:
            raise ValueError(f"unknown convolution {node.name}")
        self.weights[f"{self.part}.{match.group()}.weight"] = self._constant(node.input[1])
        if len(node.input) > 2 and node.input[2]:
            self.weights[f"{self.part}.{match.group()}.bias"] = self._constant(node.input[2])

    def _read_integer_matmul(self, node: Any) -> None:
        weight, scale, zero = (self._constant(node.input[i]) for i in (1, 3, 5))
        self._keep_matrix(node, weight, scale, zero, bias_input=6)

    def _read_quantized_matmul(self, node: Any) -> None:
        weight, scale, zero = (self._constant(node.input[i]) for i in (1, 2, 3))
        self._keep_matrix(node, weight, scale, zero, bias_input=4)

    def _keep_matrix(
        self, node: Any, weight: np.ndarray, scale: np.ndarray, zero: np.ndarray, bias_input: int
    ) -> None:
        name = self._name(node.output[0])
        self.weights[f"{name}.weight"] = (weight.astype(np.float32) - float(zero)) * scale
        if len(node.input) > bias_input and node.input[bias_input]:
            self.weights[f"{name}.bias"] = self._constant(node.input[bias_input])

    def _read_matmul(self, node: Any) -> None:
        weight = self._value(node.input[1])
        if weight is not None and weight.ndim == 2:
            self.weights[f"{self._name(node.output[0])}.weight"] = weight

    def _read_quantized_embedding(self, node: Any) -> None:
        if "embed_tokens" not in node.input[1]:
            return
        table = next(
            tensor
            for name, tensor in self._initializers.items()
            if "embed_tokens.weight" in name and "quantized" in name
        )
        zero = float(self._constant(node.input[2]))
        scale = self._constant(node.input[1])
        table_values = self._to_array(table).astype(np.float32)
        self.weights["decoder.embed_tokens.weight"] = (table_values - zero) * scale

    def _read_embedding(self, node: Any) -> None:
        if "embed_tokens" not in node.input[0]:
            return
        table = self._value(node.input[0])
        if table is not None and table.ndim == 2 and table.dtype == np.float32:
            self.weights["decoder.embed_tokens.weight"] = table

    def _read_bias(self, node: Any) -> None:
        if node.output[0].startswith("/groupnorm/"):
            self._read_group_norm(node)
        if not re.search(r"/(fc1|fc2|up_proj|down_proj)/Add_output_0", node.output[0]):
            return
        for source in node.input:
            value = self._value(source)
            if value is not None and value.ndim == 1:
                self.weights[f"{self._name(node.output[0])}.bias"] = value

    def _read_group_norm(self, node: Any) -> None:
        if not node.output[0].startswith("/groupnorm/"):
            return
        kind = "weight" if node.op_type == "Mul" else "bias"
        for source in node.input:
            value = self._value(source)
            if value is not None:
                self.weights[f"encoder.groupnorm.{kind}"] = value.reshape(-1)

    def _read_vectors(self) -> None:
        """Norms and biases that the graph keeps under their own names, and RoPE's frequencies."""
        for name in self._initializers:
            value = self._constant(name)
            match = _NORM.fullmatch(name)
            if match and value.ndim == 1:
                self.weights[f"{self.part}.{match['name']}"] = value
            if value.dtype == np.float32 and value.shape == (1, 16, 1):
                self.weights[f"{self.part}.inv_freq"] = value.reshape(-1)
