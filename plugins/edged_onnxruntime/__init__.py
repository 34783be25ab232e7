"""ONNX Runtime as an execution provider of edged."""

from __future__ import annotations

from collections.abc import Iterable

from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider


@hookimpl
def edged_execution_providers() -> Iterable[ExecutionProvider]:
    from edged_onnxruntime.provider import OnnxRuntime

    return [OnnxRuntime()]
