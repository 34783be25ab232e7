"""Models that were built here, and models that came with edged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edged import paths
from edged.errors import ModelError
from edged.models.inventory import inventory, store, verify
from tests.conftest import TINY, link_tiny


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that tiny-en came with, and a cache without anything."""
    folder = link_tiny(tmp_path / "installed") / "models"
    monkeypatch.setattr(paths, "installed_models", lambda: folder)
    monkeypatch.setenv("EDGED_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def test_a_model_that_came_with_edged_needs_no_build(installed: Path) -> None:
    assert store().names() == [TINY]
    assert store().place(TINY) == store().get(TINY).folder == installed / TINY
    assert next(entry for entry in inventory() if entry.name == TINY).usable
    assert verify() == []


def test_what_was_built_here_goes_before_it(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(installed, tmp_path / "cache" / "models", symlinks=True)
    assert store().names() == [TINY]
    assert store().get(TINY).folder == tmp_path / "cache" / "models" / TINY


def test_what_is_nowhere_is_missing_in_the_own_folder(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        store().get("other")
    assert str(tmp_path / "cache" / "models" / "other") in caught.value.message
