"""A rung is tried in a process of its own; whatever that does becomes a verdict."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest

from edged.engine.prove import Verdict, prove_apart
from edged.messages import Rung, WorkerOptions
from edged.models.check import GATE_RATE
from edged.models.inventory import store
from tests import stranger
from tests.conftest import TINY


def proven(
    provider: str = "onnxruntime",
    device: str = "cpu",
    precision: str = "int8",
    model: str = TINY,
    **limits: float,
) -> Verdict:
    rung = Rung(model, provider, device, precision)
    return asyncio.run(prove_apart(rung, store().folder / model, WorkerOptions(), **limits))


@pytest.fixture(scope="module")
def good() -> Verdict:
    """About tiny-en in int8."""
    return proven()


def test_a_good_rung_is_proven_with_text_numbers_and_times(good: Verdict) -> None:
    verdict = good
    assert verdict.ok
    assert (verdict.code, verdict.reason) == (None, None)
    assert time.time() - 600 < verdict.time <= time.time()
    assert verdict.runtime is not None
    assert verdict.runtime.startswith("onnxruntime ")
    assert verdict.text == store().get(TINY).check_text
    assert verdict.word_error_rate == 0.0
    assert verdict.gate_error_rate is not None
    assert verdict.gate_error_rate < GATE_RATE
    assert 0 < (verdict.difference or 0) < 0.5
    assert 0 < (verdict.warm_p50_seconds or 0) <= (verdict.warm_p99_seconds or 0)
    assert (verdict.warm_p99_ratio or 0) >= 1.0
    assert verdict.load_seconds
    assert verdict.cold_seconds
    assert 0 < (verdict.real_time_factor or 0) < 1
    assert 50e6 < (verdict.peak_memory_bytes or 0) < 1e9


def test_where_the_operators_are_is_asked_of_the_runtime(good: Verdict) -> None:
    assert set(good.placement) <= {"cpu"}
    assert good.placement.get("cpu", 1000) > 100


def test_work_is_counted_where_the_build_counted_it(good: Verdict) -> None:
    counted = store().get(TINY).work is not None
    assert bool(good.gigaflops) == bool(good.gigabytes_per_second) == counted
    assert set(good.graphs) == ({"encoder", "decoder"} if counted else set())


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("segfault loaded", "crashed", "SIGSEGV: the driver said this last"),
        ("segfault run", "crashed", "SIGSEGV"),
        ("abort run", "crashed", "SIGABRT"),
        ("leave loaded", "garbage", "without a verdict"),
        ("raise run", "provider", "ZeroDivisionError"),
        ("refuse loaded", "provider", "does not feel like it"),
        ("nan", "wrong_numbers", "numbers"),
        ("numbers", "wrong_numbers", "other numbers"),
        ("words", "wrong_text", "writes"),
    ],
)
def test_a_fault_is_this_rungs_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, code: str, words: str
) -> None:
    stranger.install(tmp_path, monkeypatch, fault)
    verdict = proven("stranger")
    assert not verdict.ok
    assert (verdict.code, verdict.rung.provider) == (code, "stranger")
    assert verdict.reason is not None
    assert words in verdict.reason
    assert "\n" not in verdict.reason


@pytest.mark.parametrize(
    ("fault", "limits", "words"),
    [
        ("hang run", {"stall": 2.0}, "did nothing for 2 s"),
        ("spin loaded", {"deadline": 3.0}, "not done after 3 s"),
    ],
)
def test_what_hangs_is_killed_with_all_that_it_started(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    limits: dict[str, float],
    words: str,
) -> None:
    stranger.install(tmp_path, monkeypatch, fault)
    started = time.monotonic()
    verdict = proven("stranger", **limits)
    assert time.monotonic() - started < 10
    assert (verdict.ok, verdict.code) == (False, "hung")
    assert words in (verdict.reason or "")
    assert not [p for p in psutil.process_iter() if _is_of(tmp_path, p)]


def _is_of(folder: Path, process: psutil.Process) -> bool:
    """Whether it was started with the stranger of this folder: other cases may run beside."""
    try:
        return str(folder) in process.environ().get("PYTHONPATH", "")
    except psutil.Error:  # it has ended, or is none of ours
        return False


@pytest.mark.parametrize("when", ["asked", "loaded", "run"])
def test_what_prints_on_stdout_is_proven_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stranger.install(tmp_path, monkeypatch, f"print {when}")
    assert proven("stranger").ok


def test_operators_left_on_the_cpu_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path, monkeypatch)
    verdict = proven("stranger", "npu")
    assert (verdict.ok, verdict.code) == (True, "partly_on_cpu")
    assert verdict.placement == {"npu": 6, "cpu": 2}
    assert "2 of 8 operators (25%) run on the CPU, not on npu" in (verdict.reason or "")
    assert verdict.warm_p50_seconds


def test_a_device_on_which_nothing_runs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path, monkeypatch)
    verdict = proven("stranger", "fake")
    assert (verdict.ok, verdict.code) == (False, "on_cpu")


def test_what_is_not_there_is_refused_with_the_cure() -> None:
    assert proven("nonesuch").code == "plugin_missing"
    assert proven(device="npu").code == "device_missing"
    missing = proven(precision="fp8")
    assert missing.code == "model_missing"
    assert "edged models build" in (missing.reason or "")
    assert proven(model="nonesuch").code == "model_missing"
