"""What a graph of fixed shapes is written with, whatever file comes of it.

Every operator is a call that returns its output's tensor. `models/static_graph.py` says with them
what a Moonshine computes; each implementation knows one format and nothing of the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph."""

    index: int
    shape: tuple[int, ...]
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

    @abstractmethod
    def add(self, a: Tensor, b: Tensor | float) -> Tensor: ...

    @abstractmethod
    def subtract(self, a: Tensor, b: Tensor | float) -> Tensor: ...

    @abstractmethod
    def multiply(self, a: Tensor, b: Tensor | float) -> Tensor: ...

    @abstractmethod
    def tanh(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def gelu(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def sigmoid(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def exponential(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def logarithm(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def inverse_root(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def softmax(self, x: Tensor) -> Tensor:
        """Along the last axis."""

    @abstractmethod
    def mean(self, x: Tensor, axis: int) -> Tensor:
        """Along an axis, which stays with a size of 1; so do the other two."""

    @abstractmethod
    def sum(self, x: Tensor, axis: int) -> Tensor: ...

    @abstractmethod
    def largest(self, x: Tensor, axis: int) -> Tensor: ...

    @abstractmethod
    def index_of_largest(self, x: Tensor) -> Tensor:
        """Along the last axis, which goes; int32."""

    @abstractmethod
    def reshape(self, x: Tensor, *shape: int) -> Tensor:
        """One size may be -1: what is left."""

    @abstractmethod
    def transpose(self, x: Tensor, *order: int) -> Tensor: ...

    @abstractmethod
    def slice(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """From `start` to before `stop`, which counts from the end where it is 0 or less.

        The other axes, and ends that count from the end, follow when an input is resized.
        """

    def split(self, x: Tensor, axis: int, *sizes: int) -> list[Tensor]:
        """Parts of these sizes, one after the other."""
        axis %= len(x.shape)
        starts = np.cumsum([0, *sizes])
        return [
            self.slice(x, axis, int(start), int(start) + size)
            for start, size in zip(starts[:-1], sizes, strict=True)
        ]

    @abstractmethod
    def concatenate(self, axis: int, *parts: Tensor) -> Tensor: ...

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
