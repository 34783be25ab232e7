from __future__ import annotations

from pathlib import Path

import pytest

from edged.errors import ConfigurationError
from edged.profiles import load, matching
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "path", sorted((ROOT / "hw_profiles").glob("*.toml")), ids=lambda p: p.stem
)
def test_shipped_profiles_are_valid(path: Path) -> None:
    profile = load(path)
    assert profile.machines
    assert profile.engine.encoder_threads >= profile.engine.decoder_threads >= 1


def test_the_machine_decides() -> None:
    assert "aarch64" in matching("aarch64").machines
    assert "x86_64" in matching("x86_64").machines
    assert "x86_64" in matching("riscv64").machines


def test_a_mistake_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("machines = []\nengines = 1\n")
    with pytest.raises(ConfigurationError, match=r"mine\.toml"):
        load(path)
