"""The last OpenVINO that drives a Movidius stick, in a Python of its own, as an execution provider
of edged."""

from __future__ import annotations

from collections.abc import Iterable

from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider


@hookimpl
def edged_execution_providers() -> Iterable[ExecutionProvider]:
    from edged_movidius.provider import Movidius

    return [Movidius()]
