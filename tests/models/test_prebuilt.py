"""Models that were built on another machine."""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

import pytest
import tomli_w

from edged.errors import ModelError
from edged.models.check import CHECK_CLIP
from edged.models.inventory import import_built, store
from edged.models.prebuilt import import_built as import_into
from tests.conftest import TINY


@pytest.fixture
def came(static_cache: Path, tmp_path: Path) -> Path:
    """A folder as it came from elsewhere."""
    return shutil.copytree(static_cache / "models" / TINY, tmp_path / "came")


def test_parts_that_are_missing_here_are_added_and_the_others_stay(
    came: Path, tiny_cache: Path
) -> None:
    before = store().get(TINY)
    shutil.rmtree(came / "int8")
    _leave_out(came, "int8/")
    model = import_built(came)
    assert model.parts == {
        *before.parts,
        *((precision, kind) for precision in ("fp32", "fp16") for kind in ("onnx", "tflite")),
    }
    model.verify_files(model.files)
    assert before.digest("int8", {".onnx"}) == model.digest("int8", {".onnx"})
    assert model.work is not None
    assert {"int8", "fp32 tflite"} <= set(model.work["bytes"])


def test_a_whole_model_comes_where_there_is_none(came: Path, tmp_path: Path) -> None:
    model = import_into(came, tmp_path / "models")
    assert model.folder == tmp_path / "models" / TINY
    assert ("int8", "tflite") in model.parts
    model.verify_files(model.files)


def test_what_is_not_whole_changes_nothing(came: Path, tiny_cache: Path) -> None:
    before = store().get(TINY)
    path = came / "fp16" / "decoder.tflite"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"decoder\.tflite is corrupt"):
        import_built(came)
    assert store().get(TINY) == before


def test_it_takes_the_place_of_what_is_broken_here(came: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    import_into(came, models)
    (models / TINY / CHECK_CLIP).unlink()
    import_into(came, models).verify_files([CHECK_CLIP])


def _leave_out(folder: Path, start: str) -> None:
    """Take files out of a manifest."""
    path = folder / "model.toml"
    manifest = tomllib.loads(path.read_text())
    manifest["files"] = {
        name: file for name, file in manifest["files"].items() if not name.startswith(start)
    }
    path.write_text(tomli_w.dumps(manifest))
