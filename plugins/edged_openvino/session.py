"""A compiled graph: arrays are read where they lie, and every output is the caller's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edged.errors import ProviderError
from edged.provider import Device, OperatorSpan, Session, TensorSpec, Value
from edged_openvino.profile import Profile
from edged_openvino.runtime import core, openvino, told


class HostValue:
    """An output: memory of the runtime's that lives as long as this or an array over it."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def numpy(self) -> np.ndarray:
        array: np.ndarray = self.tensor.data
        return array


class Request:
    """One place to run a compiled graph, with what is bound to it."""

    def __init__(self, compiled: Any, profile: Profile | None = None) -> None:
        self._profile = profile
        self.runtime = compiled.create_infer_request()
        self._inputs = _by_name(compiled.inputs)
        self._outputs = _by_name(compiled.outputs)
        self._needed = [port.get_names() for port in compiled.inputs]
        self._bound: dict[str, Any] = {}
        self._lent: set[str] = set()

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        """Run once. Raises ProviderError."""
        self._check(inputs, outputs)
        with told("run"):
            # What is bound does not keep the memory that it reads: `_bound` does.
            for name, given in inputs.items():
                self._bind(name, given)
            made = {name: self._lend(name) for name in outputs}
            for name in self._lent - made.keys():
                self._lend(name)
            self._lent = set(made)
            if self._profile:
                self._profile.run(self.runtime)
            else:
                self.runtime.infer(share_outputs=True)
        return [HostValue(made[name]) for name in outputs]

    def _check(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> None:
        """An input that was forgotten would be read from where the last run's was."""
        odd = [min(names) for names in self._needed if names.isdisjoint(inputs)]
        odd += [name for name in inputs if name not in self._inputs]
        odd += [name for name in outputs if name not in self._outputs]
        if odd:
            raise ProviderError(f"missing or unknown for this graph: {', '.join(odd)}")

    def _bind(self, name: str, given: Any) -> None:
        if self._bound.get(name) is given:
            return
        self.runtime.set_tensor(self._inputs[name], _tensor(name, self._inputs[name], given))
        self._bound[name] = given

    def _lend(self, name: str) -> Any:
        """Memory for an output of the next run; what the last run gave away stays as it is."""
        port = self._outputs[name]
        shape = port.get_partial_shape()
        empty = [size.get_length() if size.is_static else 0 for size in shape]
        tensor = openvino().Tensor(port.get_element_type(), openvino().Shape(empty))
        self.runtime.set_tensor(port, tensor)
        return tensor


def _by_name(ports: Sequence[Any]) -> dict[str, Any]:
    """A port by each of its names: what is joined in compiling has the names of both."""
    return {name: port for port in ports for name in port.get_names()}


class GraphSession(Session):
    """A graph that keeps nothing between runs."""

    def __init__(
        self,
        graph: Any,
        device: Device,
        settings: Mapping[str, Any],
        placement: Mapping[str, int],
        profile: Profile | None = None,
    ) -> None:
        self.device = device
        self.inputs = [spec(port) for port in graph.inputs]
        self.outputs = [spec(port) for port in graph.outputs]
        self.placement = placement
        self.compiled = compiled_for(graph, device, settings)
        self.noted = profile
        self._request = Request(self.compiled, profile)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        return self._request.run(inputs, outputs)

    def profile(self) -> Sequence[OperatorSpan]:
        return self.noted.end() if self.noted else ()

    def close(self) -> None:
        del self._request, self.compiled


def compiled_for(graph: Any, device: Device, settings: Mapping[str, Any]) -> Any:
    """A graph, compiled for a device and no other. Raises ProviderError."""
    compiled = core().compile_model(graph, name_of(device), dict(settings))
    _hold_to(compiled, device)
    return compiled


def _hold_to(compiled: Any, device: Device) -> None:
    """Raises ProviderError where the runtime took another device than it was told to."""
    wanted = name_of(device).lower()
    taken = [str(name).lower() for name in compiled.get_property("EXECUTION_DEVICES")]
    if any(wanted not in {name, name.partition(".")[0]} for name in taken):
        raise ProviderError(f"openvino took {', '.join(taken)}, not {wanted}")


def name_of(device: Device) -> str:
    """What the runtime calls it: gpu.0 is GPU.0, and there is one processor."""
    return "CPU" if device.kind == "cpu" else device.name.upper()


def spec(port: Any) -> TensorSpec:
    """An input or output as the contract describes it."""
    shape = tuple(
        size.get_length() if size.is_static else None for size in port.get_partial_shape()
    )
    return TensorSpec(port.get_any_name(), dtype(port).name, shape)


def dtype(port: Any) -> np.dtype:
    found: np.dtype = np.dtype(port.get_element_type().to_dtype())
    return found


def _tensor(name: str, port: Any, given: Any) -> Any:
    """A tensor over the caller's memory; the runtime would convert another dtype in secret."""
    if isinstance(given, HostValue):
        return given.tensor
    if not given.flags.c_contiguous or given.dtype != dtype(port):
        raise ProviderError(
            f"input {name} must be C-contiguous {dtype(port)}, "
            f"is {given.dtype} with strides {given.strides}"
        )
    return openvino().Tensor(_unlocked(given), shared_memory=True)


def _unlocked(array: np.ndarray) -> np.ndarray:
    """The same memory without the mark that it may only be read: the runtime refuses to share
    such an array, though it only reads its inputs."""
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    def __init__(self, array: np.ndarray) -> None:
        described = array.__array_interface__
        self.__array_interface__ = {**described, "data": (described["data"][0], False)}
        self._kept = array
