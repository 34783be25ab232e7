"""Strangers' plugins, installed for one test as pip would leave them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edged import paths
from tests import distribution


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a distribution whose plugin NAME is a module of this source, for processes started
    from now on. What is remembered of plugins, and the store, are the test's own."""
    site, cache = tmp_path / "site", tmp_path / "cache"
    (cache / "models").mkdir(parents=True)
    for model in (paths.cache_directory() / "models").iterdir():
        (cache / "models" / model.name).symlink_to(model)
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    distribution.add_to_path(site, monkeypatch)

    def install(name: str, module: str) -> None:
        distribution.write(site, f"test_{name}", module, "4.5.6")

    return install
