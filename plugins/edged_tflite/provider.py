"""Sessions of LiteRT: inputs are written into the interpreter's own tensors.

On the processor, by XNNPACK, one interpreter serves every shape: its weights stay packed while
its tensors are resized. Any other device is a delegate, a library that the configuration names:

    [providers.tflite.delegates.edgetpu]
    library = "libedgetpu.so.1"
    kind = "tpu"
    options = { device = "usb" }
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

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

CPU = Device("cpu", "cpu", "CPU, by XNNPACK", static=True)
_RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Module by distribution, the better one first: the second has the same interface and is no longer
made"""


class LiteRt(ExecutionProvider):
    """The `ai-edge-litert` package, or `tflite-runtime` where there is only that."""

    name: ClassVar[str] = "tflite"
    formats: ClassVar[frozenset[str]] = frozenset({".tflite"})
    packages: ClassVar[Sequence[str]] = tuple(_RUNTIMES)

    def version(self) -> str:
        _runtime()
        for distribution in _RUNTIMES:
            with suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version(distribution)
        return "unknown"

    def probe(self) -> Sequence[Device]:
        _runtime()
        return [CPU]

    def configured(self, extra: Mapping[str, Any]) -> Sequence[Device]:
        return [_device(name, delegate) for name, delegate in _delegates(extra).items()]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        if device == CPU:
            return _LiteSession(model, device, options)
        delegates = _delegates(options.extra)
        if device.name not in delegates:
            known = ", ".join([CPU.name, *delegates])
            raise ProviderError(f"tflite has no device {device.name} here; it has: {known}")
        return _DelegateSession(model, device, options, delegates[device.name])


def _runtime() -> Any:
    """The runtime's module. Raises ProviderError."""
    errors = []
    for module in _RUNTIMES.values():
        try:
            return importlib.import_module(module)
        except ImportError as error:
            errors.append(str(error))
    raise ProviderError(
        f"LiteRT cannot be imported ({'; '.join(errors)}). Run: pip install 'edged[tflite]'"
    )


def _delegates(extra: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configuration's delegates, by the name of their device. Raises ProviderError."""
    delegates = extra.get("delegates", {})
    for name, delegate in delegates.items():
        if name == CPU.name or not isinstance(delegate, dict) or "library" not in delegate:
            raise ProviderError(
                f"[providers.tflite.delegates.{name}] names no library, or takes the name of the "
                'processor. Write: library = "/path/to/delegate.so"'
            )
    return dict(delegates)


def _device(name: str, delegate: Mapping[str, Any]) -> Device:
    kind, library = str(delegate.get("kind", "npu")), str(delegate["library"])
    return Device(name, kind, f"what {library} drives", static=True)


class _LiteSession(Session):
    """A graph on the processor: one interpreter, resized where shapes change."""

    def __init__(self, model: Path, device: Device, options: SessionOptions) -> None:
        self.device = device
        self._model = model
        self._options = options
        self._made: list[weakref.ref[_Made]] = []
        self._written: dict[str, Callable[[], _Made | None]] = {}
        self._interpreter = self._load()
        self._inputs = {d["name"]: d for d in self._interpreter.get_input_details()}
        self._outputs = {d["name"]: d for d in self._interpreter.get_output_details()}
        self.inputs = [_spec(details) for details in self._inputs.values()]
        self.outputs = [_spec(details) for details in self._outputs.values()]
        self._results: dict[str, np.ndarray] = {}
        if options.inspect:
            self.placement = self._placement()

    def _load(self) -> Any:
        return self._interpreter_of(_runtime().OpResolverType.AUTO)

    def _interpreter_of(self, resolver: Any) -> Any:
        try:
            return _runtime().Interpreter(
                model_path=str(self._model),
                num_threads=self._options.threads,
                experimental_op_resolver_type=resolver,
            )
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ProviderError(f"tflite cannot load {self._model}: {reason}") from error

    def _placement(self) -> Mapping[str, int]:
        return {self.device.name: len(_operators(self._interpreter))}

    def _new_arrays(self, shapes: Mapping[str, Shape]) -> Mapping[str, np.ndarray]:
        self._keep_results()
        self._written = {}
        self._resize(shapes)
        arrays = {name: _view(self._interpreter, self._inputs[name]) for name in self._inputs}
        for array in arrays.values():
            # What lies there is anything: even where a mask is 0, 0 x NaN is NaN.
            array[...] = 0
        self._results = {name: _view(self._interpreter, d) for name, d in self._outputs.items()}
        return arrays

    def _resize(self, shapes: Mapping[str, Shape]) -> None:
        try:
            for name, shape in shapes.items():
                self._interpreter.resize_tensor_input(self._inputs[name]["index"], shape)
            self._allocate()
        except (RuntimeError, ValueError) as error:
            sizes = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            reason = " ".join(str(error).split())
            raise ProviderError(
                f"tflite cannot run {self._model.name}: {reason} (with {sizes})"
            ) from error

    def _allocate(self) -> None:
        self._interpreter.allocate_tensors()

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        strange = [name for name, tensor in inputs.items() if tensor is not self._arrays.get(name)]
        for name in strange:
            self._check(name, inputs[name])
        if any(_shape(inputs[name]) != _shape_of(self._arrays, name) for name in strange):
            inputs = {name: _apart(tensor) for name, tensor in inputs.items()}
            strange = list(inputs)
            self.arrays({name: tensor.shape for name, tensor in inputs.items()})
        for name in strange:
            self._write(name, inputs[name])
        self._keep_results()
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ProviderError(f"tflite failed: {error}") from error
        made = [_Made(self._results[name]) for name in outputs]
        self._made = [weakref.ref(value) for value in made]
        return list(made)

    def _write(self, name: str, tensor: Any) -> None:
        """Copy a tensor into the interpreter, unless it is the result that was copied last."""
        if isinstance(tensor, _Made):
            if self._written.get(name, _nobody)() is not tensor:
                self._arrays[name][...] = tensor.array
                self._written[name] = weakref.ref(tensor)
            return
        self._written.pop(name, None)
        self._arrays[name][...] = tensor

    def _check(self, name: str, tensor: Any) -> None:
        """Raise ProviderError where a tensor would have to be converted."""
        wanted = np.dtype(self._inputs[name]["dtype"])
        array = tensor.array if isinstance(tensor, _Made) else tensor
        if array.dtype != wanted or not array.flags.c_contiguous:
            raise ProviderError(
                f"input {name} must be C-contiguous {wanted}, "
                f"is {array.dtype} with strides {array.strides}"
            )

    def _keep_results(self) -> None:
        """Copy those of the last run that are still wanted: the next writes over them."""
        for reference in self._made:
            if value := reference():
                value.keep()
        self._made = []

    def close(self) -> None:
        self._keep_results()
        self._arrays = {}
        self._results = {}
        del self._interpreter


class _DelegateSession(_LiteSession):
    """A graph on a delegate's device: one interpreter for each set of shapes, because a device may
    compile for minutes. What the delegate does not take runs on the processor, and is counted."""

    def __init__(
        self, model: Path, device: Device, options: SessionOptions, delegate: Mapping[str, Any]
    ) -> None:
        self._delegate = _load_delegate(device, delegate)
        self._ready: dict[tuple[tuple[str, Shape], ...], Any] = {}
        super().__init__(model, device, options)

    def _load(self) -> Any:
        # With the default delegate, XNNPACK would take everything first.
        return self._interpreter_of(_runtime().OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)

    def _placement(self) -> Mapping[str, int]:
        before = len(_operators(self._interpreter))
        self._resize({name: _fixed(details) for name, details in self._inputs.items()})
        return placement(_operators(self._interpreter), before, self.device.name)

    def _resize(self, shapes: Mapping[str, Shape]) -> None:
        key = tuple(sorted(shapes.items()))
        if key not in self._ready:
            self._interpreter = self._load()
            super()._resize(shapes)
            self._ready[key] = self._interpreter
        self._interpreter = self._ready[key]

    def _allocate(self) -> None:
        # Only now: a graph that a delegate holds cannot be resized.
        pointer = self._delegate._get_native_delegate_pointer()
        self._interpreter._interpreter.ModifyGraphWithDelegate(pointer)
        super()._allocate()

    def close(self) -> None:
        super().close()
        self._ready = {}


class _Made:
    """A result, which lies in the interpreter until that runs again."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self._is_kept = False

    def keep(self) -> None:
        """Have a copy of one's own."""
        if not self._is_kept:
            self.array = self.array.copy()
            self._is_kept = True

    def numpy(self) -> np.ndarray:
        """A copy, because who holds the array is not known."""
        self.keep()
        return self.array


def _nobody() -> None:
    return None


def _shape(tensor: Any) -> Shape:
    shape: Shape = (tensor.array if isinstance(tensor, _Made) else tensor).shape
    return shape


def _shape_of(arrays: Mapping[str, np.ndarray], name: str) -> Shape | None:
    return arrays[name].shape if name in arrays else None


def _apart(tensor: Any) -> np.ndarray:
    """A copy: the memory of what lies in the interpreter goes when that is resized."""
    return np.array(tensor.array if isinstance(tensor, _Made) else tensor)


def _spec(details: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(details["name"], np.dtype(details["dtype"]).name, _fixed(details))


def _fixed(details: Mapping[str, Any]) -> Shape:
    """The shape that the file says; another can be had."""
    return tuple(int(size) for size in details["shape"])


def _view(interpreter: Any, details: Mapping[str, Any]) -> np.ndarray:
    """The interpreter's own memory of a tensor.

    By its address: the runtime refuses to run while an array of its own making is alive.
    """
    array = interpreter.tensor(details["index"])()
    memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def _load_delegate(device: Device, delegate: Mapping[str, Any]) -> Any:
    library = str(delegate["library"])
    options = {str(key): str(value) for key, value in delegate.get("options", {}).items()}
    try:
        ctypes.CDLL(library)  # the runtime's own error leaves a half-made delegate behind
        return _runtime().load_delegate(library, options)
    except (OSError, ValueError, AttributeError) as error:
        raise ProviderError(
            f"tflite cannot use {library} as the delegate {device.name}: {error}. "
            f"Set [providers.tflite.delegates.{device.name}]"
        ) from error


def _operators(interpreter: Any) -> list[dict[str, Any]]:
    operators: list[dict[str, Any]] = interpreter._get_ops_details()
    return operators


def placement(operators: Sequence[Mapping[str, Any]], before: int, device: str) -> dict[str, int]:
    """How many of the graph's operators run on the device and on the processor.

    Of `operators` the first `before` are the graph's and the rest stand for what the delegate
    took: all on the way back from their outputs to their inputs.
    """
    maker = {int(o): n for n, op in enumerate(operators[:before]) for o in op["outputs"]}
    taken: set[int] = set()
    for stand_in in operators[before:]:
        given = {int(tensor) for tensor in stand_in["inputs"]}
        waiting = [int(tensor) for tensor in stand_in["outputs"]]
        while waiting:
            tensor = waiting.pop()
            number = maker.get(tensor)
            if tensor in given or number is None or number in taken:
                continue
            taken.add(number)
            waiting += [int(source) for source in operators[number]["inputs"]]
    counts = {device: len(taken), "cpu": before - len(taken)}
    return {name: count for name, count in counts.items() if count}
