"""OpenVINO 2021.4 in a Python 3.9 of its own: the whole path, on that release's processor device.

There is no stick here. What one does differently is its device's name and its half precision
(`tests/models/test_half.py`).
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged import workers
from edged.engine.process import Stillness, family
from edged.engine.prove import prove
from edged.errors import EdgedError, ProviderError
from edged.messages import Rung, WorkerOptions
from edged.models.moonshine import Moonshine
from edged.models.onnx11 import Onnx11
from edged.models.store import ModelStore
from edged.plugins import Plugins
from edged.provider import Device, Opener, Session, SessionOptions, devices
from edged.recognizer import SAMPLE_RATE
from edged_movidius.provider import CPU, MIXED, MYRIAD, Movidius
from edged_movidius.remote import HOST
from tests.client import recognize
from tests.conftest import TINY, build, create_workers
from tests.daemon import DaemonProcess


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory with an environment as `edged workers create movidius` makes it."""
    try:
        workers.find_python(workers.recipe("movidius").pythons)
    except EdgedError as error:
        pytest.skip(error.message)
    folder = create_workers(tmp_path_factory.mktemp("state"), {"movidius": ()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_STATE_DIR", str(folder))
        yield folder


@pytest.fixture
def provider(state: Path) -> Iterator[Movidius]:
    made = Movidius()
    yield made
    if made._remote:
        made._remote.end()


@pytest.fixture(scope="module")
def cache(state: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory with tiny-en for it in fp32, and for ONNX Runtime."""
    return build(tmp_path_factory.mktemp("cache"), ["fp32"], ["onnx", "onnx11"])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """y [1, rows, 3] = x [1, rows, 4] times a matrix of ones, plus m [1, rows, 1]; n = ids + 0."""
    g = Onnx11("fp16")
    x, m = g.input("x", 1, 2, 4), g.input("m", 1, 2, 1)
    g.output("y", g.add(g.linear(x, np.ones((4, 3), np.float32)), m))
    rows = g.look_up(np.eye(5, dtype=np.float32), g.input("ids", 1, 2, dtype="int32"))
    g.output("n", g.index_of_largest(rows))
    g.save(tmp_path / "graph.onnx11")
    return tmp_path / "graph.onnx11"


def feeds(rows: int, value: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "x": np.full((1, rows, 4), value, np.float32),
        "m": np.ones((1, rows, 1), np.float32),
        "ids": np.arange(rows, dtype=np.int32)[None],
    }


# -- sessions -------------------------------------------------------------------------------------


def test_its_devices_are_those_that_are_plugged_in(provider: Movidius) -> None:
    assert list(provider.probe()) == [CPU]
    assert provider.version() == "2021.4.2"
    assert provider.installed() == ["openvino 2021.4.2"]


def test_one_session_takes_the_shapes_it_is_asked_for(provider: Movidius, graph: Path) -> None:
    session = provider.open(graph, CPU, SessionOptions(inspect=True))
    assert {(spec.name, spec.dtype) for spec in session.inputs} == {
        ("x", "float32"),
        ("m", "float32"),
        ("ids", "int32"),
    }
    assert session.placement["cpu"] > 0
    for rows in (2, 5, 3, 5):
        y, n = session.run(feeds(rows), ["y", "n"])
        assert np.array_equal(y.numpy(), np.full((1, rows, 3), 5.0))
        assert n.numpy().tolist() == [list(range(rows))]
        assert n.numpy().dtype == np.int32
    session.close()


def test_it_is_run_on_in_place(provider: Movidius, graph: Path) -> None:
    session = provider.open(graph, CPU, SessionOptions())
    arrays = session.arrays({name: array.shape for name, array in feeds(4).items()})
    assert not any(array.any() for array in arrays.values())
    for value in (1.0, 2.0):
        arrays["x"][...] = value
        [y] = session.run(arrays, ["y"])
        assert y.numpy().max() == 4 * value
    assert session.arrays({n: a.shape for n, a in arrays.items()})["x"].max() == 2.0
    other = session.arrays({name: array.shape for name, array in feeds(3).items()})
    assert not other["x"].any()
    again = session.arrays({name: array.shape for name, array in feeds(4).items()})
    assert not again["x"].any(), "new arrays hold zeros"


def test_a_result_can_be_fed_on_and_outlives_the_next_run(provider: Movidius, graph: Path) -> None:
    session = provider.open(graph, CPU, SessionOptions())
    [y] = session.run(feeds(2), ["y"])
    session.run(feeds(2, 9.0), ["y"])
    assert y.numpy().max() == 5.0
    g = Onnx11("fp16")
    g.output("z", g.add(g.input("y", 1, 2, 3), 1.0))
    g.save(graph.with_name("next.onnx11"))
    after = provider.open(graph.with_name("next.onnx11"), CPU, SessionOptions())
    for _ in range(2):
        assert after.run({"y": y}, ["z"])[0].numpy().max() == 6.0


@pytest.mark.parametrize(
    "x", [np.zeros((1, 2, 8), np.float32)[:, :, ::2], np.zeros((1, 2, 4), np.float64)]
)
def test_what_would_be_copied_in_secret_is_refused(
    provider: Movidius, graph: Path, x: np.ndarray
) -> None:
    session = provider.open(graph, CPU, SessionOptions())
    with pytest.raises(ProviderError, match="must be C-contiguous float32"):
        session.run({**feeds(2), "x": x}, ["y"])


def test_a_file_that_is_none_is_refused_and_the_others_go_on(
    provider: Movidius, graph: Path
) -> None:
    session = provider.open(graph, CPU, SessionOptions())
    graph.with_name("bad.onnx11").write_bytes(b"no model" * 100)
    for name in ("bad.onnx11", "missing.onnx11"):
        with pytest.raises(ProviderError, match=r"OpenVINO 2021\.4"):
            provider.open(graph.with_name(name), CPU, SessionOptions())
    with pytest.raises(ProviderError, match=r"OpenVINO 2021\.4"):
        session.arrays({"x": (1, 2, 5), "m": (1, 2, 1), "ids": (1, 2)})
    assert session.run(feeds(2), ["y"])[0].numpy().max() == 5.0


def test_without_a_stick_its_device_says_so(provider: Movidius, graph: Path) -> None:
    session = provider.open(graph, MYRIAD, SessionOptions())
    with pytest.raises(ProviderError, match=r"(?i)myriad"):
        session.run(feeds(2), ["y"])


def test_mixed_leaves_on_the_processor_what_is_fed_much(provider: Movidius, graph: Path) -> None:
    g = Onnx11("fp16")
    g.output("z", g.add(g.input("y", 1, 1 << 17), 1.0))
    g.save(graph.with_name("large.onnx11"))
    large = provider.open(graph.with_name("large.onnx11"), MIXED, SessionOptions(inspect=True))
    assert large.placement["cpu"] > 0
    assert large.run({"y": np.ones((1, 1 << 17), np.float32)}, ["z"])[0].numpy().max() == 2.0
    small = provider.open(graph, MIXED, SessionOptions())
    with pytest.raises(ProviderError, match=r"(?i)myriad"):
        small.run(feeds(2), ["y"])


# -- its process ----------------------------------------------------------------------------------


def opened(provider: Movidius, graph: Path) -> tuple[Session, int]:
    session = provider.open(graph, CPU, SessionOptions())
    session.run(feeds(2), ["y"])
    assert provider._remote
    return session, provider._remote.pid


def test_its_death_is_an_error_with_a_reason(provider: Movidius, graph: Path) -> None:
    session, pid = opened(provider, graph)
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"is gone \(it left with -9\)"):
            session.run(feeds(2), ["y"])


def test_it_is_looked_at_with_its_parent(provider: Movidius, graph: Path) -> None:
    _, pid = opened(provider, graph)
    assert pid in family(os.getpid())
    assert Stillness(os.getpid()).seconds() < 1


def test_it_dies_with_its_parent_even_while_it_hangs(state: Path, graph: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from edged_movidius.provider import *;"
        "m = Movidius(); m.open(Path(sys.argv[1]), CPU, SessionOptions());"
        "print(m._remote.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(graph)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 5
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_the_configuration_may_name_its_python(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = workers.python_of("movidius")
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path))
    none = Movidius()
    assert devices(none, {}) == []
    assert (none.version(), none.installed()) == ("", [])
    with pytest.raises(ProviderError, match="edged workers create movidius") as raised:
        none.open(tmp_path / "graph.onnx11", CPU, SessionOptions())
    assert raised.value.code == "no_worker"
    named = Movidius()
    assert devices(named, {"python": str(python)}) == [CPU]
    assert named.version() == "2021.4.2"
    lost = Movidius()
    with pytest.raises(ProviderError, match="/nowhere/python cannot be started"):
        devices(lost, {"python": "/nowhere/python"})


def test_a_python_without_the_package_is_told_by_its_name(tmp_path: Path) -> None:
    wrong = Movidius()
    with pytest.raises(ProviderError, match="No module named 'openvino"):
        devices(wrong, {"python": sys.executable})


def test_the_other_side_is_written_for_old_pythons() -> None:
    tree = ast.parse(HOST.read_text(), feature_version=(3, 6))
    modules = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    modules += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    foreign = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert foreign == {"numpy", "openvino"}


# -- speech ---------------------------------------------------------------------------------------


def test_a_rung_is_proven_with_real_speech(cache: Path) -> None:
    verdict = prove(Rung(TINY, "movidius", "cpu", "fp32"), cache / "models" / TINY, WorkerOptions())
    assert verdict.ok, verdict.reason
    assert verdict.text == ModelStore(cache / "models").get(TINY).check_text
    assert verdict.runtime == "movidius 2021.4.2"
    assert verdict.difference
    assert verdict.difference < 1e-4
    assert set(verdict.placement) == {"cpu"}
    assert verdict.peak_memory_bytes
    assert verdict.peak_memory_bytes > 300 << 20, "that of its process counts"


@pytest.mark.long
def test_texts_are_those_of_onnx_runtime(
    provider: Movidius, cache: Path, speech: np.ndarray
) -> None:
    model = ModelStore(cache / "models").get(TINY)

    def load(runtime: Any, device: Device) -> Moonshine:
        return Moonshine(model, "fp32", Opener(runtime, device))

    usual = Plugins.discover().provider("onnxruntime")
    reference, other = load(usual, usual.probe()[-1]), load(provider, CPU)
    for start, seconds in ((1, 2.0), (1, 5.0), (1, 11.0), (8, 3.0), (20, 20.0)):
        first = start * SAMPLE_RATE
        clip = np.ascontiguousarray(speech[first : first + int(seconds * SAMPLE_RATE)])
        expected, found = reference.transcribe(clip, words=True), other.transcribe(clip, words=True)
        assert found.text == expected.text != ""
        assert [w.text for w in found.words] == [w.text for w in expected.words]
    usual_decoding, decoding = reference.start(), other.start()
    for stop in range(SAMPLE_RATE, 8 * SAMPLE_RATE, SAMPLE_RATE):
        partial = decoding.advance(speech[:stop])
        assert partial.text == usual_decoding.advance(speech[:stop]).text


@pytest.mark.long
def test_the_daemon_serves_on_it_and_survives_its_death(
    start_daemon: Callable[..., DaemonProcess],
    state: Path,
    cache: Path,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    monkeypatch.setenv("EDGED_ENGINE_PROVIDER", "movidius")
    monkeypatch.setenv("EDGED_ENGINE_PRECISION", "fp32")
    python = str(workers.python_of("movidius"))
    monkeypatch.setenv("EDGED_WORKERS", f'{{"movidius": {{"python": "{python}"}}}}')
    daemon = start_daemon("--no-microphone", "--model", TINY)
    assert said(daemon, speech)
    [host] = family(daemon.worker().pid)[1:]
    assert is_its_host(host)
    os.kill(host, signal.SIGKILL)
    assert said(daemon, speech) == said(daemon, speech) != ""
    log = (daemon.folder / "log").read_text()
    assert "is gone (it left with -9)" in log, "the ladder is told why"
    assert not is_running(host)


def said(daemon: DaemonProcess, speech: np.ndarray) -> str:
    events = recognize(daemon.url, speech[: 8 * SAMPLE_RATE])
    return " ".join(event["text"] for event in events if event["type"] == "final")


def is_its_host(pid: int) -> bool:
    """Whether a process runs graphs with the old release."""
    return "libinference_engine.so" in Path(f"/proc/{pid}/maps").read_text()
