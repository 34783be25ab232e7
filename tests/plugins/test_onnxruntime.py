"""ONNX Runtime's sessions and devices: those of other devices too, as far as they can be tried
without one. What needs another build of it: tests/test_elsewhere.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edged.errors import ProviderError
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.provider import Device, Opener, Session, SessionOptions
from edged.testing.providers import KINDS
from edged_onnxruntime import provider
from edged_onnxruntime.provider import OnnxRuntime, _BoundSession, _OnnxSession
from edged_onnxruntime.targets import CPU, CUDA, ON_CPU, ON_CUDA, TARGETS, Target, choices
from tests.conftest import TINY

ENCODER = f"{TINY}/int8/encoder.onnx"


def transcribe(session: type[_OnnxSession], samples: np.ndarray) -> str:
    class Chosen(OnnxRuntime):
        def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
            return session(model, replace(ON_CPU, memory="cpu"), options)

    open_session = Opener(Chosen(), CPU)
    return Moonshine(store().get(TINY), "int8", open_session).transcribe(samples).text


def test_values_that_stay_on_their_device_give_the_same_text(speech: np.ndarray) -> None:
    samples = np.ascontiguousarray(speech[16000:96000])
    assert transcribe(_BoundSession, samples) == transcribe(_OnnxSession, samples) != ""


# -- devices --------------------------------------------------------------------------------------


def available(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let the runtime say that it has these execution providers."""
    import onnxruntime

    providers = [f"{name}ExecutionProvider" for name in names]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)


def test_devices_are_what_the_runtime_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, "CPU", "Azure")
    assert OnnxRuntime().probe() == [CPU], "Azure's is no device"
    available(monkeypatch, "CPU", "CUDA", "Tensorrt", "Xnnpack")
    names = [device.name for device in OnnxRuntime().probe()]
    assert names == ["tensorrt", "cuda", "xnnpack", "cpu"], "best first"


def test_every_device_has_a_name_and_a_kind() -> None:
    names = [target.device.name for target in TARGETS]
    assert len(set(names)) == len(names)
    assert {target.device.kind for target in TARGETS} <= KINDS


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    runtime = OnnxRuntime()
    if CUDA in runtime.probe():
        pytest.skip("this machine's ONNX Runtime knows CUDA")
    with pytest.raises(ProviderError, match="no device cuda here; it has: cpu"):
        runtime.open(store().folder / ENCODER, CUDA, SessionOptions())


def test_a_runtime_that_takes_another_device_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back to the CPU with a warning; here that is an error."""
    available(monkeypatch, "CUDA", "CPU")
    with pytest.raises(ProviderError, match=r"not CUDAExecutionProvider|cannot load .* on cuda"):
        OnnxRuntime().open(store().folder / ENCODER, CUDA, SessionOptions())


def session_with(**placed: int) -> SimpleNamespace:
    """A session that tells of its placement what ONNX Runtime 1.24 does."""
    parts = [
        SimpleNamespace(ep_name=f"{name}ExecutionProvider", get_nodes=lambda n=count: [None] * n)
        for name, count in placed.items()
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


def test_operators_that_are_left_to_the_cpu_are_counted() -> None:
    assert provider._placement(session_with(CUDA=250, CPU=12), ON_CUDA) == {"cuda": 250, "cpu": 12}
    assert provider._placement(session_with(CPU=3), ON_CPU) == {"cpu": 3}
    assert provider._placement(SimpleNamespace(), ON_CUDA) == {}, "an older runtime cannot tell"


def test_a_device_that_takes_nothing_is_caught() -> None:
    with pytest.raises(ProviderError, match="takes none of the graph's 262 operators") as raised:
        provider._placement(session_with(CPU=262), ON_CUDA)
    assert raised.value.code == "on_cpu"


def test_where_operators_run_is_known_of_a_real_graph() -> None:
    options = SessionOptions(inspect=True)
    session = OnnxRuntime().open(store().folder / ENCODER, CPU, options)
    assert set(session.placement) == {"cpu"}
    assert session.placement["cpu"] > 100


# -- options --------------------------------------------------------------------------------------


def target(name: str) -> Target:
    return next(known for known in TARGETS if known.device.name == name)


def test_tensorrt_keeps_its_engines(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    options = choices(target("tensorrt"), SessionOptions(precision="fp16", cache=cache))
    assert options["trt_fp16_enable"] == options["trt_engine_cache_enable"] == "True"
    assert Path(options["trt_engine_cache_path"]).is_dir()
    assert choices(target("tensorrt"), SessionOptions())["trt_fp16_enable"] == "False"


def test_without_a_place_to_write_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    for name in ("tensorrt", "coreml", "openvino-gpu"):
        options = choices(target(name), SessionOptions(cache=tmp_path / "cache"))
        assert str(tmp_path) not in str(options)


def test_openvino_computes_in_the_rungs_precision() -> None:
    """It would take bfloat16 on its own."""
    for name, precision, hint in (
        ("openvino-cpu", "fp32", "f32"),
        ("openvino-cpu", "fp16", "f32"),
        ("openvino-gpu", "fp16", "f16"),
        ("openvino-gpu", "int8", "f32"),
    ):
        options = choices(target(name), SessionOptions(precision=precision))
        [properties] = json.loads(options["load_config"]).values()
        assert properties["INFERENCE_PRECISION_HINT"] == hint


def test_the_configuration_comes_over_the_defaults() -> None:
    extra = {"cuda": {"cudnn_conv_algo_search": "DEFAULT", "device_id": 1}, "cpu": {"other": 2}}
    assert choices(ON_CUDA, SessionOptions(extra=extra)) == {
        "cudnn_conv_algo_search": "DEFAULT",
        "device_id": "1",
    }
