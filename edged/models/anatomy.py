"""What a built model's graphs are made of, and what they cost: `edged models inspect`.

Shapes are those that the graph really has: ONNX Runtime runs it once on zeros, of stated sizes, and
shows what its products read and write. TFLite's files hold theirs.

A multiplication with its addition counts as two operations. Only products are counted
(convolutions too); all else is small beside them.

Imports onnx, onnxruntime and ai_edge_litert: never in the daemon.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from edged.errors import ModelError
from edged.models.bucket import TOKENS_PER_SECOND
from edged.models.store import Model, stored_as
from edged.models.trial import Trial
from edged.models.work import product_bytes
from edged.recognizer import SAMPLE_RATE

STANDARD = {"", "ai.onnx"}
"""Domains of ONNX's own operators; others are a runtime's, mostly several operators in one"""
OPERATIONS = 2
"""Of a multiplication with its addition"""
READ = {".onnx", ".onnx11", ".tflite"}
"""Endings of the files that hold graphs"""
_TFLITE_PRODUCTS = {"FULLY_CONNECTED": 1, "BATCH_MATMUL": 0, "CONV_2D": 1}
"""Which of their inputs shows the length of their sums"""
_ORDER = {"encoder": 0, "decoder": 1}


class GraphReport(msgspec.Struct, frozen=True, kw_only=True):
    """One graph of a model. What could not be found out is null."""

    file: str
    """Below the model's folder"""
    bytes: int
    """Of the file, and of the one beside it with its weights"""
    operators: dict[str, int]
    """How many of each type"""
    fused: dict[str, int]
    """Those of them that only one runtime knows, each for several of the standard ones"""
    optimized: dict[str, int]
    """What ONNX Runtime makes of them for a processor when it loads the graph: it fuses and folds;
    empty where it does not open it"""
    parameters: int
    """Numbers in its constants, scales and tables included; two to a byte in int4"""
    weights: dict[str, int]
    """Bytes of these by type"""
    sizes: dict[str, int]
    """What its open sizes were taken as; empty where all are fixed"""
    multiplications: int | None
    """In its products, in one run"""
    operations: int | None
    """The same with the additions"""
    intensity: float | None
    """Operations for each byte of the weights that its products read"""
    reason: str | None = None
    """Why they are not known"""


class _Product(msgspec.Struct, frozen=True):
    """One product and the names of what tells its cost."""

    kind: str
    output: str
    other: str
    """Where the length of each sum is seen: the product's first input, the convolution's weight"""
    length: int | None = None
    """Of each sum, where the operator says it itself"""


def graphs(
    model: Model, precision: str, endings: Collection[str], seconds: float
) -> list[GraphReport]:
    """Every graph with one of these endings that is built in a precision, run on so many seconds of
    audio. Raises ModelError."""
    names = [name for name in model.files if _is_graph(name, stored_as(precision), endings)]
    if not names:
        raise ModelError(
            f"{model.name} has nothing in {precision} as {' or '.join(sorted(endings))}; "
            f"it is built in {', '.join(model.precisions)}",
            code="model_missing",
        )
    sizes = {
        "samples": round(seconds * SAMPLE_RATE),
        "past": math.ceil(seconds * TOKENS_PER_SECOND),
    }
    reports = []
    for name in sorted(names, key=_place):
        read = _tflite if name.endswith(".tflite") else _onnx
        report, learnt = read(model.path(name), sizes)
        sizes |= learnt
        reports.append(msgspec.structs.replace(report, file=name, bytes=_size(model, name)))
    return reports


def _is_graph(name: str, precision: str, endings: Collection[str]) -> bool:
    folder, *inside = Path(name).parts
    if folder != precision or not inside or Path(name).suffix not in READ:
        return False
    opened = Path(inside[0])  # a file, or a folder that a runtime opens as one
    return opened.suffix in endings or "".join(opened.suffixes) in endings


def _place(name: str) -> tuple[str, int, str]:
    """By format, and in the order in which they run: one gives the other its sizes."""
    path = Path(name)
    return path.suffix, _ORDER.get(path.name.partition(".")[0], len(_ORDER)), name


def _size(model: Model, name: str) -> int:
    beside = str(Path(name).with_suffix(".weights"))
    return sum(int(model.files[file]["bytes"]) for file in {name, beside} & model.files.keys())


def _report(
    operators: Iterable[tuple[str, bool]],
    constants: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, int],
    read: int,
    multiplications: int | None,
    optimized: Mapping[str, int] | None = None,
    reason: str | None = None,
) -> GraphReport:
    """`operators` with whether they are fused; `constants` are numbers and bytes by type; `read`
    are the bytes of those that its products read."""
    listed = list(operators)
    operations = None if multiplications is None else OPERATIONS * multiplications
    return GraphReport(
        file="",
        bytes=0,
        operators=dict(Counter(kind for kind, _ in listed).most_common()),
        fused=dict(Counter(kind for kind, fused in listed if fused).most_common()),
        optimized=dict(optimized or {}),
        parameters=sum(count for count, _ in constants.values()),
        weights={kind: size for kind, (_, size) in constants.items()},
        sizes=dict(sizes),
        multiplications=multiplications,
        operations=operations,
        intensity=operations / read if operations is not None and read else None,
        reason=reason,
    )


def _summed(constants: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, int]]:
    """Numbers and bytes by type, the largest first. Whole numbers of 32 bits and more are shapes
    and places, no weights."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for kind, count, size in constants:
        if kind not in {"int32", "int64", "bool"}:
            counts[kind] += count
            sizes[kind] += size
    return {kind: (counts[kind], size) for kind, size in sizes.most_common()}


# -- ONNX -----------------------------------------------------------------------------------------


def _onnx(path: Path, sizes: Mapping[str, int]) -> tuple[GraphReport, dict[str, int]]:
    """A graph's report, and the sizes that its outputs show."""
    import onnx

    model = onnx.load(path)
    operators = [(node.op_type, node.domain not in STANDARD) for node in model.graph.node]
    constants = _summed(_onnx_constants(model))
    taken = {name: sizes.get(name, 1) for name in _open_sizes(model)}
    known = (operators, constants, taken, product_bytes(model))
    try:
        shapes, learnt = _observe(model, taken)
    except Exception as error:  # noqa: BLE001  the runtime raises types of its own
        return _report(*known, None, reason=str(error).splitlines()[0]), {}
    multiplications = sum(_multiplications(product, shapes) for product in _products(model))
    return _report(*known, multiplications, _optimized(path)), learnt


def _onnx_constants(model: Any) -> Iterator[tuple[str, int, int]]:
    """Each constant's type, numbers and bytes."""
    from onnx.helper import tensor_dtype_to_np_dtype

    halves = {n.input[1] for n in model.graph.node if n.op_type == "MatMulNBits" and _bits(n) == 4}
    for tensor in model.graph.initializer:
        dtype = np.dtype(tensor_dtype_to_np_dtype(tensor.data_type))
        count = math.prod(tensor.dims)
        if tensor.name in halves:
            yield "int4", 2 * count, count
        else:
            yield str(dtype), count, count * dtype.itemsize


def _bits(node: Any) -> int:
    return int(_attribute(node, "bits"))


def _attribute(node: Any, name: str) -> Any:
    from onnx.helper import get_attribute_value

    return next(get_attribute_value(a) for a in node.attribute if a.name == name)


def _open_sizes(model: Any) -> list[str]:
    """The names of the sizes that the inputs leave open."""
    dimensions = (d for value in model.graph.input for d in value.type.tensor_type.shape.dim)
    return list(dict.fromkeys(d.dim_param for d in dimensions if d.dim_param))


def _observe(
    model: Any, sizes: Mapping[str, int]
) -> tuple[dict[str, tuple[int, ...]], dict[str, int]]:
    """The shapes of what its products read and write, and what its outputs' open sizes are."""
    graph = model.graph
    own = {value.name: value for value in graph.output}
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    known |= {value.name: _shape(value, sizes) for value in graph.input}
    used = {name for product in _products(model) for name in (product.output, product.other)}
    names = sorted((used | own.keys()) - known.keys())
    trial = Trial(model, names, optimized=False)
    made = trial.run({value.name: _zeros(value, sizes) for value in graph.input}, names)
    shapes = known | {name: array.shape for name, array in zip(names, made, strict=True)}
    return shapes, {
        dimension.dim_param: size
        for name, value in own.items()
        for dimension, size in zip(value.type.tensor_type.shape.dim, shapes[name], strict=False)
        if dimension.dim_param
    }


def _optimized(path: Path) -> dict[str, int]:
    """The operators of a graph as it is run, by type."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath, load_external_data=False)
    return dict(Counter(node.op_type for node in optimized.graph.node).most_common())


def _shape(value: Any, sizes: Mapping[str, int]) -> tuple[int, ...]:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(sizes[d.dim_param] if d.dim_param else d.dim_value for d in dimensions)


def _zeros(value: Any, sizes: Mapping[str, int]) -> np.ndarray:
    from onnx.helper import tensor_dtype_to_np_dtype

    dtype = tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return np.zeros(_shape(value, sizes), dtype)


def _products(model: Any) -> Iterator[_Product]:
    for node in model.graph.node:
        if node.op_type in {"MatMul", "MatMulInteger"}:
            yield _Product(node.op_type, node.output[0], node.input[0])
        elif node.op_type == "MatMulNBits":
            length = int(_attribute(node, "K"))
            yield _Product(node.op_type, node.output[0], node.input[0], length)
        elif node.op_type == "Conv":
            yield _Product(node.op_type, node.output[0], node.input[1])


def _multiplications(product: _Product, shapes: Mapping[str, Sequence[int]]) -> int:
    """Numbers that a product writes, times the terms of each."""
    other = shapes[product.other]
    length = math.prod(other[1:]) if product.kind == "Conv" else other[-1]
    return math.prod(shapes[product.output]) * (product.length or length)


# -- TFLite ---------------------------------------------------------------------------------------


def _tflite(path: Path, _sizes: Mapping[str, int]) -> tuple[GraphReport, dict[str, int]]:
    """A graph's report; its sizes are fixed, and say nothing of others."""
    from edged.models.flatgraph import schema

    format_ = schema()
    model = format_.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    codes = [_word(format_.BuiltinOperator, c.builtinCode) for c in model.operatorCodes]
    kinds = [codes[operator.opcodeIndex] for operator in graph.operators]
    return _report(
        ((kind, False) for kind in kinds),
        _summed(_tflite_constants(model, graph, format_)),
        {},
        sum(_tflite_read(k, o, model, graph) for k, o in zip(kinds, graph.operators, strict=True)),
        sum(_tflite_product(k, o, graph) for k, o in zip(kinds, graph.operators, strict=True)),
    ), {}


def _word(enumeration: Any, number: int) -> str:
    """The format's name for one of its numbers."""
    return str(next(name for name, value in vars(enumeration).items() if value == number))


def _tflite_constants(model: Any, graph: Any, schema: Any) -> Iterator[tuple[str, int, int]]:
    """Each constant's type, numbers and bytes; one that several tensors share, once."""
    seen = set()
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and tensor.buffer not in seen:
            seen.add(tensor.buffer)
            kind = _word(schema.TensorType, tensor.type).lower()
            yield kind, len(data) // np.dtype(kind).itemsize, len(data)


def _tflite_read(kind: str, operator: Any, model: Any, graph: Any) -> int:
    """Bytes of the weights that an operator multiplies with."""
    if kind not in _TFLITE_PRODUCTS:
        return 0
    data = model.buffers[graph.tensors[operator.inputs[1]].buffer].data
    return 0 if data is None else len(data)


def _tflite_product(kind: str, operator: Any, graph: Any) -> int:
    """Multiplications of an operator; none where it is no product."""
    written = math.prod(graph.tensors[operator.outputs[0]].shape)
    if kind not in _TFLITE_PRODUCTS:
        return 0
    place = _TFLITE_PRODUCTS[kind]
    shape = graph.tensors[operator.inputs[place]].shape
    return int(written * (math.prod(shape[1:]) if kind == "CONV_2D" else shape[-1]))
