"""Sessions of ONNX Runtime: numpy arrays in place, outputs as the runtime's own values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edged.errors import ProviderError
from edged.provider import Device, ExecutionProvider, Session, SessionOptions, TensorSpec, Value

CPU = Device("cpu", "cpu", "CPU")
CUDA = Device("cuda", "gpu", "NVIDIA GPU, by CUDA")
_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
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
    """The `onnxruntime` package."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[frozenset[str]] = frozenset({".onnx"})
    packages: ClassVar[Sequence[str]] = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")

    def version(self) -> str:
        return str(_runtime().__version__)

    def probe(self) -> Sequence[Device]:
        available = _runtime().get_available_providers()
        return [device for device in (CUDA, CPU) if _PROVIDERS[device.name] in available]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        if device not in self.probe():
            raise ProviderError(
                f"onnxruntime has no device {device.name} here; it has: "
                + ", ".join(known.name for known in self.probe())
            )
        if options.precision == "bf16":
            raise ProviderError(
                f"onnxruntime does not compute float32's files in bf16 on {device.name}. "
                "Choose another engine.precision or engine.provider: edged probe",
                code="precision_unsupported",
            )
        kind = _OnnxSession if device == CPU else _BoundSession
        return kind(model, device, options)


def _runtime() -> Any:
    """Import the runtime, quietly and with its telemetry off."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}). Run: pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


class _OnnxSession(Session):
    def __init__(self, model: Path, device: Device, options: SessionOptions) -> None:
        runtime = _runtime()
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Idle pools that spin take the cores that the other sessions need: 57 % of a CPU at one
        # update per 300 ms against 20 %.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A memory plan is kept for every shape of input, and hardly two utterances have the same:
        # 30 MB more, and no faster.
        settings.enable_mem_pattern = False
        settings.log_severity_level = 3
        for key, value in options.extra.get("session", {}).items():
            settings.add_session_config_entry(key, str(value))
        if options.inspect:
            settings.add_session_config_entry(_RECORD_PLACEMENT, "1")
        wanted = _PROVIDERS[device.name]
        choices = {key: str(value) for key, value in options.extra.get(device.name, {}).items()}
        try:
            self._session = runtime.InferenceSession(
                str(model), settings, providers=[(wanted, choices)]
            )
        except Exception as error:  # the runtime raises types of its own
            raise ProviderError(f"onnxruntime cannot load {model}: {error}") from error
        if self._session.get_providers()[0] != wanted:
            raise ProviderError(f"onnxruntime took {self._session.get_providers()}, not {wanted}")
        self._from_numpy = runtime.OrtValue.ortvalue_from_numpy
        self._value = runtime.OrtValue
        self.device = device
        self.inputs = [_spec(argument) for argument in self._session.get_inputs()]
        self.outputs = [_spec(argument) for argument in self._session.get_outputs()]
        self._dtypes = {spec.name: np.dtype(spec.dtype) for spec in self.inputs}
        if options.inspect:
            self.placement = _placement(self._session)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        feeds = {name: self._feed(name, tensor) for name, tensor in inputs.items()}
        try:
            return list(self._session.run_with_ort_values(outputs, feeds))
        except Exception as error:
            raise ProviderError(f"onnxruntime failed: {error}") from error

    def _feed(self, name: str, tensor: Any) -> Any:
        """An OrtValue over the caller's memory; the runtime would copy a strided array silently."""
        if isinstance(tensor, self._value):
            return tensor
        if not tensor.flags.c_contiguous or tensor.dtype != self._dtypes.get(name):
            raise ProviderError(
                f"input {name} must be C-contiguous {self._dtypes.get(name)}, "
                f"is {tensor.dtype} with strides {tensor.strides}"
            )
        return self._from_numpy(tensor)

    def close(self) -> None:
        del self._session


class _BoundSession(_OnnxSession):
    """A session on another device: what it makes stays there until somebody asks for it."""

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        binding = self._session.io_binding()
        # Kept until the run is over: a binding does not keep what it is bound to.
        feeds = {name: self._feed(name, tensor) for name, tensor in inputs.items()}
        try:
            for name, value in feeds.items():
                binding.bind_ortvalue_input(name, value)
            for name in outputs:
                binding.bind_output(name, self.device.name)
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise ProviderError(f"onnxruntime failed: {error}") from error
        return list(binding.get_outputs())


def _placement(session: Any) -> Mapping[str, int]:
    """Operators by device; empty with an older runtime, which cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    devices = {provider: device for device, provider in _PROVIDERS.items()}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[devices.get(part.ep_name, part.ep_name)] += len(part.get_nodes())
    return dict(counts)


def _spec(argument: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in argument.shape)
    return TensorSpec(argument.name, _DTYPES.get(argument.type, argument.type), shape)
