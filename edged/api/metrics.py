"""Prometheus metrics, in its text format 0.0.4."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from edged.api.problems import ERRORS
from edged.daemon import Daemon

KIND = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["edged"])


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=ERRORS | {200: {"content": {"text/plain": {"example": "edged_ready 1\n"}}}},
)
async def metrics(request: Request) -> PlainTextResponse:
    """Readiness, rung, moves, lag and latency, for Prometheus."""
    daemon = request.app.state.daemon
    metrics = [*_metrics(daemon), *_of_sinks(daemon)]
    lines = list(dict.fromkeys(line for metric in metrics for line in _lines(*metric)))
    return PlainTextResponse("\n".join([*lines, ""]), media_type=KIND)


def _metrics(daemon: Daemon) -> Iterator[tuple[str, str, str, float]]:
    """Name with labels, kind, description and value of each."""
    supervisor = daemon.supervisor
    yield "edged_ready", "gauge", "Whether it can recognise", float(supervisor.ready)
    yield (
        "edged_degraded",
        "gauge",
        "Whether less than what is configured serves",
        float(daemon.degraded is not None),
    )
    if rung := supervisor.state.effective:
        labels = (
            f'model="{rung.model}",provider="{rung.provider}",'
            f'device="{rung.device}",precision="{rung.precision}"'
        )
        yield f"edged_engine_info{{{labels}}}", "gauge", "The rung that serves", 1
    yield "edged_engine_moves_total", "counter", "Changes of the rung", daemon.moves
    yield "edged_workers_started_total", "counter", "Engine workers started", supervisor.starts
    yield (
        "edged_lag_seconds",
        "gauge",
        "How far live audio is ahead of the engine",
        supervisor.lag,
    )
    if supervisor.p95 is not None:
        yield (
            "edged_final_p95_seconds",
            "gauge",
            "From endpoint to text, 95 % of the last finals are faster",
            supervisor.p95,
        )
    yield "edged_clients", "gauge", "Connected clients", daemon.clients
    yield "edged_streams", "gauge", "Clients that send audio", daemon.streams
    uptime = time.monotonic() - daemon.started
    yield "edged_uptime_seconds", "gauge", "Time since the start", round(uptime, 3)


def _of_sinks(daemon: Daemon) -> Iterator[tuple[str, str, str, float]]:
    """Likewise, of plugins; one metric after the other, as the format wants it."""
    for sink in daemon.sinks.all:
        name = f'edged_sink_dropped_total{{sink="{sink.name}"}}'
        yield name, "counter", "Events that a sink had no time for", sink.dropped
    for sink in daemon.sinks.all:
        name = f'edged_sink_failures_total{{sink="{sink.name}"}}'
        yield name, "counter", "Exceptions of a sink", sink.failures


def _lines(name: str, kind: str, description: str, value: float) -> Iterator[str]:
    bare = name.split("{", maxsplit=1)[0]
    yield f"# HELP {bare} {description}"
    yield f"# TYPE {bare} {kind}"
    yield f"{name} {value:g}"
