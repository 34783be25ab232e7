"""The folder of built models: what is there, whether it is whole.

A model is a folder with a `model.toml` that names every file with its size and SHA-256:

    moonshine-tiny-en/
      model.toml  tokenizer.bin  check.wav
      int8/encoder.onnx  int8/encoder.weights  int8/decoder.onnx  int8/decoder.weights
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.errors import ModelError

MANIFEST = "model.toml"
PRECISIONS = ("fp32", "fp16", "int8", "int4")
"""What a model can be built in"""
BUILD_VERSION = 4
"""Raised whenever `edged models build` would write other files from the same source."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model folder, as its manifest describes it."""

    folder: Path
    name: str
    family: str
    language: str
    licence: str
    sample_rate: int
    """Hertz"""
    source: str
    """The package and version that the weights came from."""
    check_text: str
    """What the float32 model writes for `check.wav`."""
    gate: Mapping[str, str]
    """Files of the gate's clips, and what float32 writes for them"""
    decoding: Mapping[str, Any]
    """What the family's recogniser wants to know of this model"""
    work: Mapping[str, Any] | None
    """How much there is to compute and to read (`work.py`); None if a build did not count it"""
    files: Mapping[str, Mapping[str, Any]]
    """Relative path to {sha256, bytes}; a precision's files lie in a folder of its name."""

    @property
    def precisions(self) -> list[str]:
        return sorted({path.split("/")[0] for path in self.files if "/" in path})

    def path(self, name: str) -> Path:
        return self.folder / name

    def files_for(self, precision: str) -> Iterator[str]:
        """The files that a rung of this precision reads."""
        return (path for path in self.files if path.split("/")[0] == precision or "/" not in path)

    def digest(self, precision: str) -> str:
        """One short hash over all files of a precision: the model's identity in measurements."""
        joined = "".join(self.files[path]["sha256"] for path in sorted(self.files_for(precision)))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def verify(self, precision: str) -> None:
        """Read every file of a precision; raise ModelError naming the first that is not whole."""
        if precision not in self.precisions:
            raise ModelError(
                f"{self.name} has no {precision} build in {self.folder}. "
                f"Run: edged models build {self.name}",
                path=self.folder / precision,
                code="model_missing",
            )
        for name in self.files_for(precision):
            _verify_file(self.path(name), self.files[name])


def _verify_file(path: Path, expected: Mapping[str, Any]) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). Run: edged models build",
            path=path,
            code="model_missing",
        ) from error
    if actual != expected["sha256"]:
        raise ModelError(
            f"{path} is corrupt (its SHA-256 is not the manifest's). Run: edged models build",
            path=path,
            code="model_corrupt",
        )


def read_model(folder: Path) -> Model:
    """Read a model folder's manifest. Raises ModelError naming the file."""
    path = folder / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text("utf-8"))
        if manifest["build_version"] != BUILD_VERSION:
            raise ModelError(
                f"{folder} was built by another version of edged. Run: edged models build",
                path=path,
                code="model_outdated",
            )
        return Model(
            folder=folder,
            name=manifest["name"],
            family=manifest["family"],
            language=manifest["language"],
            licence=manifest["licence"],
            sample_rate=manifest["sample_rate"],
            source=manifest["source"],
            check_text=manifest["check"]["text"],
            gate=manifest["gate"],
            decoding=manifest["decoding"],
            work=manifest.get("work"),
            files=manifest["files"],
        )
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). Run: edged models build",
            path=path,
            code="model_missing",
        ) from error
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path} is no model manifest ({error}). Run: edged models build",
            path=path,
            code="model_corrupt",
        ) from error


class ModelStore:
    """All models below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        names = (path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        return sorted(name for name in names if not name.startswith("."))

    def built(self) -> dict[str, list[str]]:
        """The precisions of every model whose manifest can be read."""
        precisions = {}
        for name in self.names():
            with suppress(ModelError):
                precisions[name] = self.get(name).precisions
        return precisions

    def get(self, name: str) -> Model:
        """The model called `name`. Raises ModelError when there is none."""
        return read_model(self.folder / name)
