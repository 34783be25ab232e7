"""Writes ONNX graphs of operator set 11, in one precision.

What runtimes since 2019 read: no LayerNormalization, which came with set 17, and no Split,
ReduceSum or Softmax in their later forms. Sizes are written out, because such a runtime compiles a
graph for them; it may be given others before that.

In int8 the weights of products are whole numbers, which standard operators give back as floats:
runtimes for other devices recognise that and leave it undone.

Imports onnx: build time only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.models.grid import quantized
from edged.models.writer import Shape, Tensor, Writer

OPERATOR_SET = 11
FILE_VERSION = 6
"""Of ONNX's file format, as it was when that operator set was new"""
FLOATS = {"fp32": "float32", "fp16": "float16", "int8": "float32"}
"""numpy's word for a precision"""
END = np.iinfo(np.int64).max
"""As a slice's end: the axis's"""


class Onnx11(Writer):
    """One graph in fp32, fp16 or int8. Constants that are equal are written once."""

    words: ClassVar[Mapping[str, str]] = {
        "add": "Add",
        "subtract": "Sub",
        "multiply": "Mul",
        "tanh": "Tanh",
        "sigmoid": "Sigmoid",
        "exponential": "Exp",
        "logarithm": "Log",
        "mean": "ReduceMean",
        "sum": "ReduceSum",
        "largest": "ReduceMax",
    }

    def __init__(self, precision: str) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.precision = precision
        # Who wants int8 is a device that computes the rest in half precision.
        self.rounds_to_half = precision in {"fp16", "int8"}
        self.product_bytes = 0
        self._helper, self._numpy, self._types = helper, numpy_helper, TensorProto
        self._float = FLOATS[precision]
        self._nodes: list[tuple[str, Sequence[Tensor], Tensor, dict[str, Any]]] = []
        self._constants: dict[str, tuple[Tensor, np.ndarray]] = {}
        self._names: dict[int, str] = {}
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._count = 0

    def _tensor(self, shape: Shape, dtype: str) -> Tensor:
        self._count += 1
        return Tensor(self._count, shape, dtype)

    def input(self, name: str, *shape: int, dtype: str = "float32") -> Tensor:
        tensor = self._tensor(shape, self._float if dtype == "float32" else dtype)
        self._names[tensor.index] = name
        self._inputs.append(tensor)
        return tensor

    def output(self, name: str, tensor: Tensor) -> None:
        self._names[tensor.index] = name
        self._outputs.append(tensor)

    def constant(self, value: np.ndarray) -> Tensor:
        if value.dtype.kind == "f":
            value = value.astype(self._float)
        value = np.ascontiguousarray(value)
        described = f"{value.dtype} {value.shape} ".encode()
        key = hashlib.sha256(described + value.tobytes()).hexdigest()
        if key not in self._constants:
            self._constants[key] = self._tensor(value.shape, str(value.dtype)), value
        return self._constants[key][0]

    def _integers(self, *values: int) -> Tensor:
        return self.constant(np.array(values, np.int64))

    # -- operators --------------------------------------------------------------------------------

    def _operator(
        self,
        kind: str,
        inputs: Sequence[Tensor],
        shape: Shape,
        dtype: str | None = None,
        **attributes: Any,
    ) -> Tensor:
        tensor = self._tensor(shape, dtype or self._float)
        self._nodes.append((kind, inputs, tensor, attributes))
        return tensor

    def gelu(self, x: Tensor) -> Tensor:
        erf = self._operator("Erf", [self.multiply(x, math.sqrt(0.5))], x.shape)
        return self.multiply(self.multiply(x, self.add(erf, 1.0)), 0.5)

    def inverse_root(self, x: Tensor) -> Tensor:
        root = self._operator("Sqrt", [x], x.shape)
        return self._operator("Reciprocal", [root], x.shape)

    def softmax(self, x: Tensor) -> Tensor:
        return self._operator("Softmax", [x], x.shape, axis=len(x.shape) - 1)

    def _reduce(self, kind: str, x: Tensor, axis: int, shape: Shape) -> Tensor:
        return self._operator(kind, [x], shape, axes=[axis], keepdims=1)

    def index_of_largest(self, x: Tensor) -> Tensor:
        axis = len(x.shape) - 1
        found = self._operator("ArgMax", [x], x.shape[:-1], "int64", axis=axis, keepdims=0)
        return self._operator("Cast", [found], found.shape, "int32", to=self._types.INT32)

    def _reshape(self, x: Tensor, asked: Shape, shape: Shape) -> Tensor:
        return self._operator("Reshape", [x, self._integers(*asked)], shape)

    def _transpose(self, x: Tensor, order: Shape, shape: Shape) -> Tensor:
        return self._operator("Transpose", [x], shape, perm=list(order))

    def _slice(self, x: Tensor, axis: int, start: int, stop: int, shape: Shape) -> Tensor:
        bounds = (self._integers(number) for number in (start, stop or END, axis))
        return self._operator("Slice", [x, *bounds], shape)

    def _concatenate(self, axis: int, parts: Sequence[Tensor], shape: Shape) -> Tensor:
        return self._operator("Concat", parts, shape, axis=axis)

    def matmul(self, a: Tensor, b: Tensor, transposed: bool = False) -> Tensor:
        if transposed:
            order = range(len(b.shape))
            b = self.transpose(b, *order[:-2], order[-1], order[-2])
        return self._operator("MatMul", [a, b], (*a.shape[:-1], b.shape[-1]))

    def look_up(self, table: np.ndarray, ids: Tensor, precision: str | None = None) -> Tensor:
        if (precision or self.precision) == "int8":
            values, scale = quantized(table)
            rows = self._gather(self.constant(values), ids)
            return self.multiply(
                self._float_of(rows), self._gather(self.constant(scale[:, None]), ids)
            )
        return self._gather(self.constant(table), ids)

    def _gather(self, table: Tensor, ids: Tensor) -> Tensor:
        shape = (*ids.shape, *table.shape[1:])
        return self._operator("Gather", [table, ids], shape, table.dtype, axis=0)

    def _float_of(self, x: Tensor) -> Tensor:
        return self._operator("Cast", [x], x.shape, to=self._types.FLOAT)

    def linear(
        self,
        x: Tensor,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        precision: str | None = None,
    ) -> Tensor:
        matrix = self._matrix(weight, precision or self.precision)
        y = self._operator("MatMul", [x, matrix], (*x.shape[:-1], weight.shape[1]))
        return y if bias is None else self.add(y, self.constant(bias))

    def _matrix(self, weight: np.ndarray, precision: str) -> Tensor:
        """A product's weight [in, out], in int8 with a scale for each output."""
        if precision != "int8":
            self.product_bytes += weight.size * np.dtype(self._float).itemsize
            return self.constant(weight)
        rows, scale = quantized(np.ascontiguousarray(weight.T))
        self.product_bytes += rows.nbytes + scale.nbytes
        return self.multiply(self._float_of(self.constant(rows.T)), self.constant(scale))

    # -- the file ---------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        import onnx

        constants = [
            self._numpy.from_array(value, self._name(tensor))
            for tensor, value in self._constants.values()
        ]
        graph = self._helper.make_graph(
            [self._node(*node) for node in self._nodes],
            path.stem,
            [self._described(tensor) for tensor in self._inputs],
            [self._described(tensor) for tensor in self._outputs],
            constants,
        )
        operators = [self._helper.make_opsetid("", OPERATOR_SET)]
        model = self._helper.make_model(graph, opset_imports=operators, ir_version=FILE_VERSION)
        model.producer_name = "edged"
        onnx.checker.check_model(model)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model.SerializeToString())

    def _name(self, tensor: Tensor) -> str:
        return self._names.get(tensor.index, f"t{tensor.index}")

    def _node(
        self, kind: str, inputs: Sequence[Tensor], output: Tensor, attributes: dict[str, Any]
    ) -> Any:
        names = [self._name(tensor) for tensor in inputs]
        output_name = self._name(output)
        return self._helper.make_node(kind, names, [output_name], name=output_name, **attributes)

    def _described(self, tensor: Tensor) -> Any:
        kind = getattr(self._types, _TYPES[tensor.dtype])
        return self._helper.make_tensor_value_info(self._name(tensor), kind, tensor.shape)


_TYPES = {"float32": "FLOAT", "float16": "FLOAT16", "int32": "INT32"}
