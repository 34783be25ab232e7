"""Writes TFLite graphs: every operator is a call that returns its output tensor.

The file is a flatbuffer, put together with the schema that the runtime's own package brings, from
numpy arrays alone: no converter and no training framework is needed. Constants that are equal are
written once.

Imports ai_edge_litert and flatbuffers: build time only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.errors import ModelError
from edged.models.grid import quantized
from edged.models.writer import Shape, Tensor, Writer

SCHEMA_VERSION = 3
_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int32": "INT32",
    "int16": "INT16",
    "int8": "INT8",
}
_VERSIONS = {
    ("FULLY_CONNECTED", "int8"): 12,
    ("DEQUANTIZE", "float16"): 3,
    ("GATHER", "int8"): 2,
}
"""Of operators on the named kind of weights; 1 for all others"""


class FlatGraph(Writer):
    """One graph, with its products' weights in one precision: fp32, fp16 or int8."""

    words: ClassVar[Mapping[str, str]] = {
        "add": "ADD",
        "subtract": "SUB",
        "multiply": "MUL",
        "tanh": "TANH",
        "sigmoid": "LOGISTIC",
        "exponential": "EXP",
        "logarithm": "LOG",
        "mean": "MEAN",
        "sum": "SUM",
        "largest": "REDUCE_MAX",
    }

    def __init__(self, precision: str) -> None:
        self._schema = schema()
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

    def _integers(self, *values: int) -> Tensor:
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
        shape: Shape,
        options: str | None = None,
        dtype: str = "float32",
        weights: str = "",
        **settings: Any,
    ) -> Tensor:
        output = self._tensor(kind.lower(), shape, dtype)
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(kind, _VERSIONS.get((kind, weights), 1))
        operator.inputs = np.array([tensor.index for tensor in inputs], np.int32)
        operator.outputs = np.array([output.index], np.int32)
        if options:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for name, value in settings.items():
                setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)
        return output

    def _code(self, kind: str, version: int) -> int:
        return self._codes.setdefault((kind, version), len(self._codes))

    def gelu(self, x: Tensor) -> Tensor:
        return self._operator("GELU", [x], x.shape, "GeluOptions", approximate=False)

    def inverse_root(self, x: Tensor) -> Tensor:
        return self._operator("RSQRT", [x], x.shape)

    def softmax(self, x: Tensor) -> Tensor:
        return self._operator("SOFTMAX", [x], x.shape, "SoftmaxOptions", beta=1.0)

    def _reduce(self, kind: str, x: Tensor, axis: int, shape: Shape) -> Tensor:
        inputs = [x, self._integers(axis)]
        return self._operator(kind, inputs, shape, "ReducerOptions", keepDims=True)

    def index_of_largest(self, x: Tensor) -> Tensor:
        kind = self._schema.TensorType.INT32
        axis = self.constant(np.array(len(x.shape) - 1, np.int32))
        return self._operator(
            "ARG_MAX", [x, axis], x.shape[:-1], "ArgMaxOptions", "int32", outputType=kind
        )

    def _reshape(self, x: Tensor, asked: Shape, shape: Shape) -> Tensor:
        return self._operator("RESHAPE", [x, self._integers(*asked)], shape, dtype=x.dtype)

    def _transpose(self, x: Tensor, order: Shape, shape: Shape) -> Tensor:
        return self._operator("TRANSPOSE", [x, self._integers(*order)], shape)

    def _slice(self, x: Tensor, axis: int, start: int, stop: int, shape: Shape) -> Tensor:
        to_end = stop == 0
        others = sum(1 << other for other in range(len(shape)) if other != axis)
        bounds = [[0] * len(shape), [0] * len(shape), [1] * len(shape)]
        bounds[0][axis], bounds[1][axis] = start, stop
        return self._operator(
            "STRIDED_SLICE",
            [x, *(self._integers(*bound) for bound in bounds)],
            shape,
            "StridedSliceOptions",
            beginMask=others,
            endMask=others | (to_end << axis),
            ellipsisMask=0,
            newAxisMask=0,
            shrinkAxisMask=0,
        )

    def _concatenate(self, axis: int, parts: Sequence[Tensor], shape: Shape) -> Tensor:
        return self._operator("CONCATENATION", parts, shape, "ConcatenationOptions", axis=axis)

    def matmul(self, a: Tensor, b: Tensor, transposed: bool = False) -> Tensor:
        columns = b.shape[-2] if transposed else b.shape[-1]
        shape = (*a.shape[:-1], columns)
        return self._operator(
            "BATCH_MATMUL", [a, b], shape, "BatchMatMulOptions", adjX=False, adjY=transposed
        )

    def look_up(self, table: np.ndarray, ids: Tensor, precision: str | None = None) -> Tensor:
        shape = (*ids.shape, table.shape[1])
        precision = precision or self.precision
        if precision == "int8":
            values, scale = quantized(table)
            rows = self._gather(self.constant(values), ids, shape, "int8")
            scales = self._gather(self.constant(scale[:, None]), ids, (*ids.shape, 1), "float32")
            return self.multiply(self._cast(rows), scales)
        if precision == "fp16":
            # Under another name, because the older runtime does not gather half precision.
            bits = self.constant(table.astype(np.float16).view(np.int16))
            rows = self._gather(bits, ids, shape, "int16")
            half = self._operator("BITCAST", [rows], shape, "BitcastOptions", "float16")
            return self._operator("DEQUANTIZE", [half], shape, weights="float16")
        return self._gather(self.constant(table.astype(np.float32)), ids, shape, "float32")

    def _gather(self, table: Tensor, ids: Tensor, shape: Shape, dtype: str) -> Tensor:
        options = {"axis": 0, "batchDims": 0}
        return self._operator(
            "GATHER", [table, ids], shape, "GatherOptions", dtype, table.dtype, **options
        )

    def _cast(self, x: Tensor) -> Tensor:
        return self._operator("CAST", [x], x.shape, "CastOptions")

    def linear(
        self,
        x: Tensor,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        precision: str | None = None,
    ) -> Tensor:
        precision = precision or self.precision
        inputs = [x, self._product_weight(weight.T, precision)]
        if bias is not None:
            inputs.append(self.constant(bias.astype(np.float32)))
        shape = (*x.shape[:-1], weight.shape[1])
        return self._operator(
            "FULLY_CONNECTED",
            inputs,
            shape,
            "FullyConnectedOptions",
            weights=inputs[1].dtype,
            keepNumDims=True,
            asymmetricQuantizeInputs=precision == "int8",
        )

    def _product_weight(self, rows: np.ndarray, precision: str) -> Tensor:
        """A product's weight, [out, in], as the precision has it."""
        if precision == "int8":
            values, scale = quantized(rows)
            self.product_bytes += values.nbytes + scale.nbytes
            return self.constant(values, scale)
        if precision == "fp16":
            half = self.constant(rows.astype(np.float16))
            self.product_bytes += rows.size * 2
            return self._operator("DEQUANTIZE", [half], rows.shape, weights="float16")
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


def schema() -> Any:
    """The format, as classes. Raises ModelError."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ModelError(
            f"TFLite files are written and read with ai-edge-litert ({error}). "
            "Run: pip install 'edged[tflite]'",
            code="no_tflite",
        ) from error
    return schema_py_generated


def _indices(tensors: dict[str, Tensor]) -> np.ndarray:
    return np.array([tensor.index for tensor in tensors.values()], np.int32)
