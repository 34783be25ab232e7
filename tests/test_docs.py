"""The documents say what is so."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT, TINY
from tests.daemon import DaemonProcess

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), ROOT / "bench" / "README.md"]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        *("configuration.md", "api.md"),
        *("hw-profile.schema.json", "probe.schema.json", "doctor.schema.json"),
    ],
)
def test_the_reference_is_what_the_code_says(generate: ModuleType, page: str) -> None:
    assert (ROOT / "docs" / page).read_text("utf-8") == generate.PAGES[page](), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_s_client_prints_captions(
    start_daemon: Callable[..., DaemonProcess], recording: Path
) -> None:
    snippet = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippet is not None
    daemon = start_daemon("--source", f"file:{recording}", "--model", TINY)
    code = snippet.group(1).replace("127.0.0.1:7333", f"127.0.0.1:{daemon.port}")
    client = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert client.stdout is not None
    try:
        line = next(line for line in client.stdout if " s)" in line)
    finally:
        client.kill()
        client.communicate()
    assert re.search(r"It was .*\(\d\.\d\d s\)$", line.strip())


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`edged ([a-z]+)", README))))
def test_the_readme_s_commands_exist(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "edged", command, "--help"], capture_output=True, check=False
    )
    assert result.returncode == 0


def test_the_readme_s_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
