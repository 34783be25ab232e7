"""The provider: which devices there are, and how a graph is compiled for one of them.

What an NPU is given, graphs of fixed shapes, runs on the processor too where the configuration says

    [providers.openvino]
    static_cpu = true

so that it can be tried and measured on any machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from edged.errors import ProviderError
from edged.provider import Device, ExecutionProvider, Session, SessionOptions, devices
from edged_openvino.blobs import tidy
from edged_openvino.caches import CachedSession, caches
from edged_openvino.fixed import FixedSession
from edged_openvino.profile import WANTED, Profile
from edged_openvino.runtime import core, openvino, told
from edged_openvino.session import GraphSession, name_of

KINDS = ("npu", "gpu", "cpu")
"""Of devices that graphs are loaded on, best first; AUTO, HETERO and the like choose others"""
STATIC_CPU = "cpu.static"
"""The processor, given what an NPU is given"""
FIXED_SHAPES = ("npu", STATIC_CPU)
"""Devices whose graphs have no open shape"""
FIXED_FORMATS = frozenset({".onnx11"})
COMPUTED_IN = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f16", "int4": "f16"}
"""By precision, what everything is computed in that is not quantised"""
COMPUTED_ON_CPU = {**COMPUTED_IN, "fp16": "f32", "int8": "f32", "int4": "f32"}
"""A processor has no half precision of its own; float32 beside quantised products takes less time
than bf16, and is nearer to the truth"""
CAPABILITIES = {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}
"""What a device says of itself when it computes so"""
STEPS = 32
"""Shapes of a graph with caches that come again: one for each token of a text. Without them a token
takes half as long again; of other graphs no shape does, and each takes 9 MB."""
NO_OPERATORS = {"Parameter", "Constant", "Result"}


class OpenVino(ExecutionProvider):
    """The `openvino` package."""

    name: ClassVar[str] = "openvino"
    formats: ClassVar[frozenset[str]] = FIXED_FORMATS | {".onnx", ".qdq.onnx", ".xml"}
    packages: ClassVar[Sequence[str]] = ("openvino",)

    def version(self) -> str:
        return str(openvino().__version__).partition("-")[0]

    def probe(self) -> Sequence[Device]:
        devices = [_device(name) for name in core().available_devices]
        known = [device for device in devices if device.kind in KINDS]
        return sorted(known, key=lambda device: KINDS.index(device.kind))

    def formats_on(self, device: str) -> frozenset[str]:
        return FIXED_FORMATS if device in FIXED_SHAPES else self.formats - FIXED_FORMATS

    def configured(self, extra: Mapping[str, Any]) -> Sequence[Device]:
        if extra.get("static_cpu") is not True:
            return ()
        label = "CPU, with fixed shapes as an NPU takes them"
        return [replace(_device("CPU"), name=STATIC_CPU, label=label, static=True, compiles=True)]

    def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
        if device not in (known_here := devices(self, options.extra)):
            known = ", ".join(found.name for found in known_here)
            raise ProviderError(
                f"openvino has no device {device.name} here; it has: {known}",
                code="device_missing",
            )
        profile = Profile() if options.profile else None
        with told(f"load {model} on {device.name}"):
            if device.static:
                graph = core().read_model(model.read_bytes())
                settings = dict(_settings(device, options, 0))
                placement = _placement(graph, device) if options.inspect else {}
                return FixedSession(graph, device, settings, placement, profile)
            graph = core().read_model(model)
            carried = caches(graph)
            settings = dict(_settings(device, options, STEPS if carried else 0))
            placement = _placement(graph, device) if options.inspect else {}
            if carried:
                return CachedSession(carried, graph, device, settings, placement, profile)
            return GraphSession(graph, device, settings, placement, profile)


def _device(name: str) -> Device:
    """What the runtime calls GPU.0 is gpu.0 here."""
    kind = name.lower().partition(".")[0]
    static = kind in FIXED_SHAPES
    label = str(core().get_property(name, "FULL_DEVICE_NAME"))
    computes = ("bf16",) if CAPABILITIES["bf16"] in _capabilities(name) else ()
    return Device(name.lower(), kind, label, static, computes, compiles=static)


def _capabilities(name: str) -> Sequence[str]:
    words: Sequence[str] = core().get_property(name.upper(), "OPTIMIZATION_CAPABILITIES")
    return words


def _settings(device: Device, options: SessionOptions, shapes: int) -> Iterator[tuple[str, Any]]:
    """The runtime's properties for a graph whose kernels are kept for so many shapes; those of the
    configuration go over ours."""
    yield "PERFORMANCE_HINT", "LATENCY"
    yield "INFERENCE_PRECISION_HINT", _computed_in(device, options.precision)
    if options.profile:
        yield from WANTED.items()
    if device.kind == "cpu":
        yield "NUM_STREAMS", 1
        yield "INFERENCE_NUM_THREADS", options.threads
        # Which cores are whose is the daemon's to say, and a robot has other work for them too.
        yield "ENABLE_CPU_PINNING", False
        yield "CPU_RUNTIME_CACHE_CAPACITY", shapes
        if device.static and options.precision == "bf16":
            # What it fuses itself computes garbage in bf16 where shapes are fixed.
            yield "SNIPPETS_MODE", "DISABLE"
    is_tried = device.kind == "cpu" and (options.inspect or device.static)
    if options.cache and not is_tried and tidy(options.cache):
        # Not for every rung of a processor that is only tried: it compiles in half a second, and
        # what it keeps is a copy of the weights.
        yield "CACHE_DIR", str(options.cache)
    yield from options.extra.get(device.kind, {}).items()
    if device.name != device.kind:
        yield from options.extra.get(device.name, {}).items()


def _computed_in(device: Device, precision: str) -> str:
    """The precision hint: never the runtime's own choice, which differs from machine to machine.

    Raises ProviderError where the device would compute in another one without a word.
    """
    hint = (COMPUTED_ON_CPU if device.kind == "cpu" else COMPUTED_IN)[precision]
    offered = _capabilities(name_of(device))
    if CAPABILITIES[hint] not in offered:
        raise ProviderError(
            f"{device.name} does not compute in {precision}; it offers: {', '.join(offered)}. "
            "Choose another engine.precision: edged probe",
            code="precision_unsupported",
        )
    return hint


def _placement(graph: Any, device: Device) -> Mapping[str, int]:
    """Operators by the device that the runtime says takes them."""
    taken = core().query_model(graph, name_of(device))
    operators = (
        node.get_friendly_name()
        for node in graph.get_ops()
        if node.get_type_name() not in NO_OPERATORS
    )
    return Counter(taken[name].lower() for name in operators if name in taken)
