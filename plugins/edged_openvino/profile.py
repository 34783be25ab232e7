"""How long each operator of a run took; the runtime does not tell when."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from edged.provider import OperatorSpan

WANTED: Mapping[str, Any] = {"PERF_COUNT": True}
"""The property that makes it count"""
MICROSECOND = 1000
EXECUTED = "EXECUTED"


class Profile:
    """Of all runs of a session."""

    def __init__(self) -> None:
        self._spans: list[OperatorSpan] = []
        self._is_over = False

    def run(self, request: Any) -> None:
        """Run, and take note: in the order in which operators run, one behind the other."""
        start = time.monotonic_ns()
        request.infer(share_outputs=True)
        if not self._is_over:
            self._spans += _row(start, time.monotonic_ns(), request.profiling_info)

    def end(self) -> Sequence[OperatorSpan]:
        """What was noted; no more is."""
        self._is_over = True
        return self._spans


def _row(start: int, end: int, counts: Iterable[Any]) -> Iterator[OperatorSpan]:
    """Between the run's start and end: together they may take some microseconds more."""
    for count in counts:
        took = round(count.real_time.total_seconds() * 1e6) * MICROSECOND
        if count.status.name == EXECUTED and took:
            over = min(start + took, end)
            yield OperatorSpan(count.node_name, count.node_type, start, over)
            start = over
