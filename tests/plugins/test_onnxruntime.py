"""ONNX Runtime's sessions: those of other devices too, as far as they can be tried without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edged.errors import ProviderError
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.provider import Device, Opener, Session, SessionOptions
from edged_onnxruntime import provider
from edged_onnxruntime.provider import CPU, CUDA, OnnxRuntime, _BoundSession, _OnnxSession
from tests.conftest import TINY


def transcribe(session: type[_OnnxSession], samples: np.ndarray) -> str:
    class Chosen(OnnxRuntime):
        def open(self, model: Path, device: Device, options: SessionOptions) -> Session:
            return session(model, device, options)

    open_session = Opener(Chosen(), CPU)
    return Moonshine(store().get(TINY), "int8", open_session).transcribe(samples).text


def test_values_that_stay_on_their_device_give_the_same_text(speech: np.ndarray) -> None:
    samples = np.ascontiguousarray(speech[16000:96000])
    assert transcribe(_BoundSession, samples) == transcribe(_OnnxSession, samples) != ""


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    runtime = OnnxRuntime()
    if CUDA in runtime.probe():
        pytest.skip("this machine's ONNX Runtime knows CUDA")
    with pytest.raises(ProviderError, match="no device cuda here; it has: cpu"):
        runtime.open(store().folder / TINY / "int8" / "encoder.onnx", CUDA, SessionOptions())


def test_a_runtime_that_takes_another_device_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back to the CPU with a warning; here that is an error."""
    import onnxruntime

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    assert OnnxRuntime().probe() == [CUDA, CPU]
    with pytest.raises(ProviderError, match=r"not CUDAExecutionProvider|cannot load"):
        OnnxRuntime().open(store().folder / TINY / "int8" / "encoder.onnx", CUDA, SessionOptions())


def test_every_device_has_a_provider() -> None:
    assert {CPU.name, CUDA.name} == set(provider._PROVIDERS)
