"""Plugins come from entry points; a broken one is listed with its reason and harms nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from edged import hookspecs
from edged.errors import EdgedError
from edged.plugins import Plugins
from tests.client import recognize, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Install = Callable[[str, str], None]
GOOD = """
from edged.hookspecs import hookimpl
from edged.provider import ExecutionProvider

class Recorder(ExecutionProvider):
    name = "recorder"
    formats = frozenset({".onnx"})

    def version(self):
        return "1.2.3"

    def probe(self):
        return []

    def open(self, model, device, options):
        raise NotImplementedError

@hookimpl
def edged_execution_providers():
    return [Recorder()]
"""
BROKEN = {
    "raises": "raise RuntimeError('no driver is installed')",
    "missing": "import a_module_that_is_not_there",
    "leaves": "import sys; sys.exit('I am leaving')",
    "misspelt": (
        "from edged.hookspecs import hookimpl\n"
        "@hookimpl\ndef edged_execution_provider():\n    return []"
    ),
    "later": (
        "from edged.hookspecs import hookimpl\n"
        "@hookimpl\ndef edged_recognizers():\n    raise OSError('libnpu.so is missing')"
    ),
    "nothing": (
        "from edged.hookspecs import hookimpl\n@hookimpl\ndef edged_recognizers():\n    return 42"
    ),
    "syntax": "def (",
}


def listed(*command: str) -> dict[str, Any]:
    """What `edged plugins --json` says."""
    done = subprocess.run(
        [sys.executable, "-m", "edged", "plugins", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_plugin_is_found_and_asked(install: Install) -> None:
    install("recorder", GOOD)
    found = listed()
    [plugin] = [p for p in found["plugins"] if p["name"] == "recorder"]
    assert (plugin["version"], plugin["usable"], plugin["reason"]) == ("4.5.6", True, None)
    [provider] = [p for p in found["providers"] if p["name"] == "recorder"]
    assert (provider["version"], provider["devices"]) == ("1.2.3", [])


def test_broken_plugins_are_listed_with_their_reasons(install: Install) -> None:
    for name, module in BROKEN.items():
        install(name, module)
    install("recorder", GOOD)
    found = listed()
    plugins = {plugin["name"]: plugin for plugin in found["plugins"]}
    for name, words in (
        ("raises", "no driver is installed"),
        ("missing", "a_module_that_is_not_there"),
        ("leaves", "I am leaving"),
        ("misspelt", "edged_execution_provider"),
        ("later", "libnpu.so is missing"),
        ("nothing", "int"),
        ("syntax", "SyntaxError"),
    ):
        assert not plugins[name]["usable"], name
        assert words in plugins[name]["reason"], name
    for name in ("onnxruntime", "tflite", "movidius", "moonshine", "silero", "recorder"):
        assert plugins[name]["usable"], plugins[name]["reason"]
    assert {p["name"] for p in found["providers"]} >= {"onnxruntime", "recorder"}


def test_a_broken_plugin_harms_no_daemon(
    install: Install, start_daemon: Callable[..., DaemonProcess], speech: Any
) -> None:
    for name, module in BROKEN.items():
        install(name, module)
    daemon = start_daemon("--no-microphone", "--model", TINY)
    assert "best" in " ".join(texts(recognize(daemon.url, speech[: 4 * 16000]))).lower()
    plugins = {p["name"]: p for p in daemon.get("/v1/plugins")[1]["plugins"]}
    assert plugins["raises"]["usable"] is False
    assert "no driver is installed" in plugins["raises"]["reason"]
    assert plugins["raises"]["distribution"] == "edged-test-raises"
    assert plugins["onnxruntime"]["usable"] is True


def test_a_provider_that_fails_to_probe_says_why(install: Install) -> None:
    install("recorder", GOOD.replace("return []", "raise OSError('no device')", 1))
    [provider] = [p for p in listed()["providers"] if p["name"] == "recorder"]
    assert "no device" in provider["error"]
    assert provider["devices"] == []


def test_what_is_not_installed_is_named_with_what_is() -> None:
    plugins = Plugins.discover()
    for look_up in (plugins.provider, plugins.recognizer, plugins.voice_detector):
        with pytest.raises(EdgedError, match="Installed: ") as raised:
            look_up("nonesuch")
        assert raised.value.code == "plugin_missing"
    with pytest.raises(EdgedError, match="onnxruntime"):
        plugins.provider("nonesuch")


def test_a_missing_name_tells_of_the_broken_plugin_that_may_have_had_it() -> None:
    broken = EntryPoint("npu", "a_module_that_is_not_there", "edged")
    with pytest.raises(EdgedError, match="plugin npu failed: ModuleNotFoundError"):
        Plugins.load([broken]).provider("npu")


def test_importing_the_plugins_imports_no_runtime() -> None:
    program = (
        "import sys; from edged.plugins import Plugins;"
        "plugins = Plugins.discover();"
        "assert all('pip install' in p.error for p in plugins.all if p.error);"
        "runtimes = ('onnxruntime', 'onnx', 'openvino', 'ai_edge_litert', 'soxr', 'pydantic');"
        "print([m for m in runtimes if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_hook_is_called() -> None:
    """A hook that is specified is one that a plugin's answer to counts."""
    hooks = [name for name in vars(hookspecs) if name.startswith("edged_")]
    supplied = {hook for plugin in Plugins.discover().all for hook in plugin.supplies}
    assert supplied == set(hooks)
