"""Takes in what `edged models build` made on another machine: a whole model, or the parts that are
missing here.

Every file is held against its SHA-256 before anything is changed. Whether this machine computes the
right text with it, a worker finds out when it loads.
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from edged.errors import ModelError
from edged.files import remade
from edged.models.store import MANIFEST, Model, part_of, read_model


def import_built(folder: Path, models: Path) -> Model:
    """Copy the model in `folder` below `models`, beside the parts that are there of the same
    source. Raises ModelError."""
    came = read_model(folder)
    came.verify_files(came.files)
    target = models / came.name
    try:
        with remade(target) as work:
            _join(work, came, _with_same_source(target, came))
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror})", path=target, code="cache_unwritable"
        ) from error
    return read_model(target)


def _with_same_source(target: Path, came: Model) -> Model | None:
    """What is there already and can be kept."""
    try:
        here = read_model(target)
        here.verify_files(here.files)
    except ModelError:
        return None
    return here if here.source == came.source else None


def _join(work: Path, came: Model, here: Model | None) -> None:
    for name in came.files:
        _copy(came.path(name), work / name)
    manifest = _manifest(came.folder)
    if here:
        _keep(here, came, work)
        manifest = _joined(_manifest(here.folder), manifest, came)
    (work / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def _keep(here: Model, came: Model, work: Path) -> None:
    """Parts that did not come stay, and so does what all parts are held against."""
    for name in here.files:
        if part_of(name) not in came.parts:
            _copy(here.path(name), work / name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)


def _manifest(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / MANIFEST).read_text("utf-8"))


def _joined(here: dict[str, Any], other: dict[str, Any], came: Model) -> dict[str, Any]:
    """The manifest of both."""
    parts = {name: file for name, file in other["files"].items() if part_of(name)}
    kept = {name: file for name, file in here["files"].items() if part_of(name) not in came.parts}
    sizes = {**here.get("work", {}).get("bytes", {}), **other.get("work", {}).get("bytes", {})}
    return {**here, "files": {**parts, **kept}, "work": {**here.get("work", {}), "bytes": sizes}}
