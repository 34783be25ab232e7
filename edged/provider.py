"""The execution provider's contract: tensors on devices, and nothing of speech.

A provider plugin implements ExecutionProvider and Session. Importing the plugin must not import
its runtime; `probe` and `open` may, and they are called only in processes that can be lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import numpy as np


class Value(Protocol):
    """A tensor that stays where the runtime made it."""

    def numpy(self) -> np.ndarray:
        """A host array; over the runtime's own memory where that is on the host."""


Tensor = Any
"""What a run takes: a C-contiguous numpy array, read in place, or a Value from an earlier run."""


@dataclass(frozen=True, slots=True)
class Device:
    """One thing that a provider can run on."""

    name: str
    """Unique within its provider: cpu, gpu.0, npu"""
    kind: str
    """cpu, gpu, npu, tpu or dsp"""
    label: str = ""
    """For people: "Intel Core Ultra NPU" """


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str
    """numpy's word: float32, int64"""
    shape: tuple[int | None, ...]
    """None where it is open"""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to open a graph."""

    threads: int = 1
    """Threads for one operator; a provider for another device ignores it."""
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """`[providers.NAME]` of the configuration, as it stands there."""
    inspect: bool = False
    """Whether `Session.placement` is wanted, which may make opening slower."""


class Session(ABC):
    """A graph, loaded on one device. Used by one thread at a time."""

    device: Device
    """Where it runs in fact."""
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    placement: Mapping[str, int] = MappingProxyType({})
    """How many of the graph's operators run on each device, as the runtime itself says, for example
    {"npu": 250, "cpu": 12}; empty where it cannot tell, or was not asked to."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        """Run once and return the named outputs in their order.

        Arrays are read in place; one that is not C-contiguous or of the wrong dtype raises
        ProviderError, because it would have to be copied in secret. A returned Value can be fed
        to the next run without crossing into Python's memory.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the graph and what it holds on its device."""


class ExecutionProvider(ABC):
    """One inference runtime."""

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]]
    """File endings that it opens, e.g. {".onnx"}"""
    packages: ClassVar[Sequence[str]] = ()
    """Distributions any of which brings the runtime: its version is known without importing it"""

    @abstractmethod
    def version(self) -> str:
        """The runtime's version. Imports it."""

    @abstractmethod
    def probe(self) -> Sequence[Device]:
        """The devices that this runtime offers here, best first. Runs in a process of its own."""

    @abstractmethod
    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        """Load a graph on `device`, there and nowhere else, or raise ProviderError."""
