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
    for entry in workers.inventory({}):
        assert entry.reason == f"Run: edged workers create {entry.name}"
    own = program(empty / "own/bin/python", "exit 0")
    named = workers.inventory({"movidius": own, "gone": empty / "gone"})
    found = {entry.name: entry for entry in named if entry.python}
    assert {name: entry.python for name, entry in found.items()} == {
        "movidius": str(own),
        "gone": str(empty / "gone"),
    }
    assert found["movidius"].reason is None
    assert "no program" in str(found["gone"].reason)


def test_one_that_was_made_by_hand_is_listed(empty: Path) -> None:
    python = program(empty / "state/workers/mine/bin/python", "exit 0")
    assert workers.created() == ["mine"]
    [mine] = [entry for entry in workers.inventory({}) if entry.name == "mine"]
    assert (mine.python, mine.packages) == (str(python), {})
    assert "lacks numpy and msgspec" in str(mine.reason)
    other = program(empty / "other/bin/python", "exit 0")
    assert workers.pythons({}) == {"mine": python}
    assert workers.pythons({"mine": {"python": str(other)}}) == {"mine": other}, "it comes first"


@pytest.mark.parametrize("name", ["", "../mine", "Mine", "a b", "a@b"])
def test_a_name_must_be_one(empty: Path, name: str) -> None:
    with pytest.raises(EdgedError, match="no name for a worker"):
        workers.create(name, ["numpy"])


def test_packages_of_the_system_count_where_they_are_let_in(tmp_path: Path) -> None:
    metadata = tmp_path / "usr/lib/python3.11/dist-packages/OnnxRuntime_GPU-1.23.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: OnnxRuntime_GPU\nVersion: 1.23\n"
    )
    python = program(tmp_path / "own/bin/python", "exit 0")
    settings = tmp_path / "own/pyvenv.cfg"
    for answer, packages in (("false", {}), ("true", {"onnxruntime-gpu": "1.23"})):
        settings.write_text(
            f"home = {tmp_path}/usr/bin\ninclude-system-site-packages = {answer}\n"
            "version = 3.11.7\n"
        )
        assert workers.packages_of(python) == packages
    assert workers.version_of(python) == "3.11"


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
