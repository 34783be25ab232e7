"""LiteRT, which was TensorFlow Lite, as an execution provider of edged."""

from __future__ import annotations

from collections.abc import Iterable

from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider


@hookimpl
def edged_execution_providers() -> Iterable[ExecutionProvider]:
    from edged_tflite.provider import LiteRt

    return [LiteRt()]
