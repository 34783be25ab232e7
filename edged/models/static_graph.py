"""Moonshine as two graphs whose shapes are all fixed, for runtimes and devices that want them so.

Audio is padded to the size of a bucket, and masks say what of it is there. Two masks are needed:
the group norm's, because its statistics go over the whole clip, and the attention's; with both,
what is computed for the frames that are there is what the open graph computes.

    encoder  audio [1, N], norm_mask [1, C, 1], frame_mask [1, 1, 1, T], positions [T]
             -> cross_k_L [1, H, D, T], cross_v_L [1, H, T, D]
    decoder  tokens [1, S], positions [S], token_mask [1, 1, S, P + S], frame_mask,
             past_{k,v}_L [1, H, P, D], cross_{k,v}_L
             -> next_token [1, S], log_probability [1, S, 1], new_{k,v}_L [1, H, S, D],
                attention_L [1, H, S, T]

N samples in a bucket of T frames and C columns of the first convolution, H heads of D dimensions,
S new tokens, P places in the cache for those before them, L a layer's number. A mask holds 0 for
what is there and MASKED for what is not; the group norm's holds 1 / columns and 0. The decoder
returns the new keys and values alone: whoever runs it writes them into its cache.
"""

from __future__ import annotations

import numpy as np

from edged.models.bucket import HOP, TAPS, Bucket
from edged.models.graph import (
    HEADS,
    MAXIMUM_FRAMES,
    MAXIMUM_TOKENS,
    ROTARY_DIMENSIONS,
    Architecture,
    gated_names,
    key_value,
    query_key_value,
    rotary_tables,
)
from edged.models.weights import Weights
from edged.models.writer import Tensor, Writer

SHRUNK = 1 / 32
"""What numbers are multiplied with before they are squared in half precision"""
SMALLEST_HALF = 2**-24
"""Added in half precision to a variance of such numbers. A smaller one would be none"""


def encoder(g: Writer, weights: Weights, bucket: Bucket) -> None:
    """Write the encoder of a bucket."""
    length = bucket.frames
    size = Architecture.of(weights)
    x = _frontend(g, weights, bucket)
    mask = g.input("frame_mask", 1, 1, 1, length)
    cosines, sines = _rotary(g, weights["encoder.inv_freq"], MAXIMUM_FRAMES, length)
    for layer in range(size.encoder_layers):
        prefix = f"encoder.layers.{layer}."
        x = _encoder_attention(g, weights, prefix, x, cosines, sines, mask, size)
        x = _encoder_mlp(g, weights, prefix, x)
    x = _layer_norm(g, x, weights["encoder.layer_norm.weight"])
    for layer in range(size.decoder_layers):
        _cross_attention_cache(g, weights, layer, x, size)


def _frontend(g: Writer, weights: Weights, bucket: Bucket) -> Tensor:
    """Audio to frames [1, T, width]: three convolutions as products, one masked group norm."""
    audio = g.input("audio", 1, bucket.samples)
    hops = g.reshape(audio, 1, -1, HOP)
    x = g.concatenate(2, g.slice(hops, 1, 0, -1), g.slice(hops, 1, 1, 0))
    kernel = np.zeros((2 * HOP, weights["encoder.conv1.weight"].shape[0]), np.float32)
    kernel[:TAPS] = weights["encoder.conv1.weight"][:, 0].T
    # Raw audio in int8 would be noise.
    precision = "fp32" if g.precision == "int8" else g.precision
    x = g.tanh(g.linear(x, kernel, precision=precision))
    x = _group_norm(g, x, g.input("norm_mask", 1, x.shape[1], 1))
    # The shift is folded into the convolution after it; the scale would take its weights off the
    # grid of int8 on which they lie.
    x = g.multiply(x, g.constant(weights["encoder.groupnorm.weight"].astype(np.float32)))
    kernel2 = weights["encoder.conv2.weight"]
    bias2 = weights["encoder.conv2.bias"] + np.einsum(
        "oik,i->o", kernel2, weights["encoder.groupnorm.bias"]
    )
    x = _convolution(g, x, kernel2, bias2, 3, g.precision)
    # Its weights, alone of all, go further to one side of zero than the grid does.
    kernel3 = weights["encoder.conv3.weight"]
    return _convolution(g, x, kernel3, weights["encoder.conv3.bias"], 2, precision)


def _group_norm(g: Writer, x: Tensor, mask: Tensor) -> Tensor:
    """Normalise over all channels and the columns that are there (one group)."""

    def mean(x: Tensor) -> Tensor:
        return g.sum(g.multiply(g.mean(x, 2), mask), 1)

    centred = g.subtract(x, mean(x))
    deviation = g.inverse_root(g.add(mean(g.multiply(centred, centred)), 1e-5))
    return g.multiply(centred, deviation)


def _convolution(
    g: Writer, x: Tensor, weight: np.ndarray, bias: np.ndarray, stride: int, precision: str
) -> Tensor:
    """A convolution as one product, of weight [out, in, taps].

    Columns lie side by side in rows of `stride`; a window is a row, the next and so on.
    """
    channels, taps = x.shape[2], weight.shape[2]
    rows = g.reshape(x, 1, -1, stride * channels)
    beyond = (taps - 1) // stride
    parts = []
    for row in range(beyond + 1):
        part = g.slice(rows, 1, row, row - beyond)
        missing = (row + 1) * stride - taps
        parts.append(g.slice(part, 2, 0, -missing * channels) if missing > 0 else part)
    matrix = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
    return g.gelu(g.linear(g.concatenate(2, *parts), matrix, bias, precision))


def _layer_norm(g: Writer, x: Tensor, weight: np.ndarray) -> Tensor:
    centred, epsilon = g.subtract(x, g.mean(x, -1)), 1e-5
    if g.rounds_to_half:
        # Squares of what runs through the layers reach 7 million, half precision ends at 65,504.
        centred, epsilon = g.multiply(centred, SHRUNK), SMALLEST_HALF
    variance = g.mean(g.multiply(centred, centred), -1)
    normal = g.multiply(centred, g.inverse_root(g.add(variance, epsilon)))
    return g.multiply(normal, g.constant(weight.astype(np.float32)))


def _rotary(g: Writer, inverse_frequencies: np.ndarray, longest: int, length: int) -> list[Tensor]:
    """Cosines and sines for the positions asked for, each [1, S, 1, ROTARY_DIMENSIONS / 2]."""
    positions = g.input("positions", length, dtype="int32")
    tables = rotary_tables(inverse_frequencies, longest)
    half = ROTARY_DIMENSIONS // 2
    rows = (g.look_up(table[0, :, 0], positions, "fp32") for table in tables)
    return [g.reshape(row, 1, -1, 1, half) for row in rows]


def _rotate(g: Writer, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary position embedding of x [1, S, heads, D], halves first."""
    half = ROTARY_DIMENSIONS // 2
    a, b, rest = g.split(x, -1, half, half, x.shape[-1] - ROTARY_DIMENSIONS)
    first = g.subtract(g.multiply(a, cosines), g.multiply(b, sines))
    second = g.add(g.multiply(b, cosines), g.multiply(a, sines))
    return g.concatenate(-1, first, second, rest)


def _projections(
    g: Writer,
    weights: Weights,
    attention: str,
    x: Tensor,
    cosines: Tensor,
    sines: Tensor,
    size: Architecture,
) -> tuple[Tensor, Tensor, Tensor]:
    """Each [1, H, S, D], the first two rotated."""
    y = g.linear(x, query_key_value(weights, attention, size.head_width))
    y = g.reshape(y, 1, -1, 3 * HEADS, size.head_width)
    both, value = g.split(y, 2, 2 * HEADS, HEADS)
    query, key = g.split(_rotate(g, both, cosines, sines), 2, HEADS, HEADS)
    return _heads_first(g, query), _heads_first(g, key), _heads_first(g, value)


def _heads_first(g: Writer, x: Tensor) -> Tensor:
    """[1, S, H, D] to [1, H, S, D] and back."""
    return g.transpose(x, 0, 2, 1, 3)


def _merged(g: Writer, x: Tensor, mixed: Tensor, weight: np.ndarray, size: Architecture) -> Tensor:
    """What attention found, [1, H, S, D], projected and added to x [1, S, width]."""
    return g.add(x, g.linear(g.reshape(_heads_first(g, mixed), 1, -1, size.width), weight))


def _encoder_attention(
    g: Writer,
    weights: Weights,
    prefix: str,
    x: Tensor,
    cosines: Tensor,
    sines: Tensor,
    mask: Tensor,
    size: Architecture,
) -> Tensor:
    attention = f"{prefix}self_attn."
    y = _layer_norm(g, x, weights[f"{prefix}input_layernorm.weight"])
    query, key, value = _projections(g, weights, attention, y, cosines, sines, size)
    shares = g.softmax(g.add(g.matmul(query, key, transposed=True), mask))
    return _merged(g, x, g.matmul(shares, value), weights[f"{attention}o_proj.weight"], size)


def _encoder_mlp(g: Writer, weights: Weights, prefix: str, x: Tensor) -> Tensor:
    y = _layer_norm(g, x, weights[f"{prefix}post_attention_layernorm.weight"])
    mlp = f"{prefix}mlp."
    y = g.gelu(g.linear(y, weights[f"{mlp}fc1.weight"], weights[f"{mlp}fc1.bias"]))
    return g.add(x, g.linear(y, weights[f"{mlp}fc2.weight"], weights[f"{mlp}fc2.bias"]))


def _cross_attention_cache(
    g: Writer, weights: Weights, layer: int, x: Tensor, size: Architecture
) -> None:
    prefix = f"decoder.layers.{layer}.encoder_attn."
    both = key_value(weights, prefix)
    y = g.reshape(g.linear(x, both), 1, -1, 2 * HEADS, size.head_width)
    key, value = g.split(y, 2, HEADS, HEADS)
    g.output(f"cross_k_{layer}", g.transpose(key, 0, 2, 3, 1))
    g.output(f"cross_v_{layer}", g.transpose(value, 0, 2, 1, 3))


def decoder(g: Writer, weights: Weights, bucket: Bucket, new: int) -> None:
    """Write the decoder of a bucket, for so many new tokens a run."""
    length, past = bucket.frames, bucket.places
    size = Architecture.of(weights)
    tokens = g.input("tokens", 1, new, dtype="int32")
    token_mask = g.input("token_mask", 1, 1, new, past + new)
    frame_mask = g.input("frame_mask", 1, 1, 1, length)
    cosines, sines = _rotary(g, weights["decoder.inv_freq"], MAXIMUM_TOKENS, new)
    x = g.look_up(weights["decoder.embed_tokens.weight"], tokens)
    for layer in range(size.decoder_layers):
        prefix = f"decoder.layers.{layer}."
        x = _self_attention(g, weights, layer, x, (cosines, sines, token_mask), past, size)
        x = _cross_attention(g, weights, layer, x, frame_mask, size)
        x = _decoder_mlp(g, weights, prefix, x)
    x = _layer_norm(g, x, weights["decoder.norm.weight"])
    _choose(g, g.linear(x, weights["decoder.proj_out.weight"]))


def _self_attention(
    g: Writer,
    weights: Weights,
    layer: int,
    x: Tensor,
    positions: tuple[Tensor, Tensor, Tensor],
    past: int,
    size: Architecture,
) -> Tensor:
    cosines, sines, mask = positions
    prefix = f"decoder.layers.{layer}."
    attention = f"{prefix}self_attn."
    y = _layer_norm(g, x, weights[f"{prefix}input_layernorm.weight"])
    query, key, value = _projections(g, weights, attention, y, cosines, sines, size)
    g.output(f"new_k_{layer}", key)
    g.output(f"new_v_{layer}", value)
    past_key = g.input(f"past_k_{layer}", 1, HEADS, past, size.head_width)
    past_value = g.input(f"past_v_{layer}", 1, HEADS, past, size.head_width)
    keys = g.concatenate(2, past_key, key)
    scores = g.add(g.matmul(query, keys, transposed=True), mask)
    mixed = g.matmul(g.softmax(scores), g.concatenate(2, past_value, value))
    return _merged(g, x, mixed, weights[f"{attention}o_proj.weight"], size)


def _cross_attention(
    g: Writer, weights: Weights, layer: int, x: Tensor, mask: Tensor, size: Architecture
) -> Tensor:
    prefix = f"decoder.layers.{layer}."
    attention = f"{prefix}encoder_attn."
    y = _layer_norm(g, x, weights[f"{prefix}post_attention_layernorm.weight"])
    scaled = weights[f"{attention}q_proj.weight"] * size.head_width**-0.5
    query = _heads_first(g, g.reshape(g.linear(y, scaled), 1, -1, HEADS, size.head_width))
    length = mask.shape[-1]
    key = g.input(f"cross_k_{layer}", 1, HEADS, size.head_width, length)
    value = g.input(f"cross_v_{layer}", 1, HEADS, length, size.head_width)
    shares = g.softmax(g.add(g.matmul(query, key), mask))
    g.output(f"attention_{layer}", shares)
    return _merged(g, x, g.matmul(shares, value), weights[f"{attention}o_proj.weight"], size)


def _decoder_mlp(g: Writer, weights: Weights, prefix: str, x: Tensor) -> Tensor:
    """The gated feed-forward layer (SwiGLU)."""
    mlp = f"{prefix}mlp."
    up, down = gated_names(weights, mlp)
    y = _layer_norm(g, x, weights[f"{prefix}final_layernorm.weight"])
    y = g.linear(y, weights[f"{mlp}{up}.weight"], weights[f"{mlp}{up}.bias"])
    inner = weights[f"{mlp}{down}.weight"].shape[0]
    value, gate = g.split(y, -1, inner, inner)
    y = g.multiply(g.multiply(gate, g.sigmoid(gate)), value)
    return g.add(x, g.linear(y, weights[f"{mlp}{down}.weight"], weights[f"{mlp}{down}.bias"]))


def _choose(g: Writer, logits: Tensor) -> None:
    """The greedy choice for each position and the logarithm of its probability."""
    g.output("next_token", g.index_of_largest(logits))
    rest = g.sum(g.exponential(g.subtract(logits, g.largest(logits, -1))), -1)
    g.output("log_probability", g.multiply(g.logarithm(rest), -1.0))
