"""Lower-precision versions of the default models' graphs.

The two graphs suffer differently, so each has a scheme of its own. int8 reaches 3.5 % of words
against float32 (129 clips, half of them noisy), as the shipped files do; per-tensor int8 doubles
that, and 4-bit weights reach 8.8 %.

- fp16: every tensor but the audio, its gain and the log-probabilities.
- int8 and int4, encoder: dynamic int8, weights per output channel (onnxruntime.quantization); and
  a second time with the weights alone in int8 (`DequantizeLinear`), for runtimes that choose
  themselves how to multiply with those: OpenVINO takes half as long over it.
- int8 and int4, decoder: 8- or 4-bit weights in blocks of 32 (`MatMulNBits`). Activations are
  quantised row by row, so that verifying a draft of many tokens in one run computes what
  token-by-token decoding computes.

Imports onnx and onnxruntime: build time only.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

BLOCK = 32
"""Weights that share a scale in `MatMulNBits`."""
INT8_ACTIVATIONS = 4
"""`accuracy_level` of MatMulNBits: int8 products. The default takes 100 ms a token."""
FLOAT32 = ("audio", "gain", "log_probability")
"""Inputs and outputs that stay float32 in half precision"""


def halve(model: Any) -> Any:
    """The same graph in half precision."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    names = {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = [name for name in FLOAT32 if name in names]
    return convert_float_to_float16(model, keep_io_types=kept, disable_shape_infer=True)


def quantize_encoder(model: Any) -> Any:
    """Dynamic int8 with one scale a channel, for every product with a constant."""
    import logging

    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # It advises an optimisation that these graphs do not need, through the root logger.
    logging.getLogger().setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "source.onnx"), Path(folder, "target.onnx")
        onnx.save(model, source)
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": 1},
        )
        return onnx.load(target)


def quantize_weights(model: Any) -> Any:
    """The weights of every product with a constant in int8, one scale a channel; standard operators
    give them back as float32, which runtimes for other devices recognise and leave undone."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, replaced, added = [], set(), []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            name = node.input[1]
            tensors = _per_channel(name, constants[name])
            restored = [tensor.name for tensor in tensors]
            nodes.append(helper.make_node("DequantizeLinear", restored, [name], axis=1))
            replaced.add(name)
            added += tensors
        nodes.append(node)
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept + added)
    return model


def _per_channel(name: str, weight: np.ndarray) -> list[Any]:
    """A weight [in, out] in int8, and a scale for each output."""
    from onnx import numpy_helper

    scale = (np.abs(weight).max(axis=0) / 127).astype(np.float32)
    return [
        numpy_helper.from_array(np.round(weight / scale).astype(np.int8), f"{name}_quantized"),
        numpy_helper.from_array(scale, f"{name}_scale"),
    ]


def quantize_decoder(model: Any, bits: int) -> Any:
    """Block weights of 8 or 4 bits for every product with a constant, int8 rows for the embedding.

    The product that chooses the token keeps 8 bits: it is what a wrong word costs most in.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, replaced, added = [], set(), []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            wide = node.input[1] == "proj_out"
            new_nodes, tensors = _block_matmul(node, constants[node.input[1]], 8 if wide else bits)
            replaced.add(node.input[1])
        elif node.op_type == "Gather" and node.input[0] == "embed_tokens":
            new_nodes, tensors = _row_gather(node, constants["embed_tokens"])
            replaced.add("embed_tokens")
        else:
            new_nodes, tensors = [node], []
        nodes += new_nodes
        added += tensors
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept + added)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def block_quantize(weight: np.ndarray, bits: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight [in, out] as numbers of so many bits [out, blocks, BLOCK], one a byte, with scales
    and zero points [out, blocks]."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    padded = padded.reshape(outputs, blocks, BLOCK)
    low = np.minimum(padded.min(axis=2), 0)
    high = np.maximum(padded.max(axis=2), 0)
    largest = 2**bits - 1
    scale = np.maximum((high - low) / largest, 1e-10).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, largest)
    values = np.clip(np.round(padded / scale[..., None]) + zero[..., None], 0, largest)
    return values.astype(np.uint8), scale, zero.astype(np.uint8)


def pack_halves(values: np.ndarray) -> np.ndarray:
    """Numbers of 4 bits, two a byte along the last axis, the first one in the lower half."""
    if values.shape[-1] % 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=-1)
    return np.asarray(values[..., 0::2] | (values[..., 1::2] << 4))


def _block_matmul(node: Any, weight: np.ndarray, bits: int) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    name = node.input[1]
    values, scale, zero = block_quantize(weight, bits)
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


def _row_gather(node: Any, table: np.ndarray) -> tuple[list[Any], list[Any]]:
    """A look-up in an int8 table with one scale a row, in standard operators."""
    from onnx import TensorProto, helper, numpy_helper

    scale = (np.abs(table).max(axis=1, keepdims=True) / 127).astype(np.float32)
    tensors = [
        numpy_helper.from_array(np.round(table / scale).astype(np.int8), "embed_quantized"),
        numpy_helper.from_array(scale, "embed_scale"),
    ]
    ids = node.input[1]
    return [
        helper.make_node("Gather", ["embed_quantized", ids], ["embed_row"], axis=0),
        helper.make_node("Gather", ["embed_scale", ids], ["embed_row_scale"], axis=0),
        helper.make_node("Cast", ["embed_row"], ["embed_row_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["embed_row_float", "embed_row_scale"], list(node.output)),
    ], tensors
