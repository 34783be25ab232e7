"""Sessions of ONNX Runtime: numpy arrays in place, outputs as the runtime's own values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.errors import ProviderError
from edged.provider import (
    Device,
    ExecutionProvider,
    OperatorSpan,
    Session,
    SessionOptions,
    TensorSpec,
    Value,
)
from edged_onnxruntime import profile
from edged_onnxruntime.runtime import libraries_of, missing_library, native, offered, runtime
from edged_onnxruntime.targets import ON_CPU, TARGETS, Target, choices

_RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


class OnnxRuntime(ExecutionProvider):
    """The `onnxruntime` package, in any of its builds."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[frozenset[str]] = frozenset({".onnx"})
    concurrent: ClassVar[bool] = True
    packages: ClassVar[Sequence[str]] = (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-qnn",
        "onnxruntime-ep-openvino",
        "onnxruntime-rocm",
        "onnxruntime-migraphx",
        "onnxruntime-directml",
        "onnxruntime-training",
    )

    def version(self) -> str:
        return str(runtime().__version__)

    def probe(self) -> Sequence[Device]:
        return [target.device for target in offered()]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        target = next((known for known in offered() if known.device == device), None)
        if target is None:
            raise ProviderError(
                f"onnxruntime has no device {device.name} here; it has: "
                + ", ".join(known.device.name for known in offered())
            )
        if options.precision == "bf16":
            raise ProviderError(
                f"onnxruntime does not compute float32's files in bf16 on {device.name}. "
                "Choose another engine.precision or engine.provider: edged probe",
                code="precision_unsupported",
            )
        kind = _BoundSession if target.memory else _OnnxSession
        return kind(model, target, options)


class _OnnxSession(Session):
    def __init__(self, model: Path, target: Target, options: SessionOptions) -> None:
        self._memory = target.memory
        self._session = _load(model, target, options)
        self._native, self._wrapped = native(), runtime().OrtValue
        self._here = self._native.OrtDevice(
            self._native.OrtDevice.cpu(), self._native.OrtDevice.default_memory(), 0
        )
        self._how = runtime().RunOptions()
        self.device = target.device
        self.inputs = [_spec(argument) for argument in self._session.get_inputs()]
        self.outputs = [_spec(argument) for argument in self._session.get_outputs()]
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in self.inputs}
        self._is_profiled = options.profile is not None
        if options.inspect or target is not ON_CPU:
            self.placement = _placement(self._session, target)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        given, made = self._native.OrtValueVector(), self._native.OrtValueVector()
        for name, tensor in inputs.items():
            given.push_back(self._feed(name, tensor))
        homes = [self._here] * len(outputs)
        try:
            self._session.run_with_ortvaluevector(
                self._how, list(inputs), given, list(outputs), made, homes
            )
        except Exception as error:
            raise ProviderError(f"onnxruntime failed: {error}") from error
        # One by one: an iterator over a vector, as in run_with_ort_values, takes 45 us to make.
        return [made[number] for number in range(len(outputs))]

    def _feed(self, name: str, tensor: Any) -> Any:
        """The runtime's value over the caller's memory, which must live until the run is over; it
        would copy a strided array silently."""
        if isinstance(tensor, self._native.OrtValue):
            return tensor
        if isinstance(tensor, self._wrapped):
            return tensor._get_c_value()
        if not tensor.flags.c_contiguous or tensor.dtype != self._dtypes.get(name):
            raise ProviderError(
                f"input {name} must be C-contiguous {self._dtypes.get(name)}, "
                f"is {tensor.dtype} with strides {tensor.strides}"
            )
        return self._native.OrtValue.ortvalue_from_numpy(tensor, self._here)

    def profile(self) -> Sequence[OperatorSpan]:
        return profile.end(self._session) if self._is_profiled else ()

    def close(self) -> None:
        del self._session


class _BoundSession(_OnnxSession):
    """A session on another device: what it makes stays there until somebody asks for it."""

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        binding = self._session.io_binding()
        # Kept until the run is over: a binding does not keep what it is bound to.
        feeds = {name: self._wrap(name, tensor) for name, tensor in inputs.items()}
        try:
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, self._memory)
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise ProviderError(f"onnxruntime failed: {error}") from error
        return list(binding.get_outputs())

    def _wrap(self, name: str, tensor: Any) -> Any:
        """What a binding takes: the value in the runtime's Python class."""
        if isinstance(tensor, self._wrapped):
            return tensor
        return self._wrapped(self._feed(name, tensor))


def _load(model: Path, target: Target, options: SessionOptions) -> Any:
    """The runtime's session, on the target and not on another one. Raises ProviderError."""
    settings = _settings(target, options)
    if options.profile:
        profile.begin(settings, options.profile, model)
    chosen = choices(target, options)
    providers: list[Any] = [(target.provider, chosen)]
    beside = (known for known in TARGETS if known.provider == target.beside)
    providers += [(known.provider, choices(known, options)) for known in beside]
    try:
        if libraries := libraries_of(target):
            chosen.pop("device_type", None)  # the library's device says it
            settings.add_provider_for_devices(libraries[:1], chosen)
            providers = []
        session = runtime().InferenceSession(
            str(model), settings, providers=providers or None, enable_fallback=0
        )
    except Exception as error:  # the runtime raises types of its own
        reason = missing_library(target) or _said(error)
        raise ProviderError(
            f"onnxruntime cannot load {model} on {target.device.name}: {reason}"
        ) from error
    if session.get_providers()[0] != target.provider:
        reason = missing_library(target) or "it cannot be used here"
        raise ProviderError(
            f"onnxruntime took {', '.join(session.get_providers())}, not {target.provider}: "
            f"{reason}"
        )
    return session


def _settings(target: Target, options: SessionOptions) -> Any:
    settings = runtime().SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Idle pools that spin take the cores that the other sessions need: 57 % of a CPU at one
    # update per 300 ms against 20 %.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A memory plan is kept for every shape of input, and hardly two utterances have the same:
    # 30 MB more, and no faster.
    settings.enable_mem_pattern = False
    # An arena keeps what the longest utterance needed, for each that was recognised at once: 13 MB
    # more from the start, 225 against 165 to 190 MB after two of 20 s, which malloc can give back.
    # It is no faster up to 8 s, by 4 % at 15 s, by a quarter at 20 s.
    settings.enable_cpu_mem_arena = False
    settings.log_severity_level = 3
    for key, value in options.extra.get("session", {}).items():
        settings.add_session_config_entry(key, str(value))
    if options.inspect or target is not ON_CPU:
        settings.add_session_config_entry(_RECORD_PLACEMENT, "1")
    return settings


def _said(error: Exception) -> str:
    """What an exception says on one line, without the places in the runtime's own source."""
    words = " ".join(str(error).split())
    return re.sub(r"/\S+\.(cc|cpp|h):\d+( [^)]*\))?", "", words).strip()[:500]


def _placement(session: Any, target: Target) -> Mapping[str, int]:
    """Operators by device; empty with a runtime before 1.24, which cannot tell.

    Raises ProviderError where the target took none: ONNX Runtime leaves to the CPU whatever its
    execution provider does not take, be it everything.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    names = {known.provider: known.device.name for known in TARGETS}
    names[target.provider] = target.device.name
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[names.get(part.ep_name, part.ep_name)] += len(part.get_nodes())
    if counts and not counts[target.device.name]:
        raise ProviderError(
            f"{target.provider} takes none of the graph's {counts.total()} operators: all would "
            f"run on {', '.join(counts)}",
            code="on_cpu",
        )
    return dict(counts)


def _spec(argument: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, _DTYPES.get(argument.type, argument.type), shape)
