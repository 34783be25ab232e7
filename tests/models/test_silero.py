"""The voice detector against the graph that its weights are from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.detector import Graph, in_steps
from edged.errors import ModelError
from edged.models import silero
from edged.models.initializers import read_initializers
from edged.models.silero import CONTEXT, WINDOW, Silero, silero_file


@pytest.fixture(scope="module")
def detector() -> Silero:
    return Silero()


@pytest.fixture(scope="module")
def samples(speech: np.ndarray) -> np.ndarray:
    """Speech, then noise, then something far too loud, in whole windows."""
    noise = np.random.default_rng(1).uniform(-0.1, 0.1, 8 * WINDOW).astype(np.float32)
    heard = np.concatenate([speech[: 40 * WINDOW], noise, np.sign(noise)])
    return np.concatenate([np.zeros(CONTEXT, np.float32), heard])


@pytest.mark.parametrize("count", [1, 2, 5, 56])
def test_it_hears_what_its_graph_hears_however_many_windows_come_at_once(
    detector: Silero, samples: np.ndarray, count: int
) -> None:
    expected = list(Graph().probabilities(samples))
    assert max(expected) > 0.9 > 0.1 > min(expected)
    assert np.allclose(list(in_steps(detector, samples, count)), expected, atol=2e-5)


def test_it_leaves_samples_as_they_are(detector: Silero, samples: np.ndarray) -> None:
    kept = samples.copy()
    samples.flags.writeable = False
    detector.probabilities(samples, None)
    assert (samples == kept).all()


def test_weights_are_read_as_the_package_onnx_reads_them() -> None:
    import onnx
    from onnx import numpy_helper

    tensors = onnx.load(silero_file()).graph.initializer
    expected = {t.name: numpy_helper.to_array(t) for t in tensors if t.data_type == 1}
    found = read_initializers(silero_file())
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name] == array).all() and found[name].shape == array.shape


@pytest.mark.parametrize("content", [b"no graph at all", b"\x3a\x7f", b"\x3a\x04\x2a\x02\x08", b""])
def test_a_file_that_is_none_is_refused_with_what_to_do(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(content)
    monkeypatch.setattr(silero, "silero_file", lambda: broken)
    with pytest.raises(ModelError, match="pip install --force-reinstall"):
        Silero()
