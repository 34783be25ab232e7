"""Pythons beside edged's own, for runtimes that cannot live in its environment.

`edged workers create NAME` makes one; the configuration may name another one:

    [workers.gpu]
    python = "/opt/gpu/bin/python"

There a provider's plugin runs in processes of that Python (`edged/elsewhere.py`), and is called
`PROVIDER@gpu`. Only movidius, whose Python is too old for that, serves its provider by itself.

Standard library only: plugins use it too.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    runs_plugins: bool = True
    """Whether edged's own plugins run in it"""


PYTHONS = ("3.13", "3.12", "3.11")
"""Versions that edged's plugins run on"""
NEEDED = ("numpy", "msgspec")
"""Packages with machine code that they import; the others are lent to them"""

RECIPES = (
    Recipe(
        "movidius",
        "OpenVINO 2021.4.2, the last package that drives a Neural Compute Stick 2",
        ("3.9", "3.8", "3.7", "3.6"),
        ("openvino==2021.4.2",),
        runs_plugins=False,
    ),
    Recipe(
        "onnxruntime-gpu",
        "ONNX Runtime for NVIDIA GPUs, with CUDA and cuDNN",
        PYTHONS,
        ("onnxruntime-gpu[cuda,cudnn]",),
    ),
    Recipe(
        "onnxruntime-openvino",
        "ONNX Runtime with OpenVINO inside, for Intel's processors, GPUs and NPUs",
        PYTHONS,
        ("onnxruntime-openvino",),
    ),
    Recipe(
        "tflite-runtime",
        "LiteRT's predecessor, which some boards' delegates need",
        ("3.11",),
        ("tflite-runtime", "numpy<2"),
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


def split(provider: str) -> tuple[str, str]:
    """The name of a provider's plugin, and of the worker whose Python runs it: empty for edged's
    own."""
    name, _, worker = provider.partition("@")
    return name, worker


def inventory(named: Mapping[str, Path]) -> list[Entry]:
    """All recipes, what was created, and the Pythons that the configuration names."""
    names = [*(known.name for known in RECIPES), *created(), *named]
    return [_entry(name, named.get(name) or python_of(name)) for name in dict.fromkeys(names)]


def _entry(name: str, python: Path | None) -> Entry:
    known = next((known for known in RECIPES if known.name == name), None)
    purpose = known.purpose if known else "made or named by hand"
    packages = packages_of(python) if python else {}
    return Entry(name, purpose, str(python) if python else None, packages, fault(name, python))


def fault(name: str, python: Path | None) -> str | None:
    """Why a worker cannot be used, with what mends it, or None. It is told by its files alone."""
    known = next((known for known in RECIPES if known.name == name), None)
    remedy = f"Run: edged workers create {name}" + " --package PACKAGE" * (known is None)
    if python is None:
        return remedy
    if not os.access(python, os.X_OK):
        return f"{python} is no program that may be run. {remedy}"
    if known and not known.runs_plugins:
        return None
    version = version_of(python)
    if version and version not in PYTHONS:
        return f"{python} is Python {version}; plugins run on 3.11 to 3.13. {remedy}"
    if missing := [package for package in NEEDED if package not in packages_of(python)]:
        command = f"{python} -m pip install {' '.join(missing)}"
        return f"{python} lacks {' and '.join(missing)}. Run: {command}"
    return None


def pythons(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Path]:
    """By worker the Python that was created, or that the configuration names in its stead.

    `options` are `Configuration.provider_options()`.
    """
    named = {name: Path(own["python"]) for name, own in options.items() if "python" in own}
    return {**{name: folder_of(name) / "bin" / "python" for name in created()}, **named}


def recipe(name: str) -> Recipe:
    """The recipe called `name`. Raises EdgedError."""
    for known in RECIPES:
        if known.name == name:
            return known
    names = ", ".join(known.name for known in RECIPES)
    raise EdgedError(
        f"No recipe for a worker {name}; there is {names}. Or say what it holds: --package",
        code="no_recipe",
    )


def folder_of(name: str) -> Path:
    """Where `edged workers create NAME` puts an environment."""
    return paths.state_directory() / "workers" / name


def python_of(name: str) -> Path | None:
    """The interpreter of an environment that was created, or None."""
    python = folder_of(name) / "bin" / "python"
    return python if python.exists() else None


def created() -> list[str]:
    """The workers whose environments are there."""
    return sorted(python.parent.parent.name for python in folder_of("").glob("*/bin/python"))


def packages_of(python: Path) -> dict[str, str]:
    """Versions of the distributions in an environment by name, without running it."""
    folders = [str(folder) for folder in _folders(python)]
    found = importlib.metadata.distributions(path=folders)
    return {_normal(distribution.name): distribution.version for distribution in found}


def _normal(name: str) -> str:
    """As pip compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _folders(python: Path) -> list[Path]:
    """Where it looks for packages: its own folder, and its base's where that is let in."""
    settings = _settings(python)
    prefixes = [python.parent.parent]
    if settings.get("include-system-site-packages") == "true":
        prefixes.append(Path(settings.get("home", "/usr/bin")).parent)
    patterns = ("lib/python3*/*-packages", "local/lib/python3*/*-packages")
    return [folder for p in prefixes for pattern in patterns for folder in sorted(p.glob(pattern))]


def _settings(python: Path) -> dict[str, str]:
    """What its `pyvenv.cfg` says; nothing where there is none."""
    try:
        lines = (python.parent.parent / "pyvenv.cfg").read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def version_of(python: Path) -> str | None:
    """Like 3.11, as its environment or its file's name says; None where neither does."""
    settings = _settings(python)
    said = settings.get("version") or settings.get("version_info") or python.resolve().name
    found = re.search(r"3\.\d+", said)
    return found.group() if found else None


def create(name: str, packages: Sequence[str] = ()) -> Path:
    """Make an environment in place of the one there may be; its interpreter. Raises EdgedError.

    Without `packages` by the recipe of that name. What could not be finished is removed.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise EdgedError(
            f"{name!r} is no name for a worker: use small letters, digits, - and _",
            code="worker_name",
        )
    wanted = Recipe(name, "", PYTHONS, tuple(packages)) if packages else recipe(name)
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
        needed = NEEDED if wanted.runs_plugins else ()
        _call(folder / "bin" / "python", *pip, *wanted.packages, *needed)
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
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            yield Path(sys.executable)
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
