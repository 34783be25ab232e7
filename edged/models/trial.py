"""Runs of a graph in ONNX Runtime that show what is inside it: for measuring, not for serving.

Imports onnx and onnxruntime: never in the daemon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from edged.provider import Tensor


class Trial:
    """A graph on the processor whose tensors can all be seen."""

    def __init__(self, model: Any, seen: Iterable[str] = (), optimized: bool = True) -> None:
        """`seen` are tensors to show beside the graph's outputs; `model` is left as it is."""
        import onnx
        import onnxruntime

        shown = onnx.ModelProto()
        shown.CopyFrom(model)
        own = {value.name for value in shown.graph.output}
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in {*seen} - own)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimized:
            level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        self._session = onnxruntime.InferenceSession(
            shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[np.ndarray]:
        feed = {name: _array(tensor) for name, tensor in inputs.items()}
        return list(self._session.run(list(outputs), feed))


def _array(tensor: Tensor) -> np.ndarray:
    """Over the memory of whoever made it."""
    return tensor if isinstance(tensor, np.ndarray) else np.asarray(tensor.numpy())
