"""sherpa-onnx: its streaming and offline models, with its own engine, in edged."""

from __future__ import annotations

from collections.abc import Iterable

from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider
from edged.recognizer import Recognizer


@hookimpl
def edged_execution_providers() -> Iterable[ExecutionProvider]:
    from edged_sherpa.provider import SherpaOnnx

    return [SherpaOnnx()]


@hookimpl
def edged_recognizers() -> Iterable[type[Recognizer]]:
    from edged_sherpa.recognizer import SherpaRecognizer

    return [SherpaRecognizer]
