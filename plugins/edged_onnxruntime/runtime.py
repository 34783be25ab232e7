"""The `onnxruntime` package, and what it can run on here."""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from edged.errors import ProviderError
from edged_onnxruntime.targets import ON_CUDA, TARGETS, Target


@functools.cache
def runtime() -> Any:
    """Import it, quietly, with its telemetry off and what belongs to it. Raises ProviderError."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError(
            f"onnxruntime cannot be imported ({error}). Run: pip install onnxruntime"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "onnxruntime is there in part only, as uninstalling one of two wheels that lay over "
            "each other leaves it. Run: pip install --force-reinstall onnxruntime"
        )
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(3)
    if ON_CUDA.provider in onnxruntime.get_available_providers():
        _load_cuda(onnxruntime)
    for module in sorted({t.module for t in TARGETS if t.module}):
        _register(onnxruntime, module)
    return onnxruntime


def native() -> Any:
    """The runtime's own types, which its Python classes wrap."""
    runtime()
    from onnxruntime.capi import _pybind_state

    return _pybind_state


def _load_cuda(onnxruntime: ModuleType) -> None:
    """CUDA's and cuDNN's libraries from NVIDIA's packages, which no linker looks through."""
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()


def _register(onnxruntime: ModuleType, module: str) -> None:
    """Let it know an execution provider that comes as a library of its own, where one is there."""
    if importlib.util.find_spec(module) is None:
        return
    provider = next(target.provider for target in TARGETS if target.module == module)
    if provider in onnxruntime.get_available_providers():
        return
    try:
        library = importlib.import_module(module).get_library_path()
        onnxruntime.register_execution_provider_library(provider, library)
    except Exception as error:  # the runtime raises types of its own
        raise ProviderError(f"onnxruntime cannot load {module}: {error}") from error


def offered() -> Sequence[Target]:
    """What the installed runtime knows, and of OpenVINO's devices those that are there."""
    available = runtime().get_available_providers()
    return [t for t in TARGETS if t.provider in available and _is_there(t)]


def _is_there(target: Target) -> bool:
    return target.openvino is None or target.openvino in _openvino_devices()


@functools.cache
def _openvino_devices() -> frozenset[str]:
    """OpenVINO's own list; of several of a kind (GPU.0, GPU.1) its name for any of them."""
    if hasattr(native(), "get_available_openvino_device_ids"):
        names = native().get_available_openvino_device_ids()
    else:
        names = [found.ep_metadata.get("ov_device", "") for found in runtime().get_ep_devices()]
    return frozenset(name.partition(".")[0] for name in names)


def libraries_of(target: Target) -> Sequence[Any]:
    """The runtime's handles of a device whose execution provider is a library of its own: those
    of the right kind, else all; none for one that is built in."""
    if target.module is None or not hasattr(runtime(), "get_ep_devices"):
        return []
    found = [known for known in runtime().get_ep_devices() if known.ep_name == target.provider]
    found = [known for known in found if "library_path" in known.ep_metadata]
    if target.openvino:
        return [known for known in found if known.ep_metadata.get("ov_device") == target.openvino]
    kind = target.device.kind.upper()
    return [known for known in found if known.device.type.name == kind] or found


def missing_library(target: Target) -> str | None:
    """What the linker lacks to load an execution provider, and where that is from; None if that
    is not what is wrong."""
    short = target.provider.removesuffix("ExecutionProvider").lower()
    folder = Path(runtime().__file__).parent / "capi"
    library = folder / f"libonnxruntime_providers_{short}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        name = str(error).partition(":")[0]
        if "cannot open shared object" not in str(error) or name == str(library):
            return None
        source = next((where for start, where in SOURCES if name.startswith(start)), "")
        return f"{name} is missing. {source}".strip()
    return None


SOURCES = (
    ("libcuda.so", "It comes with NVIDIA's driver: edged probe tells how to install that"),
    ("libnvinfer", "It is NVIDIA's TensorRT, which is installed apart"),
    ("libcu", "Run: pip install 'onnxruntime-gpu[cuda,cudnn]'"),
)
"""Where libraries come from, by the beginning of their names"""
