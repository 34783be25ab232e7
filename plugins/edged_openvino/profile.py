"""How long each operator of a run took; the runtime does not tell when."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from edged.provider import OperatorSpan

WANTED: Mapping[str, Any] = {"PERF_COUNT": True}
"""The property that makes it count"""
MICROSECOND = 1000
EXECUTED = "EXECUTED"


class Profile:
    """Of all runs of a session."""

    def __init__(self) -> None:
        self.spans: list[OperatorSpan] = []

    def run(self, request: Any) -> None:
        """Run, and take note: in the order in which operators run, one behind the other."""
        start = time.monotonic_ns()
        request.infer(share_outputs=True)
        self.spans += _row(start, request.profiling_info)


def _row(start: int, counts: Iterable[Any]) -> Iterable[OperatorSpan]:
    for count in counts:
        took = round(count.real_time.total_seconds() * 1e6) * MICROSECOND
        if count.status.name == EXECUTED and took:
            yield OperatorSpan(count.node_name, count.node_type, start, start + took)
            start += took
