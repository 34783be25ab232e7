"""Weights as numbers of 8 or 4 bits, in blocks that share a scale and a zero point.

Rounded to the nearest, 4 bits lose what 8 do not. Where it is known what a weight will be
multiplied with, the error of each input's numbers is made up for by those of the inputs after it,
so that the products change least: GPTQ (Frantar et al. 2022, arXiv:2210.17323), with the inputs in
their order.
"""

from __future__ import annotations

import numpy as np

from edged.models.grid import steps

BLOCK = 32
"""Weights that share a scale in `MatMulNBits`."""
DAMPING = 1.0
"""Added to the moments' diagonal, as a share of its mean. A minute of speech, which is what a build
has, shows a decoder no more rows than it has inputs: with the usual 0.01 they are learnt by heart.
Divergence of tiny-en's choices from float32's, over recordings that were not calibrated with:
rounded 0.0079 nats, with 0.01 0.0075, 0.1 0.0039, 1.0 0.0036 (8 bits: 0.0001)"""

Quantized = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Numbers [out, blocks, BLOCK], one a byte; scales and zero points [out, blocks]"""


def block_quantize(
    weight: np.ndarray, bits: int = 8, moment: np.ndarray | None = None
) -> Quantized:
    """A weight [in, out] in so many bits; `moment` [in, in] is the mean outer product of what it
    will be multiplied with.

    A block of 8 bits whose output lies on a grid keeps its steps, and nothing is lost.
    """
    inputs, outputs = weight.shape
    padded = np.zeros((outputs, -(-inputs // BLOCK) * BLOCK), np.float32)
    padded[:, :inputs] = weight.T
    if moment is None:
        blocks = padded.reshape(outputs, -1, BLOCK)
        scale, zero = _scales(blocks, bits, steps(weight.T) if bits == 8 else None)
        values = _rounded(blocks, scale[..., None], zero[..., None], bits)
    else:
        values, scale, zero = _compensated(padded, moment, bits)
    return values.astype(np.uint8), scale, zero.astype(np.uint8)


def _scales(
    blocks: np.ndarray, bits: int, step: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points with which blocks [out, n, BLOCK] fit; `step` [out] is their grid's, 0
    where there is none."""
    low = np.minimum(blocks.min(axis=-1), 0)
    high = np.maximum(blocks.max(axis=-1), 0)
    largest = 2**bits - 1
    scale = np.maximum((high - low) / largest, 1e-10)
    if step is not None:
        step = step[:, None]
        scale = np.where((step > 0) & (high - low <= (largest + 0.5) * step), step, scale)
    scale = scale.astype(np.float32)
    return scale, np.clip(np.round(-low / scale), 0, largest)


def _rounded(numbers: np.ndarray, scale: np.ndarray, zero: np.ndarray, bits: int) -> np.ndarray:
    return np.asarray(np.clip(np.round(numbers / scale) + zero, 0, 2**bits - 1))


def _compensated(weight: np.ndarray, moment: np.ndarray, bits: int) -> Quantized:
    """A padded weight [out, in]: block by block, each after what those before it have lost."""
    inputs = weight.shape[1]
    left = weight.astype(np.float64)
    pull = _pull(moment, inputs)
    parts = []
    for first in range(0, inputs, BLOCK):
        here, after = slice(first, first + BLOCK), slice(first + BLOCK, inputs)
        values, scale, zero, errors = _compensated_block(left[:, here], pull[here, here], bits)
        left[:, after] -= errors @ pull[here, after]
        parts.append((values, scale, zero))
    values, scale, zero = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return values, scale, zero


def _pull(moment: np.ndarray, inputs: int) -> np.ndarray:
    """How an error in one input is made up for by those after it: the upper Cholesky factor of the
    damped moments' inverse, [inputs, inputs]."""
    damped = np.zeros((inputs, inputs))
    damped[: len(moment), : len(moment)] = moment
    damped[np.diag_indices(inputs)] += max(DAMPING * float(np.diag(moment).mean()), 1e-10)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).T)


def _compensated_block(
    left: np.ndarray, pull: np.ndarray, bits: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of one block [out, BLOCK]: numbers, scales [out], zero points [out], and the errors that what
    comes after has to make up for [out, BLOCK]."""
    (scale,), (zero,) = (part.T for part in _scales(left[:, None], bits))
    values, errors = np.zeros_like(left), np.zeros_like(left)
    for column in range(BLOCK):
        values[:, column] = _rounded(left[:, column], scale, zero, bits)
        restored = (values[:, column] - zero) * scale
        errors[:, column] = (left[:, column] - restored) / pull[column, column]
        left[:, column + 1 :] -= np.outer(errors[:, column], pull[column, column + 1 :])
    return values, scale, zero, errors
