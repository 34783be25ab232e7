"""ONNX Runtime's execution providers as devices, each with the options that it needs.

Options and their words are those of https://onnxruntime.ai/docs/execution-providers/. What
`[providers.onnxruntime.DEVICE]` of the configuration says comes over them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edged.provider import Device, SessionOptions

Options = Mapping[str, str]


def _none(_options: SessionOptions) -> Options:
    return {}


def _folder(options: SessionOptions, name: str) -> str | None:
    """Where compiled graphs can be kept, made if need be; None where nothing can be written."""
    if options.cache is None:
        return None
    folder = options.cache / name
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder) if os.access(folder, os.W_OK) else None


@dataclass(frozen=True, slots=True)
class Target:
    """An execution provider, or one of the devices behind it."""

    device: Device
    provider: str
    """Its name in ONNX Runtime"""
    defaults: Callable[[SessionOptions], Options] = _none
    memory: str | None = None
    """io binding's word for its memory, in which values may stay; None: they lie on the host"""
    beside: str | None = None
    """Another one, for the operators that it does not take"""
    openvino: str | None = None
    """OpenVINO's name of the device"""
    module: str | None = None
    """A package that brings it as a library of its own, beside any ONNX Runtime"""


def _cuda(_options: SessionOptions) -> Options:
    # Exhaustive, as it is left to itself, tries every algorithm anew for each length of audio.
    return {"cudnn_conv_algo_search": "HEURISTIC"}


def _tensorrt(options: SessionOptions) -> Options:
    chosen = {"trt_fp16_enable": str(options.precision == "fp16")}
    folder = _folder(options, "tensorrt")
    if folder is None:
        return chosen
    return {
        **chosen,
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": folder,
    }


def _openvino(device: str) -> Callable[[SessionOptions], Options]:
    def options(options: SessionOptions) -> Options:
        # Left to itself it computes float32's files in bfloat16 on processors that have that.
        half = options.precision == "fp16" and device != "CPU"
        chosen = {"INFERENCE_PRECISION_HINT": "f16" if half else "f32"}
        if device == "CPU":
            chosen["INFERENCE_NUM_THREADS"] = str(options.threads)
        elif folder := _folder(options, "openvino"):
            chosen["CACHE_DIR"] = folder
        return {"device_type": device, "load_config": json.dumps({device: chosen})}

    return options


def _qnn(_options: SessionOptions) -> Options:
    return {"backend_type": "htp"}


def _coreml(options: SessionOptions) -> Options:
    chosen = {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}
    if folder := _folder(options, "coreml"):
        chosen["ModelCacheDirectory"] = folder
    return chosen


def _xnnpack(options: SessionOptions) -> Options:
    return {"intra_op_num_threads": str(options.threads)}


def _migraphx(options: SessionOptions) -> Options:
    return {"migraphx_fp16_enable": str(int(options.precision == "fp16"))}


def _openvino_on(device: str, kind: str, label: str) -> Target:
    name = f"openvino-{device.lower()}"
    return Target(
        Device(name, kind, f"{label}, by OpenVINO", compiles=kind != "cpu"),
        "OpenVINOExecutionProvider",
        _openvino(device),
        openvino=device,
        module="onnxruntime_ep_openvino",
    )


CPU = Device("cpu", "cpu", "CPU")
ON_CPU = Target(CPU, "CPUExecutionProvider")
CUDA = Device("cuda", "gpu", "NVIDIA GPU, by CUDA")
ON_CUDA = Target(CUDA, "CUDAExecutionProvider", _cuda, memory="cuda")
TARGETS = (
    Target(
        Device("tensorrt", "gpu", "NVIDIA GPU, by TensorRT", compiles=True),
        "TensorrtExecutionProvider",
        _tensorrt,
        memory="cuda",
        beside="CUDAExecutionProvider",
    ),
    ON_CUDA,
    Target(
        Device("migraphx", "gpu", "AMD GPU, by MIGraphX", compiles=True),
        "MIGraphXExecutionProvider",
        _migraphx,
    ),
    _openvino_on("NPU", "npu", "Intel NPU"),
    _openvino_on("GPU", "gpu", "Intel GPU"),
    _openvino_on("CPU", "cpu", "CPU"),
    Target(
        Device("qnn", "npu", "Qualcomm NPU, by QNN", compiles=True),
        "QNNExecutionProvider",
        _qnn,
        module="onnxruntime_qnn",
    ),
    Target(
        Device("coreml", "npu", "Apple Neural Engine and GPU, by Core ML"),
        "CoreMLExecutionProvider",
        _coreml,
    ),
    Target(Device("nnapi", "npu", "Android's accelerators, by NNAPI"), "NnapiExecutionProvider"),
    Target(Device("xnnpack", "cpu", "CPU, by XNNPACK"), "XnnpackExecutionProvider", _xnnpack),
    Target(Device("acl", "cpu", "CPU, by Arm Compute Library"), "ACLExecutionProvider"),
    ON_CPU,
)
"""Best first; of those that the installed runtime does not have, nothing is seen"""


def choices(target: Target, options: SessionOptions) -> dict[str, str]:
    """A target's options, with those of `[providers.onnxruntime.DEVICE]` over the defaults."""
    configured = options.extra.get(target.device.name, {})
    return {**target.defaults(options), **{key: str(value) for key, value in configured.items()}}
