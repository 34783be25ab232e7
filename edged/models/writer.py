"""What a graph of fixed shapes is written with, whatever file comes of it.

Every operator is a call that returns its output's tensor. `models/static_graph.py` says with them
what a Moonshine computes; each implementation knows one format and nothing of the model.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph."""

    index: int
    shape: Shape
    dtype: str
    """numpy's word"""


class Writer(ABC):
    """One graph, with its products' weights in one precision.

    The sizes of its tensors are those of a first choice: whoever runs the graph may give other
    ones, and the operators follow.
    """

    precision: str
    rounds_to_half: bool = False
    """Whether every operator's result has half precision, and not the weights alone"""
    product_bytes: int
    """Of the weights that its products read, scales included"""

    @abstractmethod
    def input(self, name: str, *shape: int, dtype: str = "float32") -> Tensor:
        """One that is given for every run."""

    @abstractmethod
    def output(self, name: str, tensor: Tensor) -> None:
        """Name a tensor that can be asked for."""

    @abstractmethod
    def constant(self, value: np.ndarray) -> Tensor: ...

    def add(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("add", a, b)

    def subtract(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("subtract", a, b)

    def multiply(self, a: Tensor, b: Tensor | float) -> Tensor:
        return self._binary("multiply", a, b)

    def tanh(self, x: Tensor) -> Tensor:
        return self._unary("tanh", x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return self._unary("sigmoid", x)

    def exponential(self, x: Tensor) -> Tensor:
        return self._unary("exponential", x)

    def logarithm(self, x: Tensor) -> Tensor:
        return self._unary("logarithm", x)

    @abstractmethod
    def gelu(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def inverse_root(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def softmax(self, x: Tensor) -> Tensor:
        """Along the last axis."""

    def mean(self, x: Tensor, axis: int) -> Tensor:
        """Along an axis, which stays with a size of 1; so do the other two."""
        return self._reduced("mean", x, axis)

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return self._reduced("sum", x, axis)

    def largest(self, x: Tensor, axis: int) -> Tensor:
        return self._reduced("largest", x, axis)

    @abstractmethod
    def index_of_largest(self, x: Tensor) -> Tensor:
        """Along the last axis, which goes; int32."""

    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """One size may be -1: what is left."""
        known = -math.prod(shape) if -1 in shape else 1
        whole = tuple(math.prod(x.shape) // known if size == -1 else size for size in shape)
        return self._reshape(x, shape, whole)

    def transpose(self, x: Tensor, *order: int) -> Tensor:
        return self._transpose(x, order, tuple(x.shape[axis] for axis in order))

    def slice(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """From `start` to before `stop`, which counts from the end where it is 0 or less.

        The other axes, and ends that count from the end, follow when an input is resized.
        """
        axis %= len(x.shape)
        size = (stop + x.shape[axis] if stop <= 0 else stop) - start
        return self._slice(x, axis, start, stop, _resized(x.shape, axis, size))

    def split(self, x: Tensor, axis: int, *sizes: int) -> list[Tensor]:
        """Parts of these sizes, one after the other."""
        axis %= len(x.shape)
        starts = np.cumsum([0, *sizes])
        return [
            self.slice(x, axis, int(start), int(start) + size)
            for start, size in zip(starts[:-1], sizes, strict=True)
        ]

    def concatenate(self, axis: int, *parts: Tensor) -> Tensor:
        axis %= len(parts[0].shape)
        size = sum(part.shape[axis] for part in parts)
        return self._concatenate(axis, parts, _resized(parts[0].shape, axis, size))

    @abstractmethod
    def matmul(self, a: Tensor, b: Tensor, transposed: bool = False) -> Tensor:
        """a [.., m, k] times b [.., k, n], or [.., n, k] where that is transposed."""

    @abstractmethod
    def look_up(self, table: np.ndarray, ids: Tensor, precision: str | None = None) -> Tensor:
        """Rows of a table, [*ids.shape, row]; in another precision than the graph's, if named."""

    @abstractmethod
    def linear(
        self,
        x: Tensor,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        precision: str | None = None,
    ) -> Tensor:
        """x [.., in] times weight [in, out], and a bias [out]."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the file, and its folder if there is none."""

    # -- how a format writes them -----------------------------------------------------------------

    words: ClassVar[Mapping[str, str]]
    """What the format calls each operator that needs nothing but its inputs, or an axis"""

    def _unary(self, name: str, x: Tensor) -> Tensor:
        return self._operator(self.words[name], [x], x.shape)

    def _binary(self, name: str, a: Tensor, b: Tensor | float) -> Tensor:
        if not isinstance(b, Tensor):
            b = self.constant(np.array(b, np.float32))
        return self._operator(self.words[name], [a, b], np.broadcast_shapes(a.shape, b.shape))

    def _reduced(self, name: str, x: Tensor, axis: int) -> Tensor:
        axis %= len(x.shape)
        return self._reduce(self.words[name], x, axis, _resized(x.shape, axis, 1))

    @abstractmethod
    def _operator(self, kind: str, inputs: Sequence[Tensor], shape: Shape) -> Tensor: ...

    @abstractmethod
    def _reduce(self, kind: str, x: Tensor, axis: int, shape: Shape) -> Tensor: ...

    @abstractmethod
    def _reshape(self, x: Tensor, asked: Shape, shape: Shape) -> Tensor:
        """`asked` may hold a -1, `shape` does not."""

    @abstractmethod
    def _transpose(self, x: Tensor, order: Shape, shape: Shape) -> Tensor: ...

    @abstractmethod
    def _slice(self, x: Tensor, axis: int, start: int, stop: int, shape: Shape) -> Tensor: ...

    @abstractmethod
    def _concatenate(self, axis: int, parts: Sequence[Tensor], shape: Shape) -> Tensor: ...


def _resized(shape: Shape, axis: int, size: int) -> Shape:
    """The shape with another size of one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])
