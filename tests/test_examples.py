"""The examples and what `edged plugins new` makes of them: built as wheels, installed into a fresh
environment beside edged's own wheel, and used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged import paths
from edged.skeleton import WORDS
from tests.client import s16
from tests.conftest import ROOT, TINY

pytest.importorskip("hatchling")

EXAMPLES = sorted((ROOT / "examples").glob("edged-example-*"))
KEYS = "123A456B789C*0#D"
ROWS, COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)
Run = Callable[..., subprocess.CompletedProcess[str]]


class Environment:
    """A virtual environment with edged's wheel; the libraries are those of this one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        self._run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
        site = next((folder / "venv").glob("lib/python*/site-packages"))
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        models = folder / "cache" / "models"
        models.mkdir(parents=True)
        for model in (paths.cache_directory() / "models").iterdir():
            (models / model.name).symlink_to(model)
        self.install(ROOT)

    def _run(self, *command: str | Path) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, timeout=120)

    def install(self, project: Path) -> None:
        """Build a wheel from the project's own pyproject.toml, and install it; no network."""
        pip = (sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check")
        wheels = self.folder / "wheels" / project.name
        offline = ("--no-deps", "--no-index")
        self._run(*pip, "wheel", *offline, "--no-build-isolation", "-q", "-w", wheels, project)
        [wheel] = wheels.iterdir()
        self._run(*pip, "--python", self.python, "install", *offline, "-q", wheel)

    def __call__(
        self, *arguments: str | Path, folder: Path | None = None, **settings: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python there, with nothing of this checkout on its path."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"EDGED_CACHE_DIR": str(self.folder / "cache"), **settings}
        return subprocess.run(
            [str(self.python), *map(str, arguments)],
            env=environment,
            cwd=folder or self.folder,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="module")
def installed(fresh: Environment) -> Environment:
    for example in EXAMPLES:
        fresh.install(example)
    model = "import edged_example_recognizer as e; print(e.MODEL)"
    folder = fresh("-c", model).stdout.strip()
    added = fresh("-m", "edged", "models", "add", folder)
    assert added.stdout == "dtmf-keys: fp32, writes '0 3 9 1 * 7'\n", added.stderr
    return fresh


def test_edged_is_the_wheel(installed: Environment) -> None:
    done = installed("-c", "import edged; print(edged.__file__)")
    assert "venv" in done.stdout
    plugins = json.loads(installed("-m", "edged", "plugins", "--json").stdout)["plugins"]
    assert {p["name"] for p in plugins if p["usable"]} >= {"onnxruntime", *WORDS.values()}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_keeps_its_contract(installed: Environment, example: Path) -> None:
    [name] = tomllib.loads((example / "pyproject.toml").read_text())["project"]["entry-points"][
        "edged"
    ]
    settings = json.dumps({"diary": {"path": os.devnull}})
    done = installed("-m", "edged", "conformance", name, "--json", EDGED_SINKS=settings)
    results = json.loads(done.stdout)
    assert [r for r in results if not r["passed"]] == []
    assert done.returncode == 0
    assert len(results) > 3


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(example: Path) -> None:
    modules = [path for path in example.rglob("edged_example_*/*.py") if "tests" not in path.parts]
    assert sum(len(path.read_text().splitlines()) for path in modules) < 110
    assert all(len(path.read_text().splitlines()) < 100 for path in modules)


def test_the_example_provider_recognises_the_bundled_clip(
    installed: Environment, recording: Path
) -> None:
    command = ("-m", "edged", "transcribe", recording, "--model", TINY)
    chosen = {"EDGED_ENGINE_PROVIDER": "frugal", "EDGED_ENGINE_FALLBACK": "fail"}
    done = installed(*command, **chosen)
    usual = installed(*command)
    assert "it was the best of times" in done.stdout.lower(), done.stderr
    assert done.stdout == usual.stdout


def dialled(keys: str) -> np.ndarray:
    """What a telephone sends for keys, 120 ms each, in some noise; float32 at 16 kHz."""
    time = np.arange(1920) / 16000
    pieces = [np.zeros(8000)]
    for key in keys:
        row, column = divmod(KEYS.index(key), 4)
        tones = (np.sin(2 * np.pi * hertz * time) for hertz in (ROWS[row], COLUMNS[column]))
        pieces += [0.3 * sum(tones), np.zeros(1600)]
    clean = np.concatenate([*pieces, np.zeros(16000)])
    noise = np.random.default_rng(7).normal(0, 0.01, len(clean))
    return (clean + noise).astype(np.float32)


def test_the_example_recogniser_hears_what_was_dialled(
    installed: Environment, tmp_path: Path
) -> None:
    path = tmp_path / "dialled.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(s16(dialled("5558D04#")))
    done = installed(
        *("-m", "edged", "transcribe", path, "--model", "dtmf-keys"),
        EDGED_ENGINE_DETECTOR="dtmf",
        EDGED_ENGINE_PRECISION="fp32",
    )
    assert done.stdout.split() == list("5558D04#"), done.stderr


def test_the_example_recogniser_writes_nothing_of_speech(
    installed: Environment, recording: Path
) -> None:
    done = installed(
        *("-m", "edged", "transcribe", recording, "--model", "dtmf-keys"),
        EDGED_ENGINE_PRECISION="fp32",
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0)


# -- new ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WORDS)
def test_a_new_plugin_works_at_once(fresh: Environment, tmp_path: Path, kind: str) -> None:
    name = f"my_{kind}"
    made = fresh("-m", "edged", "plugins", "new", name, "--kind", kind, "--folder", tmp_path)
    assert f"edged conformance {name}" in made.stdout, made.stderr
    project = tmp_path / f"edged-my-{kind}"
    leftovers = [p for p in project.rglob("*") if "example" in p.name or says_example(p)]
    assert leftovers == []
    fresh.install(project)
    done = fresh("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", folder=project)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "failed" not in done.stdout


def says_example(path: Path) -> bool:
    return path.suffix in {".py", ".toml", ".md"} and "example_" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Mine",), "use small letters"),
        (("../mine",), "use small letters"),
        (("frugal",), "cannot be a plugin's name"),
        (("mine", "--kind", "nonesuch"), "use one of provider"),
        (("mine", "--folder", "/proc"), "cannot be written"),
    ],
)
def test_what_cannot_be_made_is_said(
    fresh: Environment, arguments: tuple[Any, ...], words: str
) -> None:
    done = fresh("-m", "edged", "plugins", "new", *arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert words in line


def test_nothing_is_overwritten(fresh: Environment, tmp_path: Path) -> None:
    command = ("-m", "edged", "plugins", "new", "mine", "--folder", tmp_path)
    assert fresh(*command).returncode == 0
    again = fresh(*command)
    assert again.returncode == 1
    assert "is there already" in again.stderr
