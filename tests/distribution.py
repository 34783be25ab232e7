"""A stranger's distribution with a plugin, as pip would leave it: a module and its metadata."""

from __future__ import annotations

from pathlib import Path

import pytest


def write(folder: Path, name: str, module: str, version: str = "1.0") -> None:
    """Write the distribution `edged-NAME`, whose entry point NAME is a module of this source."""
    folder.mkdir(exist_ok=True)
    package = f"edged_{name}"
    (folder / f"{package}.py").write_text(module)
    metadata = folder / f"{package}-{version}.dist-info"
    metadata.mkdir(exist_ok=True)
    title = package.replace("_", "-")
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n"
    )
    plugin = name.removeprefix("test_")
    (metadata / "entry_points.txt").write_text(f"[edged]\n{plugin} = {package}\n")


def add_to_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it part of the environment of processes started from now on."""
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
