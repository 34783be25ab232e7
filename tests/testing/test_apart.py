"""`edged conformance`: what crashes or blocks has failed, and the other checks go on."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edged.testing import Result, keeps_contract
from edged.testing.apart import ASKED, run
from edged.testing.plan import Wish
from edged.testing.providers import CHECKS
from tests import distribution, stranger
from tests.conftest import TINY

WISH = Wish("stranger", TINY, "cpu")


def edged(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def cache(tiny_cache: Path) -> Path:
    """A cache of the test's own: what is remembered of a stranger is not to outlive it."""
    return tiny_cache


def test_a_good_plugin_passes() -> None:
    done = edged("silero", "--json")
    assert done.returncode == 0
    results = json.loads(done.stdout)
    assert all(result["passed"] for result in results)
    assert {"detector silero", "plugin silero"} <= {result["subject"] for result in results}
    assert "keeps" not in edged("silero").stdout


def test_every_plugin_of_ours_passes(cache: Path) -> None:
    for name in ("adaptive", "moonshine", "onnxruntime"):
        keeps_contract(name)()


def test_an_unknown_name_is_one_line_with_what_there_is() -> None:
    done = edged("nonesuch")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert "Nothing is called nonesuch" in line
    assert "onnxruntime" in line


def test_an_unknown_device_or_model_has_failed(cache: Path) -> None:
    [asked] = json.loads(edged("onnxruntime", "--device", "npu", "--json").stdout)
    assert (asked["passed"], asked["reason"]) == (False, "onnxruntime has no device npu here")
    done = edged("onnxruntime", "--model", "nonesuch", "--json")
    assert done.returncode == 1
    assert "nonesuch" in json.loads(done.stdout)[-1]["reason"]


def failed(results: list[Result]) -> dict[str, str]:
    return {result.name: result.reason or "" for result in results if not result.passed}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise asked", "a stranger's mistake"),
        ("segfault asked", "SIGSEGV: the driver said this last"),
        ("hang asked", "did nothing for 2 s"),
        ("leave asked", "exit code 0"),
    ],
)
def test_a_provider_that_cannot_be_asked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    stranger.install(tmp_path / "site", monkeypatch, fault)
    results = list(run(WISH, stall=2.0))
    assert [result.name for result in results] == [ASKED]
    assert words in failed(results)[ASKED]


def test_what_hangs_does_not_outlive_who_asked(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path / "site", monkeypatch, "hang asked")
    command = [sys.executable, "-m", "edged", "conformance", "stranger", "--model", TINY]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as asked:
        deadline = time.monotonic() + 30
        while not (trying := children(psutil.Process(asked.pid))):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        asked.kill()
    gone, _ = psutil.wait_procs(trying, timeout=10)
    assert gone == trying


def children(process: psutil.Process) -> list[psutil.Process]:
    """Those that try a plugin's checks."""
    return [child for child in process.children() if "edged.testing.apart" in arguments(child)]


def arguments(process: psutil.Process) -> list[str]:
    """None of one that has ended since it was listed."""
    with contextlib.suppress(psutil.NoSuchProcess):  # a zombie too
        return process.cmdline()
    return []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("segfault loaded", "SIGSEGV"),
        pytest.param("hang run", "did nothing for 2 s", marks=pytest.mark.long),
        ("raise run", "a stranger's mistake"),
    ],
)
def test_the_checks_after_one_that_is_lost_go_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    stranger.install(tmp_path / "site", monkeypatch, fault)
    results = list(run(WISH, stall=2.0))
    names = [r.name for r in results if r.subject == "provider stranger on cpu"]
    assert names == [check.name for check in CHECKS]
    assert words in failed(results)["recognises_the_check_clip"]
    assert {r.name for r in results if r.passed} >= {"devices_have_names", "says_its_version"}


def test_what_takes_for_ever_has_failed_and_is_ended(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path / "site", monkeypatch, "spin asked")
    started = time.monotonic()
    [asked] = run(WISH, deadline=3.0)
    assert "was not done after 3 s" in str(asked.reason)
    assert time.monotonic() - started < 10


def test_what_prints_passes_all_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path / "site", monkeypatch, "print asked")
    assert ASKED not in failed(list(run(WISH, stall=5.0)))


def test_a_plugin_that_cannot_be_loaded_says_why(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution.write(tmp_path / "site", "absent", "raise OSError('libnpu.so is missing')")
    distribution.add_to_path(tmp_path / "site", monkeypatch)
    reasons = failed(list(run(Wish("absent"))))
    assert "libnpu.so is missing" in reasons["can_be_loaded"]


def test_a_plugin_that_imports_its_runtime_is_found_out(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution.write(tmp_path / "site", "eager", "import onnxruntime\n" + stranger.PLUGIN)
    distribution.add_to_path(tmp_path / "site", monkeypatch)
    with pytest.raises(AssertionError, match="it imports onnxruntime"):
        keeps_contract("eager", model=TINY, device="cpu")()
