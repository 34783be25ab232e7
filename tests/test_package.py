"""What goes into the Debian package beside the code; tests/debian installs it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edged.config import Configuration, load
from tests.conftest import ROOT

PACKAGE = ROOT / "package"


@pytest.fixture(scope="module")
def manuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, str(PACKAGE / "man.py"), str(folder)], check=True)
    return folder


def test_every_command_has_its_place_in_the_manual(manuals: Path) -> None:
    page = (manuals / "man1" / "edged.1").read_text()
    for command in ("run", "reload", "models build", "workers create", "plugins", "plugins new"):
        assert re.search(rf"^\.SS edged {command}\b", page, re.MULTILINE), command
    assert "\\-\\-no\\-microphone" in page


def test_every_section_has_its_place_in_the_manual(manuals: Path) -> None:
    page = (manuals / "man5" / "edged.toml.5").read_text()
    for section in Configuration.model_fields:
        assert re.search(rf"^\.SH \[{section}", page, re.MULTILINE), section


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed here")
@pytest.mark.parametrize("page", ["man1/edged.1", "man5/edged.toml.5"])
def test_man_has_nothing_to_say_against_a_page(manuals: Path, page: str) -> None:
    command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(manuals / page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shipped_configuration_is_the_default_one(tmp_path: Path) -> None:
    file = PACKAGE / "edged.toml"
    assert load(file) == Configuration()


def test_what_it_proposes_is_understood(tmp_path: Path) -> None:
    text = (PACKAGE / "edged.toml").read_text()
    proposed = re.sub(r"(?m)^# (\w+ = )", r"\1", text)
    assert proposed.count(" = ") > 5
    file = tmp_path / "edged.toml"
    file.write_text(proposed)
    assert load(file).server.host == "0.0.0.0"


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_a_shell_understands_its_scripts(script: str) -> None:
    assert subprocess.run(["sh", "-n", PACKAGE / script], check=False).returncode == 0


def test_what_is_copied_is_there() -> None:
    """The build names files of the checkout."""
    named = re.findall(r'^    "([\w./-]+)": "', (PACKAGE / "build.py").read_text(), re.MULTILINE)
    assert len(named) > 10
    for path in (path for path in named if "/" in path or path == "LICENSE"):
        assert (ROOT / path).exists(), path
