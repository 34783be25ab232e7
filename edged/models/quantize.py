"""Lower-precision versions of the default models' graphs.

Two schemes, because the two graphs suffer differently. Both reach 3.5 % of words against float32
(129 clips, half of them noisy), as the shipped files do; per-tensor int8 doubles that.

- encoder: dynamic int8, weights per output channel (onnxruntime.quantization).
- decoder: 8-bit weights in blocks of 32 (`MatMulNBits`). Activations are quantised row by row, so
  that verifying a draft of many tokens in one run computes what token-by-token decoding computes.

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


def quantize_decoder(model: Any) -> Any:
    """8-bit block weights for every product with a constant, int8 rows for the embedding."""
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes, replaced, added = [], set(), []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            new_nodes, tensors = _block_matmul(node, constants[node.input[1]])
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


def block_quantize(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight [in, out] as bytes [out, blocks, BLOCK], scales and zero points [out, blocks]."""
    inputs, outputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    padded = padded.reshape(outputs, blocks, BLOCK)
    low = np.minimum(padded.min(axis=2), 0)
    high = np.maximum(padded.max(axis=2), 0)
    scale = np.maximum((high - low) / 255, 1e-10).astype(np.float32)
    zero = np.clip(np.round(-low / scale), 0, 255)
    values = np.clip(np.round(padded / scale[..., None]) + zero[..., None], 0, 255)
    return values.astype(np.uint8), scale, zero.astype(np.uint8)


def _block_matmul(node: Any, weight: np.ndarray) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    name = node.input[1]
    suffixes = ("quantized", "scale", "zero")
    tensors = [
        numpy_helper.from_array(values, f"{name}_{suffix}")
        for values, suffix in zip(block_quantize(weight), suffixes, strict=True)
    ]
    product = helper.make_node(
        "MatMulNBits",
        [node.input[0], *(tensor.name for tensor in tensors)],
        list(node.output),
        domain="com.microsoft",
        K=weight.shape[0],
        N=weight.shape[1],
        bits=8,
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
