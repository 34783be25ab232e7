"""After the one write into the ring, audio and caches are read where they lie."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edged.errors import ProviderError
from edged.models.moonshine import Moonshine
from edged.models.silero import Silero
from edged_onnxruntime.provider import _OnnxSession
from tests.client import silence
from tests.engine.conftest import Listening

Feeds = list[dict[str, int]]


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> Feeds:
    """The addresses that the runtime is given, run by run."""
    recorded: Feeds = []
    run = _OnnxSession.run
    feed = _OnnxSession._feed

    def recording_run(self: _OnnxSession, inputs: Any, outputs: Any) -> Any:
        recorded.append({})
        return run(self, inputs, outputs)

    def recording_feed(self: _OnnxSession, name: str, tensor: Any) -> Any:
        value = feed(self, name, tensor)
        recorded[-1][name] = value.data_ptr()
        return value

    monkeypatch.setattr(_OnnxSession, "run", recording_run)
    monkeypatch.setattr(_OnnxSession, "_feed", recording_feed)
    return recorded


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The addresses that the detector is given."""
    addresses: list[int] = []
    probabilities = Silero.probabilities

    def recording(self: Silero, samples: np.ndarray, state: object | None) -> Any:
        addresses.append(samples.ctypes.data)
        return probabilities(self, samples, state)

    monkeypatch.setattr(Silero, "probabilities", recording)
    return addresses


def test_encoder_and_detector_read_the_ring_itself(
    listening: Callable[[np.ndarray], Listening],
    speech: np.ndarray,
    feeds: Feeds,
    judged: list[int],
) -> None:
    stream = listening(np.concatenate([speech[:128000], silence(1)]))
    pipeline = stream.pipeline()
    for written in range(0, stream.written, 8000):
        list(pipeline.advance(written))
        list(pipeline.partial())
    first, last = stream.ring.address, stream.ring.address + 8 * stream.ring.capacity
    for addresses in ([run["audio"] for run in feeds if "audio" in run], judged):
        assert len(addresses) > 10
        assert all(first <= address < last for address in addresses)


def test_the_runtime_sees_what_is_written_after_it_was_given_the_address() -> None:
    """Shared, not copied: a change of the ring changes the runtime's tensor."""
    import onnxruntime

    from edged.audio.ring import AudioRing

    ring = AudioRing.create(16000)
    ring.write(0, np.zeros(16000, np.float32))
    view = ring.view(4000, 8000)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(view[None])
    ring.write(4000, np.ones(4000, np.float32))
    assert value.numpy().min() == 1.0


def test_caches_go_from_step_to_step_as_the_runtimes_own_values(
    recognizer: Moonshine, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[dict[str, Any], dict[str, Any]]] = []
    run = _OnnxSession.run

    def recording_run(self: _OnnxSession, inputs: Any, outputs: Any) -> Any:
        made = run(self, inputs, outputs)
        if "input_ids" in inputs:
            runs.append((dict(inputs), dict(zip(outputs, made, strict=True))))
        return made

    monkeypatch.setattr(_OnnxSession, "run", recording_run)
    recognizer.transcribe(np.ascontiguousarray(speech[16000:80000]))
    assert len(runs) > 5
    for (_, made), (inputs, _) in itertools.pairwise(runs):
        caches = [name for name in inputs if name.startswith("past")]
        assert len(caches) == 12
        for name in caches:
            value = inputs[name]
            assert value is made[name.replace("past", "present")]
            assert value.data_ptr() == value.numpy().ctypes.data  # on the host, seen in place


def test_a_strided_array_is_refused_instead_of_copied(
    recognizer: Moonshine, speech: np.ndarray
) -> None:
    with pytest.raises(ProviderError, match="C-contiguous"):
        recognizer.encode(speech[:64000:2])
