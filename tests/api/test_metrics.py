"""`GET /metrics`, read by Prometheus' own parser, and the dashboard that is made of it."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from edged.client import Client, Final
from edged.engine import usage
from edged.engine.governor import Governor, Observation
from edged.hardware.power import Power
from edged.profiles import GovernorProfile
from tests.api.conftest import Shared
from tests.api.http import ask
from tests.client import recognize, s16, silence
from tests.conftest import ROOT
from tests.daemon import DaemonProcess

RATE = 16000
RUNG = "moonshine-tiny-en int8 on onnxruntime cpu"
SOMETIMES = {"edged_final_p95_seconds"}
"""Only after ten finals"""


@pytest.fixture(scope="module")
def spoken(
    shared_daemon: Shared, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaemonProcess]:
    """A daemon with a microphone that is a pipe without a word in it."""
    fifo = tmp_path_factory.mktemp("microphone") / "microphone"
    os.mkfifo(fifo)
    daemon = shared_daemon("--source", f"program:cat {fifo}")
    with fifo.open("wb") as pipe:
        daemon.pipe = pipe  # type: ignore[attr-defined]
        yield daemon


def families(daemon: DaemonProcess) -> dict[str, Metric]:
    answer = ask(daemon, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(daemon: DaemonProcess, name: str, **labels: str) -> float:
    """A sample's value; 0 where it does not exist yet."""
    return values(daemon, name, **labels)[0]


def values(daemon: DaemonProcess, *names: str, **labels: str) -> list[float]:
    """Those of several samples at the same moment."""
    found = {
        sample.name: sample.value
        for family in families(daemon).values()
        for sample in reversed(family.samples)  # the first that has the labels
        if labels.items() <= sample.labels.items()
    }
    return [found.get(name, 0.0) for name in names]


def quiet(daemon: DaemonProcess) -> None:
    """Half a second of silence for the microphone."""
    pipe = daemon.pipe  # type: ignore[attr-defined]
    pipe.write(s16(silence(0.5)))
    pipe.flush()


def paced(samples: np.ndarray) -> Iterator[bytes]:
    started = time.monotonic()
    for first in range(0, len(samples), 1600):
        time.sleep(max(0.0, started + first / RATE - time.monotonic()))
        yield s16(samples[first : first + 1600])


def test_what_is_heard_is_counted(spoken: DaemonProcess, speech: np.ndarray) -> None:
    """Once as it is spoken, once as fast as it goes: that says nothing of latency."""
    clip = np.concatenate([speech[: 4 * RATE], silence(1.5)])
    events = list(Client(spoken.url).stream(paced(clip)))
    recognize(spoken.url, clip)
    [final] = [event for event in events if isinstance(event, Final)]
    assert value(spoken, "edged_finals_total", source="client", text="some") == 2
    assert value(spoken, "edged_words_total", source="client") == 2 * len(final.text.split())
    seconds = value(spoken, "edged_speech_seconds_total", source="client")
    assert seconds == pytest.approx(2 * (final.end - final.start), abs=0.1)
    for stage in ("endpoint", "decode", "total", "first_partial"):
        labels = {"stage": stage, "rung": RUNG}
        assert value(spoken, "edged_latency_seconds_count", **labels) == 1, stage
        assert value(spoken, "edged_latency_seconds_bucket", **labels, le="10.0") == 1
    for stage in ("endpoint", "decode", "total"):
        total = value(spoken, "edged_latency_seconds_sum", stage=stage)
        assert total == pytest.approx(getattr(final.latency, stage), abs=0.001)
    assert 0.05 < value(spoken, "edged_latency_seconds_sum", stage="first_partial") < 3


def test_the_worker_s_work_is_told(spoken: DaemonProcess, speech: np.ndarray) -> None:
    recognize(spoken.url, speech[: 8 * RATE])
    spoken.wait(lambda: value(spoken, "edged_audio_seconds_total") >= 8)
    names = ("edged_busy_seconds_total", "edged_vad_seconds_total", "edged_audio_seconds_total")
    busy, detecting, audio, factor = values(spoken, *names, "edged_real_time_factor")
    assert 0 < detecting < busy < audio
    assert factor == pytest.approx(busy / audio, rel=0.2)


def test_memory_and_processor_are_told_by_role(spoken: DaemonProcess) -> None:
    worker = spoken.worker()
    resident = value(spoken, "edged_process_resident_memory_bytes", role="worker")
    assert resident == pytest.approx(worker.memory_info().rss, rel=0.2)
    shared = value(spoken, "edged_process_proportional_memory_bytes", role="worker")
    assert 10 << 20 < shared <= resident
    times = worker.cpu_times()
    used = value(spoken, "edged_process_cpu_seconds_total", role="worker")
    assert used == pytest.approx(times.user + times.system, abs=0.5)
    roles = {
        sample.labels["role"] for sample in families(spoken)["edged_process_cpu_seconds"].samples
    }
    assert roles == {"daemon", "worker", "capture"}


def test_a_process_that_is_gone_uses_nothing() -> None:
    mine = usage.of(os.getpid(), children=False)
    assert mine is not None
    assert mine.resident_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert usage.of(2**22 + 1) is None


def test_moves_have_a_cause(spoken: DaemonProcess) -> None:
    assert value(spoken, "edged_engine_moves_total") == 0
    steps = len(spoken.get("/v1/engine")[1]["steps"])
    for moves, step in enumerate((steps - 1, 0), 1):
        order = {"action": "pin", "step": step}
        spoken.wait(lambda order=order: spoken.post("/v1/engine", order)[0] == 200)
        spoken.wait(
            lambda n=moves: value(spoken, "edged_engine_moves_total", cause="pinned") == n, 20
        )
    spoken.post("/v1/engine", {"action": "release"})


def test_gaps_have_a_reason(spoken: DaemonProcess) -> None:
    gap = {"source": "microphone", "reason": "muted"}

    def muted_for_a_while() -> bool:
        spoken.post("/v1/microphone", {"muted": True})
        quiet(spoken)
        time.sleep(0.2)
        spoken.post("/v1/microphone", {"muted": False})
        quiet(spoken)
        time.sleep(0.2)
        return value(spoken, "edged_gaps_total", **gap) >= 1

    spoken.wait(muted_for_a_while, 30)
    assert value(spoken, "edged_gap_seconds_total", **gap) > 0
    assert value(spoken, "edged_muted") == 0


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (
            Observation(power=Power(source="battery", battery_percent=1, discharging=True)),
            "battery",
        ),
        (Observation(degenerate=99), "circles"),
        (Observation(lag_seconds=99.0), "load"),
    ],
)
def test_what_presses_has_a_word(seen: Observation, cause: str) -> None:
    governor = Governor(GovernorProfile())
    reasons = [governor.judge(seen, now) for now in (1000.0, 1001.0, 1002.0)]
    assert any(reasons)
    assert governor.cause == cause


DASHBOARD = (ROOT / "docs" / "grafana.json").read_text("utf-8")


def test_the_dashboard_and_the_metrics_are_about_the_same(spoken: DaemonProcess) -> None:
    found = families(spoken)
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    told = {name + ending for name, each in found.items() for ending in endings[each.type]}
    asked = set(re.findall(r"\bedged_\w+", DASHBOARD))
    assert asked <= told | SOMETIMES, "the dashboard asks for what there is not"
    bare = {re.sub("_(total|bucket|sum|count)$", "", name) for name in asked}
    assert {name for name in found if name.startswith("edged_")} <= bare, "it leaves out"


def test_the_dashboard_is_one() -> None:
    dashboard = json.loads(DASHBOARD)
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers) > 10
    for panel in dashboard["panels"]:
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")"), target
            assert target["expr"].count("{") == target["expr"].count("}"), target


def test_labels_have_few_values(spoken: DaemonProcess) -> None:
    for family in families(spoken).values():
        assert len(family.samples) < 300, family.name
        for sample in family.samples:
            assert all(len(text) < 60 for text in sample.labels.values()), sample


def copies(daemon: DaemonProcess, samples: np.ndarray, query: str = "") -> float:
    """How often audio is copied that comes so, by edged's own count."""

    def counted() -> tuple[float, float]:
        stages = ("ring", "intake", "engine")
        copied = sum(value(daemon, "edged_audio_copied_bytes_total", stage=s) for s in stages)
        return copied, value(daemon, "edged_audio_taken_bytes_total")

    copied, taken = counted()
    recognize(daemon.url, samples, query=query)
    after_copied, after_taken = counted()
    assert after_taken - taken > 4 * RATE * 3
    return (after_copied - copied) / (after_taken - taken)


def test_audio_is_copied_once(spoken: DaemonProcess, speech: np.ndarray) -> None:
    assert copies(spoken, speech[: 4 * RATE]) == 1
    assert copies(spoken, speech[: 2 * RATE], query="&rate=8000") == 2, "it had to be resampled"
