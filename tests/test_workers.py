"""Pythons beside edged's own: found, created, named, and what is said where that fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged import workers
from edged.config import Configuration
from edged.errors import EdgedError


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no Python of any version, as far as can be seen."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for variable in ("HOME", "PYENV_ROOT", "UV_PYTHON_INSTALL_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_old_python_is_found_where_people_keep_it(empty: Path) -> None:
    versions = ("3.0", "3.1")  # of which there is surely none
    with pytest.raises(EdgedError, match=r"no Python 3\.1 to 3\.0 .*uv python install 3\.0"):
        workers.find_python(versions)
    pyenv = program(empty / "PYENV_ROOT/versions/3.1.4/bin/python3.1", "exit 0")
    assert workers.find_python(versions) == pyenv
    uv = program(empty / "UV_PYTHON_INSTALL_DIR/cpython-3.0.1-linux/bin/python3.0", "exit 0")
    assert workers.find_python(versions) == uv, "the better version comes first"
    program(empty / "bin/python3.0", "echo install me >&2; exit 127")
    assert workers.find_python(versions) == uv, "one that makes no environments is passed by"


def test_what_cannot_be_finished_is_removed(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its venv is made, and then the package cannot be had."""
    recipe = workers.Recipe("old", "a test", ("3.1",), ("nothing==0",))
    monkeypatch.setattr(workers, "RECIPES", (recipe,))
    python = program(
        empty / "bin/python3.1",
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; '
        'elif [ "$2" = pip ]; then echo "ERROR: no nothing==0" >&2; exit 1; fi',
    )
    monkeypatch.setenv("PATH", f"{empty}/bin:/bin:/usr/bin")
    assert workers.find_python(recipe.pythons) == python
    with pytest.raises(EdgedError, match="pip install failed: ERROR: no nothing==0"):
        workers.create("old")
    assert workers.python_of("old") is None
    assert not workers.folder_of("old").exists()


def test_an_unknown_one_names_those_there_are() -> None:
    with pytest.raises(EdgedError, match="there is movidius"):
        workers.create("nonesuch")


def test_the_list_says_what_to_do(empty: Path) -> None:
    [movidius] = workers.inventory({})
    assert movidius.reason == "Run: edged workers create movidius"
    own = program(empty / "own/bin/python", "exit 0")
    named = workers.inventory({"movidius": own, "gone": empty / "gone"})
    assert [(entry.name, entry.python) for entry in named] == [
        ("movidius", str(own)),
        ("gone", str(empty / "gone")),
    ]
    assert named[0].reason is None
    assert "no program" in str(named[1].reason)


def test_a_provider_is_told_its_python() -> None:
    configuration = Configuration.model_validate(
        {
            "providers": {"movidius": {"depth": 3}, "other": {"a": 1}},
            "workers": {"movidius": {"python": "/old/python"}, "gpu": {"python": "/gpu/python"}},
        }
    )
    assert configuration.provider_options() == {
        "movidius": {"depth": 3, "python": "/old/python"},
        "other": {"a": 1},
        "gpu": {"python": "/gpu/python"},
    }
