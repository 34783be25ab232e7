"""What raises, crashes or blocks for ever harms nobody else, wherever it does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from edged import plugins, vetting
from edged.plugins import Plugins
from tests import distribution, stranger
from tests.client import recognize, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Install = Callable[[str, str], None]
Start = Callable[..., DaemonProcess]

HOOK = """
from edged.hookspecs import hookimpl

@hookimpl
def edged_transcript_sinks():
"""
ENDLESS = {
    "sleeps": "import time\ntime.sleep(1000)",
    "spins": "while True: pass",
    "waits": "import subprocess\nsubprocess.run(['sleep', '1000'])",
    "asleep_in_hook": f"{HOOK}    import time\n    time.sleep(1000)",
}
"""Plugins that block while they are loaded, or asked what they supply"""
DEADLY = {
    "crashes": "import ctypes\nctypes.string_at(0)",
    "aborts": "import os, sys\nprint('no licence', file=sys.stderr, flush=True)\nos.abort()",
    "leaves": "import os\nos._exit(0)",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "crashes_in_hook": f"{HOOK}    import ctypes\n    ctypes.string_at(0)",
}
GOOD = f"{HOOK}    return []\n"


def listed(*arguments: str) -> dict[str, dict[str, Any]]:
    """What `edged plugins` says, by name."""
    done = subprocess.run(
        [sys.executable, "-m", "edged", "plugins", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}


def hears(daemon: DaemonProcess, speech: Any) -> bool:
    return "best of time" in " ".join(texts(recognize(daemon.url, speech[:64000]))).lower()


# -- loading --------------------------------------------------------------------------------------


def test_plugins_that_block_or_crash_when_loaded_hang_no_daemon(
    install: Install, start_daemon: Start, speech: Any
) -> None:
    for name, module in {**ENDLESS, **DEADLY, "good": GOOD}.items():
        install(name, module)
    started = time.monotonic()
    daemon = start_daemon("--no-microphone", "--model", TINY)
    assert time.monotonic() - started < vetting.LOAD_SECONDS + 15
    assert hears(daemon, speech)
    found = {plugin["name"]: plugin for plugin in daemon.get("/v1/plugins")[1]["plugins"]}
    for name in ENDLESS:
        assert "was not loaded within 15 s" in found[name]["reason"], name
    for name in DEADLY:
        assert "it ended the process that loaded it" in found[name]["reason"], name
    assert "no licence" in found["aborts"]["reason"]
    assert found["good"]["usable"]
    daemon.stop()

    started = time.monotonic()
    again = start_daemon("--no-microphone", "--model", TINY)  # it is remembered now
    assert time.monotonic() - started < vetting.LOAD_SECONDS - 2
    assert hears(again, speech)


def test_what_was_mended_is_loaded_again(install: Install) -> None:
    install("mine", DEADLY["leaves"])
    assert not listed()["mine"]["usable"]
    time.sleep(0.01)
    install("mine", GOOD)
    assert listed()["mine"]["usable"]


def test_what_depends_on_the_machine_can_be_tried_again(install: Install, tmp_path: Path) -> None:
    driver = tmp_path / "driver"
    install("mine", f"import os\nif not os.path.exists({str(driver)!r}): os._exit(1)\n{GOOD}")
    assert "edged plugins --fresh" not in (listed()["mine"]["reason"] or "")
    driver.touch()
    assert not listed()["mine"]["usable"]
    assert listed("--fresh")["mine"]["usable"]
    assert listed()["mine"]["usable"]


def test_what_blocks_only_later_is_given_up_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It did no harm when it was tried; now it waits for something that does not come."""
    monkeypatch.setenv("EDGED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(vetting, "LOAD_SECONDS", 1.0)
    flag = tmp_path / "flag"
    distribution.write(
        tmp_path / "site",
        "fickle",
        f"import os, time\nwhile os.path.exists({str(flag)!r}): time.sleep(0.05)\n{GOOD}",
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    entry = EntryPoint("fickle", "edged_fickle", "edged")
    assert vetting.vet([entry]) == [None]
    flag.touch()
    [plugin] = Plugins.load([entry]).all
    flag.unlink()  # so that the thread ends with the test
    assert "was not loaded within 1 s" in str(plugin.error)
    assert vetting.vet([entry]) == [plugin.error]


def test_a_cache_that_cannot_be_written_makes_nothing_wrong(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mine", DEADLY["leaves"])
    monkeypatch.setenv("EDGED_CACHE_DIR", "/proc/nowhere")
    assert not listed()["mine"]["usable"]
    assert listed()["onnxruntime"]["usable"]


def test_a_memory_that_is_broken_is_none(install: Install) -> None:
    install("mine", GOOD)
    memory = Path(vetting._path())
    memory.write_text("[1, 2")
    assert listed()["mine"]["usable"]
    memory.write_text("[]")
    assert listed()["mine"]["usable"]


# -- names ----------------------------------------------------------------------------------------


def test_nobody_takes_a_name_that_is_taken(install: Install) -> None:
    thief = stranger.PLUGIN.replace('name = "stranger"', 'name = "onnxruntime"')
    install("a_thief", thief)
    install("first", stranger.PLUGIN)
    install("second", stranger.PLUGIN)
    found = listed()
    assert found["onnxruntime"]["usable"]
    assert "plugin onnxruntime does already" in found["a_thief"]["reason"]
    assert found["first"]["usable"]
    assert "plugin first does already" in found["second"]["reason"]


@pytest.mark.parametrize("hook", [h for h, attribute in plugins.NAMED_BY.items() if attribute])
def test_what_has_no_name_is_not_used(hook: str) -> None:
    module = f"from edged.hookspecs import hookimpl\n@hookimpl\ndef {hook}():\n    return [42]"
    namespace: dict[str, Any] = {}
    exec(module, namespace)
    sys.modules["edged_nameless"] = type("Module", (), namespace)  # type: ignore[assignment]
    try:
        plugin = plugins.load(EntryPoint("nameless", "edged_nameless", "edged"))
    finally:
        del sys.modules["edged_nameless"]
    assert "which has no" in str(plugin.error)
    assert plugin.supplies == {}


# -- providers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["asked", "loaded", "run"])
@pytest.mark.parametrize(
    "fault",
    ["raise", *(pytest.param(fault, marks=pytest.mark.long) for fault in ("segfault", "hang"))],
)
def test_a_provider_that_fails_leaves_its_place_to_another(
    install: Install,
    start_daemon: Start,
    speech: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    when: str,
) -> None:
    stranger.install(tmp_path / "stranger", monkeypatch, f"{fault} {when}")
    daemon = start_daemon(
        "--no-microphone", "--model", TINY, engine_provider="stranger", engine_fallback="degrade"
    )
    assert hears(daemon, speech)
    health = daemon.get("/v1/health")[1]
    assert health["engine"]["effective"]["provider"] == "onnxruntime"
    assert any("stranger" in reason or "asked for" in reason for reason in health["reasons"])
