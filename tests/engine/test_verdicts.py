"""Verdicts are found again, until something that they depend on changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edged.engine import verdicts
from edged.engine.prove import Verdict
from edged.engine.verdicts import Verdicts, remembered
from edged.errors import EdgedError
from edged.hardware.accelerators import Accelerator
from edged.hardware.machine import find
from edged.messages import Rung
from edged.models.store import MANIFEST
from edged.plugins import Plugins
from tests.conftest import TINY
from tests.test_layers import RUNTIMES

RUNG = Rung(TINY, "onnxruntime", "cpu", "int8")
VERDICT = Verdict(rung=RUNG, ok=True, time=1000.0, warm_p50_seconds=0.05)


@pytest.fixture
def cache(tiny_cache: Path) -> Path:
    """With a verdict."""
    Verdicts().put(VERDICT)
    return tiny_cache


def test_a_verdict_is_found_again(cache: Path) -> None:
    assert Verdicts().get(RUNG) == VERDICT
    assert remembered() == [VERDICT]


def test_looking_up_imports_no_runtime(cache: Path) -> None:
    code = (
        "import sys, edged.engine.verdicts as v; print(len(v.remembered()));"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, loaded = done.stdout.splitlines()
    assert count == "1"
    assert not set(loaded.split()) & RUNTIMES


def test_a_new_verdict_takes_the_old_ones_place(cache: Path) -> None:
    refused = msgspec.structs.replace(VERDICT, ok=False, code="hung", time=2000.0)
    Verdicts().put(refused)
    assert remembered() == [refused]


def test_another_rung_has_no_verdict(cache: Path) -> None:
    for other in ({"precision": "fp32"}, {"device": "npu"}, {"provider": "nonesuch"}):
        assert Verdicts().get(msgspec.structs.replace(RUNG, **other)) is None


def test_another_build_of_the_model_is_proven_anew(cache: Path) -> None:
    manifest = cache / "models" / TINY / MANIFEST
    text = manifest.read_text()
    digest = text.split('[files."int8/encoder.weights"]\nsha256 = "')[1][:64]
    manifest.write_text(text.replace(digest, digest[::-1]))
    assert remembered() == []


def test_another_kernel_is_proven_anew(cache: Path) -> None:
    machine = msgspec.structs.replace(find(), kernel="9.9.9")
    assert Verdicts(machine).get(RUNG) is None


def test_another_driver_of_the_rungs_device_is_proven_anew(cache: Path) -> None:
    def with_driver(version: str) -> Verdicts:
        gpu = Accelerator(
            id="nvidia-gpu.0",
            family="nvidia-gpu",
            kind="gpu",
            name="NVIDIA GPU",
            hardware="10de:2204",
            address="pci 0000:01:00.0",
            driver="nvidia",
            driver_version=version,
            providers=["onnxruntime cuda"],
        )
        return Verdicts(msgspec.structs.replace(find(), accelerators=[gpu]))

    gpu_rung = msgspec.structs.replace(RUNG, device="cuda")
    with_driver("1").put(msgspec.structs.replace(VERDICT, rung=gpu_rung))
    assert with_driver("1").get(gpu_rung)
    assert not with_driver("2").get(gpu_rung)
    assert with_driver("2").get(RUNG), "the processor does not depend on it"


def test_another_version_of_the_plugin_is_proven_anew(cache: Path) -> None:
    plugins = Plugins.discover()
    for plugin in plugins.all:
        plugin.version = "99"
    assert Verdicts(plugins=plugins).get(RUNG) is None


def test_another_version_of_the_runtime_is_proven_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "path" / "onnxruntime-99.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 99\n")
    monkeypatch.syspath_prepend(tmp_path / "path")
    assert "onnxruntime 99" in verdicts.runtimes(Plugins.discover())["onnxruntime"]
    assert Verdicts().get(RUNG) is None


def test_another_version_of_edged_is_proven_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "__version__", "99")
    assert Verdicts().get(RUNG) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"verdicts": 1}', b"\xff", b"null"])
def test_a_broken_file_is_as_none_and_is_mended(cache: Path, content: bytes) -> None:
    (cache / verdicts.FILE).write_bytes(content)
    assert remembered() == []
    Verdicts().put(VERDICT)
    assert remembered() == [VERDICT]


def test_a_broken_entry_is_left_out(cache: Path) -> None:
    file = cache / verdicts.FILE
    file.write_bytes(file.read_bytes().replace(b'"ok": true', b'"ok": "maybe"'))
    assert remembered() == []


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    memory = Verdicts()
    (cache / verdicts.FILE).unlink()
    (cache / verdicts.FILE).mkdir()
    with pytest.raises(EdgedError, match="EDGED_CACHE_DIR"):
        memory.put(VERDICT)
    assert not list(cache.glob(f".{verdicts.FILE}*"))


def test_facts_are_kept_as_long_as_the_hardware_is_the_same(cache: Path) -> None:
    Verdicts().put_fact("colours", ["red"])
    assert Verdicts().fact("colours", list[str]) == ["red"]
    assert Verdicts().fact("colours", dict[str, int]) is None
    assert Verdicts().fact("shapes", list[str]) is None
    machine = msgspec.structs.replace(find(), kernel="9.9.9")
    assert Verdicts(machine).fact("colours", list[str]) is None
