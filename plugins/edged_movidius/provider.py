"""OpenVINO 2021.4.2 as an execution provider: the last release that drives a Myriad X.

It knows Pythons up to 3.9 only, so its graphs run in a process of such a Python (`remote.py`).
Tensors lie in memory that both processes have. Devices:

    myriad  the stick, with all of every graph
    mixed   the stick, but this release's processor device for graphs that are fed much: all that
            goes to the stick goes over USB
    cpu     this release's processor device, for everything

One process for all sessions: a stick can be opened by one only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged import workers
from edged.errors import ProviderError
from edged.provider import (
    Device,
    ExecutionProvider,
    Session,
    SessionOptions,
    Shape,
    TensorSpec,
    Value,
)
from edged_movidius.remote import Remote, SharedTensors

NAME = "movidius"
PACKAGE = "openvino"
STICK = "MYRIAD"
PROCESSOR = "CPU"
MYRIAD = Device("myriad", "npu", "Neural Compute Stick 2", static=True, compiles=True)
MIXED = Device("mixed", "npu", "Neural Compute Stick 2 and CPU", static=True, compiles=True)
CPU = Device("cpu", "cpu", "CPU, by OpenVINO 2021.4", static=True, compiles=True)
BYTES = 2
"""Of a number on its way to the stick"""
MUCH = 1 << 17
"""Bytes that a run is fed in the file's own sizes, which are those of a second of audio: 34 KB of
samples for an encoder, 500 KB of keys and values for one token of a decoder"""


class Movidius(ExecutionProvider):
    """The `openvino` package, 2021.4.2, in the environment of `edged workers create movidius` or in
    the one that `[workers.movidius]` names."""

    name: ClassVar[str] = NAME
    formats: ClassVar[frozenset[str]] = frozenset({".onnx11"})
    packages: ClassVar[Sequence[str]] = (PACKAGE,)

    def __init__(self) -> None:
        self._remote: Remote | None = None
        self._named: Path | None = None
        """The Python that the configuration names, once it did"""

    @property
    def _python(self) -> Path | None:
        return self._named or workers.python_of(NAME)

    def installed(self) -> Sequence[str]:
        version = workers.packages_of(self._python).get(PACKAGE) if self._python else None
        return [f"{PACKAGE} {version}"] if version else []

    def version(self) -> str:
        """Empty where there is no Python for it: a machine without a stick lacks nothing."""
        return str(self._host().ask("devices")["version"]) if self._python else ""

    def probe(self) -> Sequence[Device]:
        """None where there is no Python for it."""
        if not self._python:
            return ()
        # One of several sticks has its place in its name: MYRIAD.1.2-ma2480.
        found = {name.partition(".")[0] for name in self._host().ask("devices")["devices"]}
        return [MYRIAD, MIXED, CPU] if STICK in found else [CPU]

    def configured(self, extra: Mapping[str, Any]) -> Sequence[Device]:
        """What the Python that the configuration names has beside that."""
        known = self.probe()
        self._take(extra)
        return [device for device in self.probe() if device not in known]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        self._take(options.extra)
        return _RemoteSession(self._host(), model, device, options)

    def _take(self, extra: Mapping[str, Any]) -> None:
        named = Path(extra["python"]) if "python" in extra else self._named
        if named != self._named and self._remote:
            self._remote.end()
            self._remote = None
        self._named = named

    def _host(self) -> Remote:
        """The process, started when it is first needed. Raises ProviderError."""
        if self._python is None:
            raise ProviderError(
                "OpenVINO 2021.4.2 needs a Python of its own. Run: edged workers create movidius",
                code="no_worker",
            )
        if self._remote is None:
            self._remote = Remote(self._python)
        return self._remote


@dataclass(frozen=True, slots=True)
class _Form:
    """The graph, compiled for one choice of shapes, and the memory that it works in."""

    number: int
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


class _Made:
    """A result, apart from the memory that the next run writes into."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


class _RemoteSession(Session):
    """A graph in the other process, compiled for each choice of shapes that was asked for."""

    def __init__(
        self, remote: Remote, model: Path, device: Device, options: SessionOptions
    ) -> None:
        self.device = device
        self._remote = remote
        opened = remote.ask("open", path=str(model))
        self._number = opened["session"]
        self.inputs = _specs(opened["inputs"])
        self.outputs = _specs(opened["outputs"])
        self._engine = _engine(device, self.inputs)
        # Left to itself, its processor device computes in bfloat16 where it can.
        on_processor = {"CPU_THREADS_NUM": str(options.threads), "ENFORCE_BF16": "NO"}
        self._settings = on_processor if self._engine == PROCESSOR else {}
        if options.inspect:
            self.placement = self._placement()
        self._forms: dict[tuple[tuple[str, Shape], ...], _Form] = {}
        self._form: _Form | None = None
        self._fed: dict[str, _Made] = {}
        """Results that lie in the inputs still"""

    def _placement(self) -> Mapping[str, int]:
        answer = self._remote.ask("operators", session=self._number, device=self._engine)
        return {(CPU if self._engine == PROCESSOR else self.device).name: answer["count"]}

    def _new_arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        key = tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
        if key not in self._forms:
            self._forms[key] = self._compile(shapes)
        self._form = self._forms[key]
        self._fed = {}
        for array in self._form.inputs.values():
            array[...] = 0
        return self._form.inputs

    def _compile(self, shapes: Mapping[str, Shape]) -> _Form:
        answer = self._remote.ask(
            "compile",
            session=self._number,
            device=self._engine,
            settings=self._settings,
            shapes=shapes,
        )
        dtypes = {spec.name: spec.dtype for spec in self.inputs}
        inputs = {name: (dtypes[name], tuple(shape)) for name, shape in shapes.items()}
        outputs = {
            name: (dtype, tuple(shape)) for name, (dtype, shape) in answer["outputs"].items()
        }
        shared = SharedTensors({**inputs, **outputs})
        shared.give(self._remote, answer["form"])
        return _Form(
            answer["form"],
            {name: shared.arrays[name] for name in inputs},
            {name: shared.arrays[name] for name in outputs},
        )

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        strange = {name: t for name, t in inputs.items() if t is not self._arrays.get(name)}
        for name, tensor in strange.items():
            self._check(name, _array(tensor))
        if any(_array(t).shape != self._shape(name) for name, t in strange.items()):
            inputs = {name: _apart(tensor) for name, tensor in inputs.items()}
            strange = dict(inputs)
            self.arrays({name: _array(tensor).shape for name, tensor in inputs.items()})
        for name, tensor in strange.items():
            self._write(name, tensor)
        assert self._form, "arrays() compiles"
        self._remote.ask("run", form=self._form.number)
        return [_Made(self._form.outputs[name].copy()) for name in outputs]

    def _shape(self, name: str) -> Shape | None:
        return self._arrays[name].shape if name in self._arrays else None

    def _check(self, name: str, array: np.ndarray) -> None:
        """Raise ProviderError where a tensor would have to be converted."""
        wanted = next((spec.dtype for spec in self.inputs if spec.name == name), None)
        if wanted is None:
            raise ProviderError(f"the graph has no input {name}")
        if array.dtype != wanted or not array.flags.c_contiguous:
            raise ProviderError(
                f"input {name} must be C-contiguous {wanted}, "
                f"is {array.dtype} with strides {array.strides}"
            )

    def _write(self, name: str, tensor: Any) -> None:
        """Copy a tensor to where it is read, unless it is the result that was copied last."""
        if isinstance(tensor, _Made):
            if self._fed.get(name) is not tensor:
                self._arrays[name][...] = tensor.array
                self._fed[name] = tensor
            return
        self._fed.pop(name, None)
        self._arrays[name][...] = tensor

    def close(self) -> None:
        self._forms, self._form, self._arrays, self._fed = {}, None, {}, {}
        self._remote.ask("close", session=self._number)


def _specs(described: Mapping[str, Any]) -> list[TensorSpec]:
    return [TensorSpec(name, dtype, tuple(shape)) for name, (dtype, shape) in described.items()]


def _engine(device: Device, inputs: Sequence[TensorSpec]) -> str:
    """The Inference Engine's device for a graph."""
    if device.name == CPU.name:
        return PROCESSOR
    fed = sum(math.prod(size or 1 for size in spec.shape) * BYTES for spec in inputs)
    return PROCESSOR if device.name == MIXED.name and fed > MUCH else STICK


def _array(tensor: Any) -> np.ndarray:
    return tensor.array if isinstance(tensor, _Made) else tensor


def _apart(tensor: Any) -> Any:
    """The same in memory of its own: other shapes give other arrays."""
    return tensor if isinstance(tensor, _Made) else tensor.copy()
