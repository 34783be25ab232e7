"""The execution provider's contract: tensors on devices, and nothing of speech.

A provider plugin implements ExecutionProvider and Session. Importing the plugin must not import
its runtime; `probe` and `open` may, and they are called only in processes that can be lost.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edged.errors import ProviderError

if TYPE_CHECKING:
    import numpy as np


class Value(Protocol):
    """A tensor that stays where the runtime made it."""

    def numpy(self) -> np.ndarray:
        """A host array; over the runtime's own memory where that is on the host."""


Shape = tuple[int, ...]
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
    static: bool = False
    """Whether it takes only graphs whose shapes are all fixed"""
    computes: tuple[str, ...] = ()
    """Precisions that no file is in, but that it computes float32's files in when told: bf16"""
    compiles: bool = False
    """Whether other shapes cost it seconds or much memory: few are used then, and almost all of
    them from the start"""


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
    precision: str = "fp32"
    """The rung's: fp32, fp16, bf16, int8 or int4. The graph is stored in it; a runtime that
    chooses itself in what it computes is told."""
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    """`[providers.NAME]` of the configuration, as it stands there."""
    inspect: bool = False
    """Whether `Session.placement` is wanted, which may make opening slower."""
    cache: Path | None = None
    """Folder of this provider's own for what it compiles. It need not exist yet, and may not be
    writable: then it is compiled anew each time."""
    profile: Path | None = None
    """Folder for files of the runtime's, where `Session.profile` is wanted, which may make runs
    slower."""


@dataclass(frozen=True, slots=True)
class OperatorSpan:
    """One operator of a graph, in one run."""

    name: str
    """In the graph"""
    kind: str
    """Its type: MatMul"""
    start: int
    """CLOCK_MONOTONIC, nanoseconds"""
    end: int
    """The same"""
    thread: int = 0
    """The kernel's number of the one that ran the graph; 0 where it is always one at a time"""


class Session(ABC):
    """A graph, loaded on one device. Used by one thread at a time, not always the same, unless its
    provider is `concurrent`."""

    device: Device
    """Where it runs in fact."""
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    placement: Mapping[str, int] = MappingProxyType({})
    """How many of the graph's operators run on each device, as the runtime itself says, for example
    {"npu": 250, "cpu": 12}; empty where it cannot tell, or was not asked to."""

    _arrays: Mapping[str, np.ndarray] = MappingProxyType({})

    def arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        """Inputs of these shapes, to be written in place and run on: the runtime's own memory where
        that can be had, so that nothing is copied.

        The same shapes give the same arrays, with what was written last. Others give new ones,
        which hold zeros, and the old ones must not be used any more.
        """
        if {name: array.shape for name, array in self._arrays.items()} != dict(shapes):
            self._arrays = self._new_arrays(shapes)
        return self._arrays

    def _new_arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        import numpy as np

        dtypes = {spec.name: spec.dtype for spec in self.inputs}
        return {name: np.zeros(shape, dtypes[name]) for name, shape in shapes.items()}

    @abstractmethod
    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        """Run once and return the named outputs in their order.

        Arrays are read in place; one that is not C-contiguous or of the wrong dtype raises
        ProviderError, because it would have to be copied in secret. A returned Value can be fed
        to the next run without crossing into Python's memory.
        """

    def loop(self, carried: Mapping[str, str], axis: int) -> Loop:
        """Begin to run on what it makes itself: a runtime that can keeps that inside.

        `carried` maps inputs to the outputs that are their next values; these grow along `axis`
        from nothing.
        """
        return Loop(self, carried, axis)

    def places(self, carried: Mapping[str, str], axis: int) -> Places:
        """The same for a graph of fixed shapes, whose outputs are only what is new: a runtime that
        can keeps the rest inside. All runs of the session go through it from then on.

        `carried` maps inputs to the outputs that are new in them; these have places along `axis`.
        """
        return Places(self, carried, axis)

    def profile(self) -> Sequence[OperatorSpan]:
        """What its operators have done since it was opened with `SessionOptions.profile`, in the
        order in which they began; nothing where the runtime cannot tell. Asked once, while no run
        is under way: later ones are not profiled. Where it tells only how long they took, they
        stand in a row from the start of their run."""
        return ()

    @abstractmethod
    def close(self) -> None:
        """Free the graph and what it holds on its device."""


class Loop:
    """Runs of a graph, each of which goes on from what the last one made: a cache of keys and
    values, which stays where the runtime made it."""

    def __init__(self, session: Session, carried: Mapping[str, str], axis: int) -> None:
        self._session = session
        self._carried = carried
        self._axis = axis
        self._state: dict[str, Tensor] = {
            spec.name: _nothing(spec, axis) for spec in session.inputs if spec.name in carried
        }

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Value]:
        """`Session.run`, with what is carried left out on both sides."""
        wanted = [*outputs, *(self._carried[name] for name in self._state)]
        made = self._session.run({**inputs, **self._state}, wanted)
        self._state = dict(zip(self._state, made[len(outputs) :], strict=True))
        return made[: len(outputs)]

    def shorten(self, length: int) -> None:
        """Forget what was carried from position `length` of the axis on: the one copy."""
        import numpy as np

        kept = (slice(None),) * self._axis + (slice(length),)
        self._state = {
            name: np.ascontiguousarray(value.numpy()[kept]) for name, value in self._state.items()
        }


class Places:
    """A cache of a fixed size, of which a graph reads all and returns what is new; here it lies in
    the session's own inputs."""

    def __init__(self, session: Session, carried: Mapping[str, str], axis: int) -> None:
        self._session = session
        self._carried = carried
        self._axis = axis
        self._arrays: Mapping[str, np.ndarray] = {}

    def arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        """`Session.arrays`: of all inputs' shapes, those to be written."""
        self._arrays = self._session.arrays(shapes)
        return {name: a for name, a in self._arrays.items() if name not in self._carried}

    def run(
        self, inputs: Mapping[str, Tensor], outputs: Sequence[str], first: int, count: int
    ) -> list[Value]:
        """`Session.run` on what is in its places; of what is new, `count` take those from `first`
        on."""
        caches = {name: self._arrays[name] for name in self._carried}
        made = self._session.run({**inputs, **caches}, [*outputs, *self._carried.values()])
        for name, value in zip(self._carried, made[len(outputs) :], strict=True):
            self._arrays[name][self._from(first, first + count)] = value.numpy()[
                self._from(0, count)
            ]
        return made[: len(outputs)]

    def take(self, other: Places, first: int, last: int) -> None:
        """Copy places from another session's cache of the same shapes."""
        for name in self._carried:
            self._arrays[name][self._from(first, last)] = other.held(name)[self._from(first, last)]

    def held(self, name: str) -> np.ndarray:
        """All places of an input."""
        return self._arrays[name]

    def _from(self, first: int, last: int) -> tuple[slice, ...]:
        return (slice(None),) * self._axis + (slice(first, last),)


def _nothing(spec: TensorSpec, axis: int) -> np.ndarray:
    import numpy as np

    shape = [0 if number == axis else size or 1 for number, size in enumerate(spec.shape)]
    return np.zeros(shape, spec.dtype)


class ExecutionProvider(ABC):
    """One inference runtime."""

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]]
    """File endings that it opens, e.g. {".onnx"}, on any device"""
    concurrent: ClassVar[bool] = False
    """Whether several threads may run one session, each for itself, at the same time"""
    packages: ClassVar[Sequence[str]] = ()
    """Distributions any of which brings the runtime: its version is known without importing it"""

    def installed(self) -> Sequence[str]:
        """Those of `packages` that are there, with their versions; nothing is imported."""
        found = []
        for name in self.packages:
            with suppress(importlib.metadata.PackageNotFoundError):
                found.append(f"{name} {importlib.metadata.version(name)}")
        return found

    @abstractmethod
    def version(self) -> str:
        """The runtime's version. Imports it."""

    @abstractmethod
    def probe(self) -> Sequence[Device]:
        """The devices that this runtime offers here, best first. Runs in a process of its own."""

    def formats_on(self, device: str) -> frozenset[str]:
        """File endings that it opens on the device of this name. Imports no runtime."""
        return self.formats

    def configured(self, extra: Mapping[str, Any]) -> Sequence[Device]:
        """Devices that `[providers.NAME]` of the configuration adds to them."""
        return ()

    @abstractmethod
    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        """Load a graph on `device`, there and nowhere else, or raise ProviderError."""


def devices(provider: ExecutionProvider, extra: Mapping[str, Any]) -> list[Device]:
    """What a provider offers here, and what `[providers.NAME]` of the configuration adds to it."""
    return [*provider.probe(), *(provider.configured(extra) if extra else ())]


class Opener:
    """Loads graphs on one device of a provider, as a rung wants it."""

    def __init__(
        self,
        provider: ExecutionProvider,
        device: Device,
        options: SessionOptions | None = None,
        parallel_threads: int = 1,
    ) -> None:
        """`parallel_threads` are for graphs whose operators are large, `options.threads` for the
        others."""
        self._provider = provider
        self.device = device
        self._options = options or SessionOptions()
        self._parallel_threads = parallel_threads
        self.formats = provider.formats_on(device.name)
        self.static = device.static
        self.compiles = device.compiles
        self.concurrent = provider.concurrent

    def __call__(self, path: Path, parallel: bool) -> Session:
        """Load a graph there and nowhere else. Raises ProviderError."""
        threads = self._parallel_threads if parallel else self._options.threads
        session = self._provider.open(path, self.device, replace(self._options, threads=threads))
        if session.device.name != self.device.name:
            raise ProviderError(
                f"{self._provider.name} runs {path.name} on {session.device.name}, "
                f"not on {self.device.name}"
            )
        return session
