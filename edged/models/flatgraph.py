"""Writes TFLite graphs: every operator is a call that returns its output tensor.

The file is a flatbuffer, put together with the schema that the runtime's own package brings, from
numpy arrays alone: no converter and no training framework is needed. Constants that are equal are
written once.

Imports ai_edge_litert and flatbuffers: build time only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edged.errors import ModelError
from edged.models.writer import Tensor, Writer

SCHEMA_VERSION = 3
_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int32": "INT32",
    "int8": "INT8",
}
_VERSIONS = {
    ("FULLY_CONNECTED", "int8"): 12,
    ("DEQUANTIZE", "float16"): 3,
    ("GATHER", "int8"): 2,
}
"""Of operators on the named kind of weights; 1 for all others"""
LARGEST_INT8 = 127
SMALLEST_STEP = 1e-3
"""Of a grid, as a share of a row's largest number; smaller gaps are errors of rounding"""
OFF_GRID = 0.05
"""How far from a multiple of its step a number may be, in steps"""


class FlatGraph(Writer):
    """One graph, with its products' weights in one precision: fp32, fp16 or int8."""

    def __init__(self, precision: str) -> None:
        self._schema = _schema()
        self.precision = precision
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}
        self._buffers: list[Any] = [self._schema.BufferT()]
        self._known: dict[bytes, int] = {}
        self._weights: dict[int, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}
        self.product_bytes = 0
        """Of the weights that its products read, scales included"""

    # -- tensors ----------------------------------------------------------------------------------

    def input(self, name: str, *shape: int, dtype: str = "float32") -> Tensor:
        tensor = self._inputs[name] = self._tensor(name, shape, dtype)
        self._tensors[tensor.index].name = name
        return tensor

    def output(self, name: str, tensor: Tensor) -> None:
        self._outputs[name] = tensor
        self._tensors[tensor.index].name = name

    def constant(self, value: np.ndarray, scale: np.ndarray | None = None) -> Tensor:
        """A constant; with a scale for each row where its numbers stand for others."""
        value = np.ascontiguousarray(value)
        tensor = self._tensor("constant", value.shape, str(value.dtype))
        described = self._tensors[tensor.index]
        described.buffer = self._buffer(value)
        if scale is not None:
            described.quantization = self._schema.QuantizationParametersT()
            described.quantization.scale = scale.astype(np.float32)
            described.quantization.zeroPoint = np.zeros(len(scale), np.int64)
            described.quantization.quantizedDimension = 0
        return tensor

    def integers(self, *values: int) -> Tensor:
        return self.constant(np.array(values, np.int32))

    def _tensor(self, name: str, shape: Sequence[int], dtype: str) -> Tensor:
        tensor = self._schema.TensorT()
        tensor.name = f"{name}_{len(self._tensors)}"
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(self._schema.TensorType, _TYPES[dtype])
        tensor.buffer = 0
        tensor.hasRank = True
        self._tensors.append(tensor)
        return Tensor(len(self._tensors) - 1, tuple(shape), dtype)

    def _buffer(self, value: np.ndarray) -> int:
        content = value.tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._known:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            self._buffers.append(buffer)
            self._known[key] = len(self._buffers) - 1
        return self._known[key]

    # -- operators --------------------------------------------------------------------------------

    def _operator(
        self,
        kind: str,
        inputs: Sequence[Tensor],
        shapes: Sequence[Sequence[int]],
        options: str | None = None,
        dtype: str = "float32",
        weights: str = "",
        **settings: Any,
    ) -> list[Tensor]:
        outputs = [self._tensor(kind.lower(), shape, dtype) for shape in shapes]
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(kind, _VERSIONS.get((kind, weights), 1))
        operator.inputs = np.array([tensor.index for tensor in inputs], np.int32)
        operator.outputs = np.array([tensor.index for tensor in outputs], np.int32)
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for name, value in settings.items():
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)
        return outputs

    def _code(self, kind: str, version: int) -> int:
        return self._codes.setdefault((kind, version), len(self._codes))

    def _unary(self, kind: str, x: Tensor) -> Tensor:
        return self._operator(kind, [x], [x.shape])[0]

    def _binary(self, kind: str, a: Tensor, b: Tensor | float) -> Tensor:
        if not isinstance(b, Tensor):
            b = self.constant(np.array(b, np.float32))
        shape = np.broadcast_shapes(a.shape, b.shape)
        return self._operator(kind, [a, b], [shape])[0]

    def add(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("ADD", a, b)

    def subtract(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("SUB", a, b)

    def multiply(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("MUL", a, b)

    def tanh(self, x: Tensor) -> Tensor:
        return self._unary("TANH", x)

    def gelu(self, x: Tensor) -> Tensor:
        return self._operator("GELU", [x], [x.shape], "GeluOptions", approximate=False)[0]

    def sigmoid(self, x: Tensor) -> Tensor:
        return self._unary("LOGISTIC", x)

    def exponential(self, x: Tensor) -> Tensor:
        return self._unary("EXP", x)

    def logarithm(self, x: Tensor) -> Tensor:
        return self._unary("LOG", x)

    def inverse_root(self, x: Tensor) -> Tensor:
        return self._unary("RSQRT", x)

    def softmax(self, x: Tensor) -> Tensor:
        return self._operator("SOFTMAX", [x], [x.shape], "SoftmaxOptions", beta=1.0)[0]

    def mean(self, x: Tensor, axis: int) -> Tensor:
        return self._reduced("MEAN", x, axis)

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return self._reduced("SUM", x, axis)

    def largest(self, x: Tensor, axis: int) -> Tensor:
        return self._reduced("REDUCE_MAX", x, axis)

    def _reduced(self, kind: str, x: Tensor, axis: int) -> Tensor:
        axis %= len(x.shape)
        shape = [1 if i == axis else size for i, size in enumerate(x.shape)]
        inputs = [x, self.integers(axis)]
        return self._operator(kind, inputs, [shape], "ReducerOptions", keepDims=True)[0]

    def index_of_largest(self, x: Tensor) -> Tensor:
        """Along the last axis, which goes."""
        kind = self._schema.TensorType.INT32
        axis = self.constant(np.array(len(x.shape) - 1, np.int32))
        return self._operator(
            "ARG_MAX", [x, axis], [x.shape[:-1]], "ArgMaxOptions", "int32", outputType=kind
        )[0]

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """One size may be -1: what is left."""
        known = -math.prod(shape) if -1 in shape else 1
        whole = tuple(math.prod(x.shape) // known if size == -1 else size for size in shape)
        return self._operator("RESHAPE", [x, self.integers(*shape)], [whole], dtype=x.dtype)[0]

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        shape = [x.shape[axis] for axis in order]
        return self._operator("TRANSPOSE", [x, self.integers(*order)], [shape])[0]

    def slice(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """From `start` to before `stop`, which counts from the end where it is 0 or less.

        The other axes, and ends that count from the end, follow when an input is resized.
        """
        axis %= len(x.shape)
        to_end = stop == 0
        shape = list(x.shape)
        shape[axis] = (stop + shape[axis] if stop <= 0 else stop) - start
        others = sum(1 << other for other in range(len(shape)) if other != axis)
        bounds = [[0] * len(shape), [0] * len(shape), [1] * len(shape)]
        bounds[0][axis], bounds[1][axis] = start, stop
        return self._operator(
            "STRIDED_SLICE",
            [x, *(self.integers(*bound) for bound in bounds)],
            [shape],
            "StridedSliceOptions",
            beginMask=others,
            endMask=others | (to_end << axis),
            ellipsisMask=0,
            newAxisMask=0,
            shrinkAxisMask=0,
        )[0]

    def concatenate(self, axis: int, *parts: Tensor) -> Tensor:
        axis %= len(parts[0].shape)
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self._operator("CONCATENATION", parts, [shape], "ConcatenationOptions", axis=axis)[0]

    def matmul(self, a: Tensor, b: Tensor, transposed: bool = False) -> Tensor:
        """a [.., m, k] times b [.., k, n], or [.., n, k] where that is transposed."""
        columns = b.shape[-2] if transposed else b.shape[-1]
        shape = [*a.shape[:-1], columns]
        return self._operator(
            "BATCH_MATMUL", [a, b], [shape], "BatchMatMulOptions", adjX=False, adjY=transposed
        )[0]

    def look_up(self, table: np.ndarray, ids: Tensor, precision: str | None = None) -> Tensor:
        """Rows of a table, [*ids.shape, row]."""
        shape = [*ids.shape, table.shape[1]]
        precision = precision or self.precision
        if precision == "int8":
            values, scale = quantized(table)
            rows = self._gather(self.constant(values), ids, shape, "int8")
            scales = self._gather(self.constant(scale[:, None]), ids, [*ids.shape, 1], "float32")
            return self.multiply(self._cast(rows), scales)
        if precision == "fp16":
            rows = self._gather(self.constant(table.astype(np.float16)), ids, shape, "float16")
            return self._operator("DEQUANTIZE", [rows], [shape], weights="float16")[0]
        return self._gather(self.constant(table.astype(np.float32)), ids, shape, "float32")

    def _gather(self, table: Tensor, ids: Tensor, shape: Sequence[int], dtype: str) -> Tensor:
        options = {"axis": 0, "batchDims": 0}
        return self._operator(
            "GATHER", [table, ids], [shape], "GatherOptions", dtype, table.dtype, **options
        )[0]

    def _cast(self, x: Tensor) -> Tensor:
        return self._operator("CAST", [x], [x.shape], "CastOptions")[0]

    def linear(
        self,
        x: Tensor,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        precision: str | None = None,
    ) -> Tensor:
        """x [.., in] times weight [in, out], and a bias [out]."""
        precision = precision or self.precision
        inputs = [x, self._product_weight(weight.T, precision)]
        if bias is not None:
            inputs.append(self.constant(bias.astype(np.float32)))
        shape = [*x.shape[:-1], weight.shape[1]]
        return self._operator(
            "FULLY_CONNECTED",
            inputs,
            [shape],
            "FullyConnectedOptions",
            weights=inputs[1].dtype,
            keepNumDims=True,
            asymmetricQuantizeInputs=precision == "int8",
        )[0]

    def _product_weight(self, rows: np.ndarray, precision: str) -> Tensor:
        """A product's weight, [out, in], as the precision has it."""
        if precision == "int8":
            values, scale = quantized(rows)
            self.product_bytes += values.nbytes + scale.nbytes
            return self.constant(values, scale)
        if precision == "fp16":
            half = self.constant(rows.astype(np.float16))
            self.product_bytes += rows.size * 2
            return self._operator("DEQUANTIZE", [half], [rows.shape], weights="float16")[0]
        self.product_bytes += rows.size * 4
        return self.constant(rows.astype(np.float32))

    # -- the file ---------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the graph, with one signature that names its inputs and outputs."""
        import flatbuffers

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model().Pack(builder), file_identifier=b"TFL3")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(builder.Output())

    def _model(self) -> Any:
        model = self._schema.ModelT()
        model.version = SCHEMA_VERSION
        model.description = "edged"
        model.operatorCodes = [self._operator_code(*code) for code in self._codes]
        model.buffers = self._buffers
        model.subgraphs = [self._schema.SubGraphT()]
        model.subgraphs[0].name = "main"
        model.subgraphs[0].tensors = self._tensors
        model.subgraphs[0].operators = self._operators
        model.subgraphs[0].inputs = _indices(self._inputs)
        model.subgraphs[0].outputs = _indices(self._outputs)
        model.signatureDefs = [self._signature()]
        return model

    def _operator_code(self, kind: str, version: int) -> Any:
        code = self._schema.OperatorCodeT()
        code.builtinCode = getattr(self._schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        return code

    def _signature(self) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.subgraphIndex = 0
        signature.inputs = [self._named(*item) for item in self._inputs.items()]
        signature.outputs = [self._named(*item) for item in self._outputs.items()]
        return signature

    def _named(self, name: str, tensor: Tensor) -> Any:
        named = self._schema.TensorMapT()
        named.name = name
        named.tensorIndex = tensor.index
        return named


def _schema() -> Any:
    """The format, as classes. Raises ModelError."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ModelError(
            f"TFLite files are written with ai-edge-litert ({error}). "
            "Run: pip install 'edged[tflite]'",
            code="no_tflite",
        ) from error
    return schema_py_generated


def _indices(tensors: dict[str, Tensor]) -> np.ndarray:
    return np.array([tensor.index for tensor in tensors.values()], np.int32)


def quantized(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int8 and the scale of each: [n, m], [n].

    The default models' weights were int8 before. A row that still lies on its old grid keeps it,
    and nothing is lost; any other is scaled so that its largest number becomes 127.
    """
    largest = np.maximum(np.abs(rows).max(axis=1), 1e-10)
    step = _grid(rows, largest)
    fits = largest <= (LARGEST_INT8 + 0.5) * step
    scale = np.where(fits, step, largest / LARGEST_INT8)
    values = np.clip(np.round(rows / scale[:, None]), -LARGEST_INT8, LARGEST_INT8)
    return values.astype(np.int8), scale.astype(np.float32)


def _grid(rows: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """The step whose multiples a row's numbers are, [n]; 0 where there is none."""
    gaps = np.diff(np.sort(rows.astype(np.float64), axis=1), axis=1)
    gaps[gaps < SMALLEST_STEP * largest[:, None]] = np.inf
    step = gaps.min(axis=1)
    steps = np.round(largest / step)
    step = np.where(steps > 0, largest / np.maximum(steps, 1), 0.0)
    multiples = rows / np.maximum(step, 1e-20)[:, None]
    is_grid = np.abs(multiples - np.round(multiples)).max(axis=1) < OFF_GRID
    return np.where(is_grid, step, 0.0)
