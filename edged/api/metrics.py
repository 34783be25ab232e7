"""Prometheus metrics, in its text format 0.0.4.

What happens is counted by edged/meters.py; what is so now is read here, when somebody asks, so that
nobody who does not ask pays for it.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Iterator, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edged.api.problems import ERRORS
from edged.audio.ring import SAMPLE_BYTES
from edged.daemon import Daemon
from edged.engine import usage
from edged.engine.probe import last_report, report_file
from edged.engine.usage import Usage
from edged.messages import Rung

KIND = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(tags=["edged"])


@router.get(
    "/metrics",
    response_class=Response,
    responses=ERRORS | {200: {"content": {"text/plain": {"example": "edged_ready 1.0\n"}}}},
)
async def metrics(request: Request) -> Response:
    """Readiness, rung, moves, lag, latencies, work, memory and more, for Prometheus."""
    daemon: Daemon = request.app.state.daemon
    processes, shares = await asyncio.to_thread(
        lambda pids, rung: (_usage(pids), _peak_shares(rung)),
        _pids(daemon),
        daemon.supervisor.state.effective,
    )
    now = CollectorRegistry()
    now.register(_Now(daemon, processes, shares))
    text = generate_latest(daemon.meters.registry) + generate_latest(now)
    return Response(text, media_type=KIND)


class _Now(Collector):
    """What is so at this moment."""

    def __init__(
        self, daemon: Daemon, processes: Mapping[str, Usage], shares: Mapping[str, float]
    ) -> None:
        self._daemon = daemon
        self._processes = processes
        self._shares = shares

    def collect(self) -> Iterator[Metric]:
        yield from self._engine()
        yield from self._work()
        yield from self._audio()
        yield from self._clients()
        yield from self._queues()
        yield from self._memory()

    def _engine(self) -> Iterator[Metric]:
        supervisor = self._daemon.supervisor
        degraded = self._daemon.degraded is not None
        yield _gauge("edged_ready", "Whether it can recognise", supervisor.ready)
        yield _gauge("edged_degraded", "Whether less than what is configured serves", degraded)
        info = GaugeMetricFamily(
            "edged_engine_info", "The rung that serves", labels=Rung.__struct_fields__
        )
        if rung := supervisor.state.effective:
            info.add_metric([getattr(rung, name) for name in Rung.__struct_fields__], 1)
        yield info
        yield CounterMetricFamily(
            "edged_workers_started", "Engine workers started", value=supervisor.starts
        )
        yield _gauge(
            "edged_lag_seconds", "How far live audio is ahead of the engine", supervisor.lag
        )
        if supervisor.p95 is not None:
            yield _gauge(
                "edged_final_p95_seconds",
                "From endpoint to text, 95 % of the last finals are faster",
                supervisor.p95,
            )
        yield _labelled(
            "edged_engine_peak_share",
            "Of what the processor or its memory can do, while the rung recognises, as `edged "
            "probe` measured it",
            "resource",
            self._shares,
        )

    def _work(self) -> Iterator[Metric]:
        """Of the present worker, so these begin anew with each."""
        work = self._daemon.supervisor.work
        if work is None:
            return
        yield CounterMetricFamily("edged_busy_seconds", "Time the worker worked", value=work.busy)
        yield CounterMetricFamily(
            "edged_vad_seconds", "Of that, in the voice detector", value=work.detecting
        )
        yield CounterMetricFamily(
            "edged_audio_seconds", "Audio that the worker went through", value=work.audio
        )
        if work.audio:
            factor = work.busy / work.audio
            yield _gauge(
                "edged_real_time_factor", "Time worked a second of audio, of this worker", factor
            )

    def _audio(self) -> Iterator[Metric]:
        traffic, work = self._daemon.supervisor.traffic, self._daemon.supervisor.work
        yield CounterMetricFamily(
            "edged_audio_taken_bytes",
            "Audio that came, as float32 at 16 kHz",
            value=traffic.taken * SAMPLE_BYTES,
        )
        copied = CounterMetricFamily(
            "edged_audio_copied_bytes",
            "Audio that was copied. ring: to where it is recognised from; intake: before that, "
            "as rate or channels are others; engine: by the worker, for a device that does not "
            "take it where it lies",
            labels=["stage"],
        )
        copied.add_metric(["ring"], traffic.taken * SAMPLE_BYTES)
        copied.add_metric(["intake"], traffic.copied * SAMPLE_BYTES)
        copied.add_metric(["engine"], (work.copied if work else 0) * SAMPLE_BYTES)
        yield copied

    def _clients(self) -> Iterator[Metric]:
        daemon = self._daemon
        yield _gauge("edged_clients", "Connected clients", daemon.clients)
        yield _gauge("edged_streams", "Clients that send audio", daemon.streams)
        yield _gauge("edged_most_streams", "As many may send audio at once", daemon.most_streams)
        yield _gauge("edged_muted", "Whether the microphone is muted", daemon.muted)
        listening = daemon.microphone_state.state == "listening"
        yield _gauge("edged_listening", "Whether the microphone is heard", listening)
        if (drift := daemon.microphone_state.drift) is not None:
            yield _gauge(
                "edged_microphone_drift_ppm",
                "How much faster than CLOCK_MONOTONIC the microphone's clock goes",
                drift,
            )
        uptime = round(time.monotonic() - daemon.started, 3)
        yield _gauge("edged_uptime_seconds", "Time since the start", uptime)

    def _queues(self) -> Iterator[Metric]:
        daemon = self._daemon
        depths = {"follower": daemon.hub.depth}
        depths |= {f"sink {sink.name}": sink.depth for sink in daemon.sinks.all}
        if daemon.transcripts is not None:
            depths["transcripts"] = daemon.transcripts.depth
        yield _labelled(
            "edged_queue_depth", "Events that wait; of followers, the longest", "queue", depths
        )
        dropped = CounterMetricFamily(
            "edged_sink_dropped", "Events that a sink had no time for", labels=["sink"]
        )
        failures = CounterMetricFamily(
            "edged_sink_failures", "Exceptions of a sink", labels=["sink"]
        )
        for sink in daemon.sinks.all:
            dropped.add_metric([sink.name], sink.dropped)
            failures.add_metric([sink.name], sink.failures)
        yield dropped
        yield failures

    def _memory(self) -> Iterator[Metric]:
        found = self._processes
        yield _labelled(
            "edged_process_resident_memory_bytes",
            "Memory, shared parts counted in each",
            "role",
            {role: used.resident_bytes for role, used in found.items()},
        )
        yield _labelled(
            "edged_process_proportional_memory_bytes",
            "Memory, shared parts divided among who shares them",
            "role",
            {role: used.proportional_bytes for role, used in found.items()},
        )
        processor = CounterMetricFamily(
            "edged_process_cpu_seconds", "Processor time", labels=["role"]
        )
        for role, used in found.items():
            processor.add_metric([role], used.processor_seconds)
        yield processor


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=float(value))


def _labelled(name: str, description: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, description, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _pids(daemon: Daemon) -> dict[str, int]:
    """Our processes by what they are for."""
    capture = daemon.microphone.pid if daemon.microphone else None
    known = {"daemon": os.getpid(), "worker": daemon.supervisor.worker_pid, "capture": capture}
    return {role: pid for role, pid in known.items() if pid is not None}


def _usage(pids: Mapping[str, int]) -> dict[str, Usage]:
    used = {role: usage.of(pid, children=role != "daemon") for role, pid in pids.items()}
    return {role: each for role, each in used.items() if each is not None}


def _peak_shares(rung: Rung | None) -> dict[str, float]:
    """What a rung reached of the processor's peaks in the last probe; nothing where none is
    known."""
    try:
        return _probed_shares(rung, report_file().stat().st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=4)
def _probed_shares(rung: Rung | None, _written: int) -> dict[str, float]:
    """Read once for each report."""
    report = last_report()
    for verdict in report.verdicts if report else ():
        if verdict.rung == rung:
            shares = {"compute": verdict.gigaflops_share, "memory": verdict.gigabytes_share}
            return {name: share for name, share in shares.items() if share is not None}
    return {}
