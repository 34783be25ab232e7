"""Lower-precision versions of float32 graphs.

Graphs suffer differently, so there are several schemes. tiny-en with its encoder `dynamic` and its
decoder `in_blocks` of 8 bits reaches 3.5 % of words against float32 (129 clips, half of them
noisy), as the shipped files do; one scale for a whole weight doubles that, and 4-bit weights that
are merely rounded reach 8.8 %.

- `halve`: every tensor but the audio, its gain and the log-probabilities.
- `dynamic`, for products of many rows: int8 with one scale for each of a weight's outputs; the
  rows share a scale, which is taken anew in every run.
- `static`: the same with the rows' scale written into the graph, from recordings (`calibrate.py`).
- `weights_only`: the weights alone in int8 (`DequantizeLinear`), for runtimes that choose
  themselves how to multiply with those: OpenVINO takes half as long over it.
- `in_blocks`, for products of few rows: 8- or 4-bit weights in blocks of 32 (`MatMulNBits`).
  Activations are quantised row by row, so that verifying a draft of many tokens in one run computes
  what token-by-token decoding computes. Told what its products are given, it makes up for what
  rounding loses (`rounding.py`).

All leave what is named in `kept` in float32. Weights that were 8-bit numbers before stay on their
grid where that fits.

Imports onnx, and onnxruntime to halve: build time only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from edged.models.grid import quantized
from edged.models.rounding import BLOCK, block_quantize

INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: int8 products. The default takes 100 ms a token."""
FLOAT32 = ("audio", "gain", "log_probability")
"""Inputs and outputs that stay float32 in half precision"""
EIGHT_BITS = ("proj_out", "_attn.")
"""What weights are called that keep 8 bits: the product that chooses the token is what a wrong word
costs most in; attention loses as much in 4 bits as the rest of a layer, and is a third of it"""
LEVELS = 255
"""Steps of an 8-bit activation"""

Range = tuple[float, float]
"""Least and largest number that a tensor holds"""
Made = tuple[list[Any], list[Any]]
"""Nodes and constants in place of a node and its weight"""
Moments = Mapping[str, np.ndarray]
"""Mean outer product [in, in] of what a product is given, by the name of that"""
Scheme = Callable[[Any, str, np.ndarray], Made]
"""Makes them, told the node, the weight's name and the weight"""


def halve(model: Any) -> Any:
    """The same graph in half precision."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    names = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = [name for name in FLOAT32 if name in names]
    return convert_float_to_float16(model, keep_io_types=kept, disable_shape_infer=True)


def layers(model: Any) -> dict[str, int]:
    """What can be quantised in a graph, by its weight's name: the weight's bytes in float32."""
    constants = _constants(model)
    named = (_weight_name(node, constants) for node in model.graph.node)
    return {name: constants[name].nbytes for name in named if name}


def activations(model: Any) -> list[str]:
    """What the products that can be quantised read beside their weights."""
    constants = _constants(model)
    return [
        str(node.input[0])
        for node in model.graph.node
        if node.op_type == "MatMul" and _weight_name(node, constants)
    ]


def dynamic(model: Any, kept: Collection[str] = ()) -> Any:
    """int8 products of activations that are quantised as they come."""
    return _rewritten(model, _Dynamic(), _row_gather, kept)


def static(model: Any, ranges: Mapping[str, Range], kept: Collection[str] = ()) -> Any:
    """int8 products of activations whose ranges are known, by their names."""
    return _rewritten(model, _Static(ranges), _row_gather, kept)


def weights_only(model: Any, kept: Collection[str] = ()) -> Any:
    """int8 weights; standard operators give them back as float32, which runtimes for other devices
    recognise and leave undone."""
    return _rewritten(model, _restored_matmul, None, kept)


def in_blocks(
    model: Any, bits: int, kept: Collection[str] = (), moments: Moments | None = None
) -> Any:
    """Weights of 8 or 4 bits in blocks, int8 rows for what is looked up.

    `moments` of `activations` let 4 bits be chosen for what will be multiplied with them.
    """

    def product(node: Any, name: str, weight: np.ndarray) -> Made:
        if bits == 8 or any(part in name for part in EIGHT_BITS):
            return _block_matmul(node, name, weight, 8)
        return _block_matmul(node, name, weight, bits, (moments or {}).get(node.input[0]))

    return _with_blocks(_rewritten(model, product, _row_gather, kept))


def _with_blocks(model: Any) -> Any:
    """Name the operators' set that MatMulNBits is in, once."""
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


# -- finding the weights --------------------------------------------------------------------------


def _constants(model: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _weight_name(node: Any, constants: Mapping[str, np.ndarray]) -> str | None:
    """The weight that a product or a look-up reads; None for what is neither."""
    place = {"MatMul": 1, "Gather": 0}.get(node.op_type)
    name = "" if place is None else str(node.input[place])
    weight = constants.get(name)
    is_matrix = weight is not None and weight.ndim == 2 and weight.dtype == np.float32
    return name if is_matrix else None


def _rewritten(model: Any, product: Scheme, look_up: Scheme | None, kept: Collection[str]) -> Any:
    """The graph with other nodes and constants for its products and, if told how, look-ups."""
    graph = model.graph
    constants = _constants(model)
    nodes, replaced, added = [], set(), []
    for node in graph.node:
        name = _weight_name(node, constants)
        scheme = product if node.op_type == "MatMul" else look_up
        if name is None or name in kept or scheme is None:
            nodes.append(node)
            continue
        new_nodes, tensors = scheme(node, name, constants[name])
        nodes += new_nodes
        added += tensors
        replaced.add(name)
    remaining = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(remaining + added)
    return model


# -- products -------------------------------------------------------------------------------------


class _Dynamic:
    """The scheme of `dynamic`. What several products read is quantised once."""

    def __init__(self) -> None:
        self._quantized: set[str] = set()

    def __call__(self, node: Any, name: str, weight: np.ndarray) -> Made:
        from onnx import TensorProto, helper

        x, y = node.input[0], node.output[0]
        tensors = _per_channel(name, weight)
        values, scale = (tensor.name for tensor in tensors)
        row = [f"{x}_quantized", f"{x}_scale", f"{x}_zero"]
        nodes = (
            [] if x in self._quantized else [helper.make_node("DynamicQuantizeLinear", [x], row)]
        )
        self._quantized.add(x)
        return [
            *nodes,
            helper.make_node("MatMulInteger", [row[0], values, row[2]], [f"{y}_integer"]),
            helper.make_node("Cast", [f"{y}_integer"], [f"{y}_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [row[1], scale], [f"{y}_scale"]),
            helper.make_node("Mul", [f"{y}_float", f"{y}_scale"], [y]),
        ], tensors


class _Static:
    """The scheme of `static`: quantised and restored on both sides of the product, which ONNX
    Runtime and OpenVINO turn into one product of integers."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self._ranges = ranges
        self._quantized: set[str] = set()

    def __call__(self, node: Any, name: str, weight: np.ndarray) -> Made:
        from onnx import helper

        x = node.input[0]
        nodes, tensors = _restored_matmul(node, name, weight)
        node.input[0] = f"{x}_restored"
        if x in self._quantized:
            return nodes, tensors
        self._quantized.add(x)
        step = [f"{x}_step", f"{x}_zero"]
        return [
            helper.make_node("QuantizeLinear", [x, *step], [f"{x}_quantized"]),
            helper.make_node("DequantizeLinear", [f"{x}_quantized", *step], [f"{x}_restored"]),
            *nodes,
        ], [*tensors, *_step(x, *self._ranges[x])]


def _step(name: str, low: float, high: float) -> list[Any]:
    """Scale and zero point of an activation in uint8."""
    from onnx import numpy_helper

    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / LEVELS, 1e-10)
    return [
        numpy_helper.from_array(np.array(scale, np.float32), f"{name}_step"),
        numpy_helper.from_array(np.array(round(-low / scale), np.uint8), f"{name}_zero"),
    ]


def _restored_matmul(node: Any, name: str, weight: np.ndarray) -> Made:
    from onnx import helper

    tensors = _per_channel(name, weight)
    restored = [tensor.name for tensor in tensors]
    return [helper.make_node("DequantizeLinear", restored, [name], axis=1), node], tensors


def _per_channel(name: str, weight: np.ndarray) -> list[Any]:
    """A weight [in, out] in int8, and a scale for each output."""
    from onnx import numpy_helper

    values, scale = quantized(weight.T)
    return [
        numpy_helper.from_array(np.ascontiguousarray(values.T), f"{name}_quantized"),
        numpy_helper.from_array(scale, f"{name}_scale"),
    ]


def pack_halves(values: np.ndarray) -> np.ndarray:
    """Numbers of 4 bits, two a byte along the last axis, the first one in the lower half."""
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    return np.asarray(values[..., 0::2] | (values[..., 1::2] << 4))


def _block_matmul(
    node: Any, name: str, weight: np.ndarray, bits: int, moment: np.ndarray | None = None
) -> Made:
    from onnx import helper, numpy_helper

    values, scale, zero = block_quantize(weight, bits, moment)
    if bits == 4:
        values, zero = pack_halves(values), pack_halves(zero)
    tensors = [
        numpy_helper.from_array(values, f"{name}_quantized"),
        numpy_helper.from_array(scale, f"{name}_scale"),
        numpy_helper.from_array(zero, f"{name}_zero"),
    ]
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *(tensor.name for tensor in tensors)],
        list(node.output),
        domain="com.microsoft",
        K=weight.shape[0],
        N=weight.shape[1],
        bits=bits,
        block_size=BLOCK,
        accuracy_level=INT8_ACTIVATIONS,
    )
    return [product], tensors


def _row_gather(node: Any, name: str, table: np.ndarray) -> Made:
    """A look-up in an int8 table with one scale a row, in standard operators."""
    from onnx import TensorProto, helper, numpy_helper

    values, scale = quantized(table)
    tensors = [
        numpy_helper.from_array(values, f"{name}_quantized"),
        numpy_helper.from_array(scale[:, None], f"{name}_scale"),
    ]
    ids, row = node.input[1], f"{name}_row"
    return [
        helper.make_node("Gather", [f"{name}_quantized", ids], [row], axis=0),
        helper.make_node("Gather", [f"{name}_scale", ids], [f"{row}_scale"], axis=0),
        helper.make_node("Cast", [row], [f"{row}_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{row}_float", f"{row}_scale"], list(node.output)),
    ], tensors
