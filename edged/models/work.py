"""How much a graph has to read: the weights of its products, counted while it is built.

In float32 a quarter of these bytes is the number of weights, and so of the multiplications with
them for each row.

Only products with constants count. Those of attention grow with the utterance and are small beside
them; what is looked up, as an embedding, is hardly read at all.
"""

from __future__ import annotations

import math
from typing import Any

PRODUCTS = {"MatMul", "MatMulInteger", "MatMulNBits", "Conv", "DequantizeLinear"}
"""And what restores a product's weights"""


def product_bytes(model: Any) -> int:
    """Bytes of the constants that a graph's products read, their scales included."""
    from onnx.helper import tensor_dtype_to_np_dtype

    used = {name for node in model.graph.node if node.op_type in PRODUCTS for name in node.input}
    return sum(
        math.prod(constant.dims) * int(tensor_dtype_to_np_dtype(constant.data_type).itemsize)
        for constant in model.graph.initializer
        if constant.name in used
    )


def work_name(part: tuple[str, str]) -> str:
    """What the manifest calls the work of a precision in a format."""
    precision, kind = part
    return precision if kind == "onnx" else f"{precision} {kind}"
