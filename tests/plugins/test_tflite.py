"""LiteRT's sessions; delegates as far as they can be tried without their devices."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.engine.prove import prove, prove_apart
from edged.errors import ProviderError
from edged.messages import Rung, WorkerOptions
from edged.models.flatgraph import FlatGraph
from edged.provider import Device, SessionOptions, devices
from edged_tflite.provider import CPU, LiteRt, placement
from tests.client import recognize, texts
from tests.conftest import TINY, create_workers
from tests.daemon import DaemonProcess

pytest.importorskip("ai_edge_litert")

IDLE = """
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct TfLiteDelegate {
    void *data;
    int (*Prepare)(void *context, struct TfLiteDelegate *delegate);
    void *from, *to, *free;
    int64_t flags;
    void *builder;
} TfLiteDelegate;

static int prepare(void *context, TfLiteDelegate *delegate) { return 0; }

TfLiteDelegate *tflite_plugin_create_delegate(
    char **keys, char **values, size_t count, void (*report)(const char *)) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(keys[i], "device") && !strcmp(values[i], "none")) {
            report("there is no such device");
            return NULL;
        }
    TfLiteDelegate *delegate = calloc(1, sizeof *delegate);
    delegate->Prepare = prepare;
    return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) { free(delegate); }
"""
"""A delegate that takes no operator, as one whose device cannot do any"""


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("delegate")
    (folder / "idle.c").write_text(IDLE)
    library = str(folder / "idle.so")
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", library, str(folder / "idle.c")], check=True
        )
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    return library


def delegates(library: str, **options: str) -> dict[str, Any]:
    return {"delegates": {"npu": {"library": library, "kind": "npu", "options": options}}}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """y [1, rows, 3] = x [1, rows, 4] times a matrix of ones, plus m [1, rows, 1]."""
    g = FlatGraph("fp32")
    x, m = g.input("x", 1, 2, 4), g.input("m", 1, 2, 1)
    g.output("y", g.add(g.linear(x, np.ones((4, 3), np.float32)), m))
    g.save(tmp_path / "graph.tflite")
    return tmp_path / "graph.tflite"


def test_one_session_takes_every_shape(graph: Path) -> None:
    session = LiteRt().open(graph, CPU, SessionOptions())
    for rows in (2, 7, 3, 7):
        x = np.arange(rows * 4, dtype=np.float32).reshape(1, rows, 4)
        [y] = session.run({"x": x, "m": np.ones((1, rows, 1), np.float32)}, ["y"])
        assert np.array_equal(y.numpy(), np.repeat(x.sum(2, keepdims=True), 3, 2) + 1)


def test_new_arrays_hold_zeros_and_the_same_shapes_what_was_written(graph: Path) -> None:
    """Where a mask hides what lies in memory, a NaN there would still be a NaN."""
    session = LiteRt().open(graph, CPU, SessionOptions())
    shapes = {"x": (1, 5, 4), "m": (1, 5, 1)}
    for array in session.arrays(shapes).values():
        assert not array.any()
        array[...] = np.nan
    assert np.isnan(session.arrays(shapes)["x"]).all()
    for array in session.arrays({"x": (1, 6, 4), "m": (1, 6, 1)}).values():
        assert not array.any()


def test_its_own_arrays_are_run_on_in_place(graph: Path) -> None:
    session = LiteRt().open(graph, CPU, SessionOptions())
    arrays = session.arrays({"x": (1, 2, 4), "m": (1, 2, 1)})
    arrays["x"][...] = 2
    [y] = session.run(arrays, ["y"])
    arrays["x"][...] = 3  # after the run: a result is none of the inputs
    assert y.numpy().tolist() == [[[8.0] * 3] * 2]
    [y] = session.run(arrays, ["y"])
    assert y.numpy().tolist() == [[[12.0] * 3] * 2]


def test_a_result_can_be_fed_on_and_outlives_the_next_run(graph: Path) -> None:
    session = LiteRt().open(graph, CPU, SessionOptions())
    ones = {"x": np.ones((1, 2, 4), np.float32), "m": np.zeros((1, 2, 1), np.float32)}
    [first] = session.run(ones, ["y"])
    [second] = session.run({**ones, "x": np.zeros((1, 2, 4), np.float32)}, ["y"])
    assert first.numpy().max() == 4.0
    assert second.numpy().max() == 0.0
    session.close()
    assert first.numpy().max() == 4.0


@pytest.mark.parametrize(
    "x", [np.zeros((1, 2, 8), np.float32)[:, :, ::2], np.zeros((1, 2, 4), np.float64)]
)
def test_what_would_be_copied_in_secret_is_refused(graph: Path, x: np.ndarray) -> None:
    session = LiteRt().open(graph, CPU, SessionOptions())
    with pytest.raises(ProviderError, match="must be C-contiguous float32"):
        session.run({"x": x, "m": np.zeros((1, 2, 1), np.float32)}, ["y"])


def test_shapes_that_do_not_fit_are_refused_with_their_sizes(graph: Path) -> None:
    session = LiteRt().open(graph, CPU, SessionOptions())
    with pytest.raises(ProviderError, match=r"x \[1, 2, 5\]"):
        session.arrays({"x": (1, 2, 5), "m": (1, 2, 1)})


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model" * 100)
    for name in ("bad.tflite", "missing.tflite"):
        with pytest.raises(ProviderError, match=name):
            LiteRt().open(tmp_path / name, CPU, SessionOptions())


def test_the_configuration_adds_devices() -> None:
    assert devices(LiteRt(), {}) == [CPU]
    [_, npu] = devices(LiteRt(), delegates("libnpu.so"))
    assert (npu.name, npu.kind, npu.static) == ("npu", "npu", True)
    with pytest.raises(ProviderError, match="names no library"):
        devices(LiteRt(), {"delegates": {"npu": {"kind": "npu"}}})


def test_a_delegate_that_is_not_there_is_refused_by_name(graph: Path) -> None:
    extra = delegates("/nowhere/libnpu.so")
    device = devices(LiteRt(), extra)[1]
    with pytest.raises(ProviderError, match=r"/nowhere/libnpu\.so"):
        LiteRt().open(graph, device, SessionOptions(extra=extra))
    with pytest.raises(ProviderError, match="no device tpu here; it has: cpu, npu"):
        LiteRt().open(graph, Device("tpu", "tpu"), SessionOptions(extra=extra))


def test_a_delegate_without_its_device_says_why(graph: Path, idle: str) -> None:
    extra = delegates(idle, device="none")
    with pytest.raises(ProviderError, match="there is no such device"):
        LiteRt().open(graph, devices(LiteRt(), extra)[1], SessionOptions(extra=extra))


def test_a_delegate_that_takes_nothing_is_seen(graph: Path, idle: str) -> None:
    extra = delegates(idle)
    options = SessionOptions(extra=extra, inspect=True)
    session = LiteRt().open(graph, devices(LiteRt(), extra)[1], options)
    assert session.placement == {"cpu": 2}
    x = {"x": np.ones((1, 3, 4), np.float32), "m": np.zeros((1, 3, 1), np.float32)}
    assert session.run(x, ["y"])[0].numpy().max() == 4.0


def test_a_rung_on_a_delegate_that_takes_nothing_is_refused(static_cache: Path, idle: str) -> None:
    options = WorkerOptions(extra={"tflite": delegates(idle)})
    verdict = prove(Rung(TINY, "tflite", "npu", "fp32"), static_cache / "models" / TINY, options)
    assert (verdict.ok, verdict.code) == (False, "on_cpu")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_processor_is_proven(static_cache: Path, precision: str) -> None:
    folder = static_cache / "models" / TINY
    verdict = prove(Rung(TINY, "tflite", "cpu", precision), folder, WorkerOptions())
    assert verdict.ok, verdict.reason
    assert set(verdict.placement) == {"cpu"}
    assert verdict.gigaflops
    assert verdict.runtime
    assert verdict.runtime.startswith("tflite ")


def test_what_a_delegate_took_is_counted_back_from_its_results() -> None:
    """Operators 0 to 3 in a row; the delegate stands in for 1 and 2."""
    row = [{"inputs": [n], "outputs": [n + 1]} for n in range(4)]
    assert placement([*row, {"inputs": [1], "outputs": [3]}], 4, "npu") == {"npu": 2, "cpu": 2}
    assert placement(row, 4, "npu") == {"cpu": 4}


def test_a_daemon_serves_with_it(
    static_cache: Path, start_daemon: Callable[..., DaemonProcess], speech: np.ndarray
) -> None:
    daemon = start_daemon(
        *("--no-microphone", "--model", TINY),
        cache_dir=static_cache,
        engine_provider="tflite",
        engine_fallback="fail",
    )
    effective = daemon.get("/v1/health")[1]["engine"]["effective"]
    assert (effective["provider"], effective["precision"]) == ("tflite", "int8")
    assert "best" in " ".join(texts(recognize(daemon.url, speech[: 4 * 16000]))).lower()


# -- its predecessor ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predecessor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with the older package in a Python of its own."""
    return create_workers(tmp_path_factory.mktemp("state"), {"tflite-runtime": ()})


@pytest.mark.long
@pytest.mark.parametrize(("precision", "serves"), [("fp32", True), ("fp16", True), ("int8", False)])
def test_the_older_package_serves_what_it_can_compute(
    predecessor: Path,
    static_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    serves: bool,
) -> None:
    """It has no 8-bit weights with a scale a channel, and must not write garbage instead."""
    monkeypatch.setenv("EDGED_STATE_DIR", str(predecessor))
    rung = Rung(TINY, "tflite@tflite-runtime", "cpu", precision)
    verdict = asyncio.run(prove_apart(rung, static_cache / "models" / TINY, WorkerOptions()))
    assert verdict.ok == serves, verdict.reason
    if serves:
        assert "ever failed" in (verdict.text or "")
    else:
        assert "FULLY_CONNECTED" in (verdict.reason or "")
