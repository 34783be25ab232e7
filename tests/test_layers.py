"""Imports go one way, and the daemon's process holds no runtime."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY
from tests.daemon import DaemonProcess

PACKAGE = ROOT / "edged"
BASE = {"channel", "config", "errors", "files", "hookspecs", "log", "messages", "parent", "paths"}
BASE |= {"provider", "recognizer", "policy", "source", "sink", "plugins", "vetting"}
BASE |= {"activation", "notify", "workers", "elsewhere", "__init__"}
BASE |= {"journal", "renames", "stderr", "tracer"}
"""Modules that everything may use: they know nothing of audio, engine or API"""
MAY_IMPORT = {
    "audio": {"audio"},
    "models": {"models", "audio"},
    "engine": {"engine", "models", "audio", "hardware", "profiles"},
    "hardware": {"hardware"},
    "bench": {"bench", "client", "engine", "models", "audio", "hardware"},
    "client": {"client"},
    "recorder": {"recorder", "engine"},
    "doctor": {"doctor", "engine", "audio", "models", "hardware", "client"},
    "trace": {"trace", "engine", "audio", "models", "client", "hub"},
    "testing": {"testing", "api", "cli", "engine", "audio", "models"},
    "cli": {
        *("cli", "audio", "bench", "client", "doctor", "engine", "hardware", "models", "profiles"),
        *("recorder", "testing", "trace", "run", "offline", "captions", "demonstration"),
        *("skeleton", "inspection", "model_tables", "probe_table", "replay", "replay_table"),
        "report",
    },
    "api": {
        *("api", "daemon", "engine", "audio", "models", "hardware"),
        *("hub", "transcripts", "subtitles", "meters"),
    },
}
"""By package, the packages and modules beside the base that it may import"""
EXCEPTIONS = {
    # The daemon's side of capture writes into a stream of the engine's.
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports anywhere, type checking included, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """The parts of edged that a file imports: `engine` for edged.engine.stream."""
    for name, line in imports(path):
        package, _, rest = name.partition(".")
        part = rest.partition(".")[0]
        exists = (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").exists()
        if package == "edged" and part and exists:
            yield part, line


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("package", sorted(p for p in MAY_IMPORT if (PACKAGE / p).is_dir()))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {part}"
        for path in sources(PACKAGE / package)
        for part, line in own_imports(path)
        if part not in BASE | MAY_IMPORT[package]
        and (str(path.relative_to(PACKAGE)), part) not in EXCEPTIONS
    ]
    assert not wrong


def test_every_package_has_its_place() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(MAY_IMPORT)


def test_the_base_knows_nothing_of_what_stands_on_it() -> None:
    wrong = [
        f"{name}.py:{line} imports {part}"
        for name in BASE
        for part, line in own_imports(PACKAGE / f"{name}.py")
        if part not in BASE and (name, part) != ("recognizer", "models")  # for its types
    ]
    assert not wrong


def test_the_contracts_import_nothing_of_a_runtime() -> None:
    """Only the standard library at run time: a plugin can be written against them alone."""
    for name in ("provider", "recognizer", "source", "sink", "errors", "hookspecs"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        modules = [n.module for n in tree.body if isinstance(n, ast.ImportFrom)]
        modules += [a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names]
        third = {m for m in modules if m and m.partition(".")[0] in {"numpy", "onnxruntime"}}
        assert not third, name


def plugin_files() -> list[Path]:
    return sources(ROOT / "plugins")


def test_a_plugin_imports_only_the_contracts() -> None:
    contracts = {"provider", "recognizer", "policy", "source", "sink", "errors", "hookspecs"}
    contracts |= {"workers"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports edged.{part}"
        for path in plugin_files()
        for part, line in own_imports(path)
        if part not in contracts and (path.name, part) != ("recognizer.py", "models")  # for types
    ]
    assert plugin_files()
    assert not wrong


RUNTIMES = {"onnxruntime", "openvino", "torch", "tflite_runtime", "ai_edge_litert", "sherpa_onnx"}
BUILD = {"quantize.py", "weights.py", "flatgraph.py"}
BUILD |= {"anatomy.py", "calibration.py", "trial.py"}
"""They run in `edged models build`, `inspect` and `quantize` only, in processes of their own"""


def test_only_plugins_and_the_model_build_import_a_runtime() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(PACKAGE)
        for name, line in imports(path)
        if name.partition(".")[0] in RUNTIMES and path.name not in BUILD
    ]
    assert not wrong


@pytest.mark.parametrize("folder", ["api", "audio", "."])
def test_the_model_format_is_known_to_the_model_build_only(folder: str) -> None:
    files = sources(PACKAGE / folder) if folder != "." else sorted(PACKAGE.glob("*.py"))
    assert not [p for p in files for name, _ in imports(p) if name.partition(".")[0] == "onnx"]


def libraries(pid: int) -> set[str]:
    """The files that are mapped into a process."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/\S+\.so[.\d]*", maps))


def test_the_daemons_process_holds_no_runtime(
    start_daemon: Callable[..., DaemonProcess],
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    for path in ("/v1/health", "/v1/plugins", "/v1/models", "/v1/devices", "/openapi.json"):
        assert daemon.get(path)[0] == 200
    here = {lib for lib in libraries(daemon.pid) if re.search("onnx|openvino|portaudio", lib)}
    assert not here
    there = libraries(daemon.worker().pid)
    assert any("onnxruntime" in library for library in there)
