"""The units are what systemd understands, and as closed as the runtimes allow."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

UNITS = ROOT / "systemd"
PROGRAM = "/opt/edged/bin/edged"

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed here"
)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, for a program that is there: systemd looks for it."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    for path in [*folder.rglob("*.service")]:
        text = path.read_text()
        assert PROGRAM in text
        path.write_text(text.replace(PROGRAM, shutil.which("true") or ""))
    return folder


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, which finds these units before all others."""
    # A short one: other packages' units have sockets below it, whose names must fit.
    with tempfile.TemporaryDirectory() as runtime:
        return subprocess.run(
            ["systemd-analyze", *arguments],
            env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:", "XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            check=False,
        )


def drop_in(units: Path) -> None:
    """Put every drop-in in force."""
    (units / "drop-ins").rename(units / "edged.service.d")


@pytest.mark.parametrize("extended", [False, True], ids=["as shipped", "with every drop-in"])
def test_systemd_has_nothing_to_say_against_the_units(units: Path, extended: bool) -> None:
    if extended:
        drop_in(units)
    names = ["edged.service", "edged.socket", "edged-wyoming.socket"]
    done = analyze(units, "verify", "--man=no", *names)
    # It returns 0 for a word that it does not know; what it says is the verdict.
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_nor_against_the_user_s_unit(units: Path) -> None:
    folder = units / "user"
    done = analyze(folder, "--user", "verify", "--man=no", "edged.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("extended", [False, True], ids=["as shipped", "with every drop-in"])
def test_the_service_is_as_closed_as_it_is_said_to_be(units: Path, extended: bool) -> None:
    if extended:
        drop_in(units)
    file = str(units / "edged.service")
    done = analyze(units, "security", "--offline=yes", "--threshold=20", "--no-pager", file)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_a_mistake_in_a_unit_would_be_seen(units: Path) -> None:
    with (units / "edged.service").open("a") as file:
        file.write("\n[Service]\nWatchdogSecs=30\n")
    assert "WatchdogSecs" in analyze(units, "verify", "--man=no", "edged.service").stderr
