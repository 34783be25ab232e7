"""Pythons beside edged's own, for runtimes that cannot live in its environment.

`edged workers create NAME` makes one from a recipe; the configuration may name another one:

    [workers.movidius]
    python = "/opt/movidius/bin/python"

Standard library only: plugins use it too.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edged import paths
from edged.errors import EdgedError

CREATE_SECONDS = 900.0
"""For a slow line and a slow card"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is made."""

    name: str
    purpose: str
    """For people"""
    pythons: tuple[str, ...]
    """Versions that its packages exist for, the best one first"""
    packages: tuple[str, ...]
    """What pip is asked for"""


RECIPES = (
    Recipe(
        "movidius",
        "OpenVINO 2021.4.2, the last package that drives a Neural Compute Stick 2",
        ("3.9", "3.8", "3.7", "3.6"),
        ("openvino==2021.4.2",),
    ),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One that is there, or could be."""

    name: str
    purpose: str
    python: str | None
    packages: Mapping[str, str]
    """Versions by name"""
    reason: str | None
    """Why it cannot be used"""


def inventory(named: Mapping[str, Path]) -> list[Entry]:
    """All recipes, and the Pythons that the configuration names."""
    recipes = {known.name: known for known in RECIPES}
    return [
        _entry(name, recipes.get(name), named.get(name) or python_of(name))
        for name in dict.fromkeys([*recipes, *named])
    ]


def _entry(name: str, known: Recipe | None, python: Path | None) -> Entry:
    purpose = known.purpose if known else "named in the configuration"
    if python is None:
        return Entry(name, purpose, None, {}, f"Run: edged workers create {name}")
    if not os.access(python, os.X_OK):
        return Entry(name, purpose, str(python), {}, f"{python} is no program that may be run")
    return Entry(name, purpose, str(python), packages_of(python), None)


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises EdgedError."""
    for known in RECIPES:
        if known.name == name:
            return known
    names = ", ".join(known.name for known in RECIPES)
    raise EdgedError(f"No recipe for a worker {name}; there is {names}", code="no_recipe")


def folder_of(name: str) -> Path:
    """Where `edged workers create NAME` puts an environment."""
    return paths.state_directory() / "workers" / name


def python_of(name: str) -> Path | None:
    """The interpreter of an environment that was created, or None."""
    python = folder_of(name) / "bin" / "python"
    return python if python.exists() else None


def created() -> list[str]:
    """The recipes whose environments are there."""
    return [known.name for known in RECIPES if python_of(known.name)]


def packages_of(python: Path) -> dict[str, str]:
    """Versions of the distributions in an environment by name, without running it."""
    folders = sorted(python.parent.parent.glob("lib/python3*/site-packages"))
    found = importlib.metadata.distributions(path=[str(folder) for folder in folders])
    return {distribution.name: distribution.version for distribution in found}


def create(name: str) -> Path:
    """Make an environment in place of the one there may be; its interpreter. Raises EdgedError.

    What could not be finished is removed.
    """
    wanted = recipe(name)
    python, folder = find_python(wanted.pythons), folder_of(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise EdgedError(
            f"{folder} cannot be written ({error.strerror}). "
            "Free it, or choose another place with EDGED_STATE_DIR",
            code="workers_unwritable",
        ) from error
    try:
        _call(python, "-m", "venv", str(folder))
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _call(folder / "bin" / "python", *pip, *wanted.packages)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder / "bin" / "python"


def _call(python: Path, *arguments: str) -> None:
    """Run a Python to its end. Raises EdgedError with its last words."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            [python, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=CREATE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgedError(f"{python} cannot be run: {error}", code="worker_create") from error
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        last = next((line for line in said if line.startswith("ERROR")), (said or ["it died"])[-1])
        command = " ".join(arguments[:3])
        raise EdgedError(f"{python} {command} failed: {last}", code="worker_create")


def find_python(versions: Sequence[str]) -> Path:
    """An interpreter of one of these versions, which can make environments. Raises EdgedError."""
    for python in _pythons(versions):
        if _makes_environments(python):
            return python
    first, last = versions[-1], versions[0]
    wanted = f"Python {first}" if first == last else f"Python {first} to {last}"
    raise EdgedError(
        f"There is no {wanted} here with its venv module. Install one: uv python install {last}, "
        f"or pyenv install {last}, or sudo apt-get install python{last} python{last}-venv",
        code="no_python",
    )


def _pythons(versions: Sequence[str]) -> Iterator[Path]:
    """On the search path, and where people's tools put them."""
    home = Path.home()
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR", home / ".local/share/uv/python")
    pyenv = os.environ.get("PYENV_ROOT", home / ".pyenv")
    for version in versions:
        name = f"python{version}"
        if found := shutil.which(name):
            yield Path(found)
        for folder, pattern in (
            (pyenv, f"versions/{version}.*/bin/{name}"),
            (uv, f"cpython-{version}*/bin/{name}"),
            ("/opt", f"python*/bin/{name}"),
            ("/usr/local/bin", name),
        ):
            yield from sorted(Path(folder).glob(pattern), reverse=True)


def _makes_environments(python: Path) -> bool:
    """It may be a stub that only says how to install it, or come without its modules."""
    try:
        done = subprocess.run(
            [python, "-c", "import ensurepip, venv"], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
