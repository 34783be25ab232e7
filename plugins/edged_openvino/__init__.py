"""OpenVINO as an execution provider of edged: Intel's processors, GPUs and NPUs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from edged.errors import ProviderError
from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider


@hookimpl
def edged_execution_providers() -> Iterable[ExecutionProvider]:
    if importlib.util.find_spec("openvino") is None:
        raise ProviderError("openvino is not installed. Run: pip install 'edged[openvino]'")
    from edged_openvino.provider import OpenVino

    return [OpenVino()]
