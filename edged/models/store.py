"""The folder of built models: what is there, whether it is whole.

A model is a folder with a `model.toml` that names every file with its size and SHA-256:

    moonshine-tiny-en/
      model.toml  tokenizer.bin  check.wav
      int8/encoder.onnx  int8/encoder.weights  int8/decoder.onnx  int8/decoder.weights
      int8/encoder.qdq.onnx  int8/encoder.qdq.weights
      int8/encoder.tflite  int8/decoder.tflite
      fp16/encoder.onnx11  fp16/decoder.onnx11

A model of another kind than ours may be a folder that its runtime opens as one, with all its files:

    int8/model.sherpa/encoder.onnx  int8/model.sherpa/tokens.txt

A part is what one build makes and one rung reads: a precision in a format.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edged.errors import ModelError

MANIFEST = "model.toml"
AGAIN = "Run: edged models build, or for a model that was added, edged models add"
PRECISIONS = ("fp32", "fp16", "int8", "int4")
"""What a model can be built in"""
FORMATS = {
    "onnx": ("fp32", "fp16", "int8", "int4"),
    "tflite": ("fp32", "fp16", "int8"),
    "onnx11": ("fp32", "fp16", "int8"),
}
"""The precisions that a format can be built in"""
FORMAT_OF = {
    ".onnx": "onnx",
    ".weights": "onnx",
    ".tflite": "tflite",
    ".onnx11": "onnx11",
    ".sherpa": "sherpa",
}
"""By the ending of a file, or of a folder that a runtime opens as one"""
STATIC = (".tflite", ".onnx11")
"""Endings of files with graphs of fixed shapes"""
OWN = ""
"""The format of files that a recogniser reads itself, whatever the provider opens"""
Part = tuple[str, str]
"""Precision and format"""
STORED_AS = {"bf16": "fp32"}
"""Precisions without files of their own: a runtime is told to compute another's files in them"""
COMPUTED = ("fp32", "bf16", "fp16", "int8", "int4")
"""What a rung can compute in"""
DERIVED = "quantized_from"
"""The manifest's key that tells what `edged models quantize` made, and of which model"""
BUILD_VERSION = 8
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
    """Relative path to {sha256, bytes}; files of a stored precision lie in a folder of its name."""
    left_out: Mapping[str, str]
    """Precisions that it came in and is not kept in, and why"""

    @property
    def precisions(self) -> list[str]:
        """Those that it is built in."""
        return sorted({precision for precision, _ in self.parts})

    @property
    def parts(self) -> set[Part]:
        return {part for path in self.files if (part := part_of(path))}

    def precisions_for(self, endings: Collection[str]) -> list[str]:
        """Those that a runtime has which opens files with these endings."""
        formats = formats_of(endings)
        return sorted({precision for precision, kind in self.parts if kind in formats})

    def graph(self, precision: str, name: str, formats: Collection[str]) -> Path:
        """The file of a graph in a form that a provider opens, the most special of them.

        `formats` are endings; .qdq.onnx is more special than .onnx. Raises ModelError.
        """
        stem = f"{stored_as(precision)}/{name}"
        for ending in sorted(formats, key=lambda ending: (-len(ending), ending)):
            if stem + ending in self.files:
                return self.path(stem + ending)
        raise ModelError(
            f"{self.name} has no {stem} as {' or '.join(sorted(formats))} in {self.folder}. "
            f"Run: edged models build {self.name}",
            path=self.path(stem),
            code="model_missing",
        )

    def path(self, name: str) -> Path:
        return self.folder / name

    def files_for(self, precision: str, endings: Collection[str]) -> Iterator[str]:
        """The files that a rung of this precision reads, whose runtime opens these endings."""
        formats = formats_of(endings)
        for path in self.files:
            part = part_of(path)
            if part is None or (part[0] == stored_as(precision) and part[1] in formats):
                yield path

    def digest(self, precision: str, endings: Collection[str]) -> str:
        """One short hash over all of them: the model's identity in measurements."""
        paths = sorted(self.files_for(precision, endings))
        joined = "".join(self.files[path]["sha256"] for path in paths)
        return hashlib.sha256(joined.encode()).hexdigest()[:16]

    def verify(self, precision: str, endings: Collection[str]) -> None:
        """Read every one of them; raise ModelError naming the first that is not whole."""
        stored = stored_as(precision)
        if stored not in self.precisions_for(endings):
            formats = sorted(formats_of(endings) - {OWN})
            raise ModelError(
                f"{self.name} has no {stored} build for {', '.join(formats)} in {self.folder}. "
                f"Run: edged models build {self.name} --precision {stored} "
                + " ".join(f"--format {name}" for name in formats),
                path=self.folder / stored,
                code="model_missing",
            )
        self.verify_files(self.files_for(precision, endings))

    def verify_files(self, names: Iterable[str]) -> None:
        """Read these files; raise ModelError naming the first that is not whole."""
        for name in names:
            _verify_file(self.path(name), self.files[name])


def stored_as(precision: str) -> str:
    """The precision whose files are read for this one."""
    return STORED_AS.get(precision, precision)


def formats_of(endings: Iterable[str]) -> set[str]:
    """What can be read by who opens files with these endings."""
    return {FORMAT_OF[ending] for ending in endings if ending in FORMAT_OF} | {OWN}


def buildable(endings: Iterable[str]) -> list[str]:
    """Those of them that `edged models build` makes."""
    return sorted(formats_of(endings) & set(FORMATS))


def part_of(path: str) -> Part | None:
    """The part that a file belongs to; None for those that every rung reads."""
    precision, _, rest = path.partition("/")
    name, _, _ = rest.partition("/")
    return (precision, FORMAT_OF.get(Path(name).suffix, OWN)) if rest else None


@contextmanager
def written(target: Path) -> Iterator[None]:
    """Where the disk does not take it, a ModelError says what to do."""
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror}). "
            "Free it, or choose another place with EDGED_CACHE_DIR",
            path=target,
            code="cache_unwritable",
        ) from error


def fingerprints(folder: Path) -> dict[str, dict[str, Any]]:
    """What a manifest says of the files in its folder."""
    return {
        str(path.relative_to(folder)): {"sha256": _digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify_file(path: Path, expected: Mapping[str, Any]) -> None:
    try:
        actual = _digest(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror}). {AGAIN}",
            path=path,
            code="model_missing",
        ) from error
    if actual != expected["sha256"]:
        raise ModelError(
            f"{path} is corrupt (its SHA-256 is not the manifest's). {AGAIN}",
            path=path,
            code="model_corrupt",
        )


def read_model(folder: Path) -> Model:
    """Read a model folder's manifest. Raises ModelError naming the file."""
    path = folder / MANIFEST
    try:
        manifest = tomllib.loads(path.read_text("utf-8"))
        if manifest["build_version"] != BUILD_VERSION:
            origin = manifest.get(DERIVED)
            again = f"quantize {origin}" if origin else "build"
            raise ModelError(
                f"{folder} was built by another version of edged. Run: edged models {again}",
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
            left_out=manifest.get("left_out", {}),
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
    """All models below one folder; those that are not there, below others that are only read."""

    def __init__(self, folder: Path, *others: Path) -> None:
        self.folder = folder
        self._others = others

    def names(self) -> list[str]:
        folders = (self.folder, *self._others)
        manifests = (path for folder in folders for path in folder.glob(f"*/{MANIFEST}"))
        names = {path.parent.name for path in manifests}
        return sorted(name for name in names if not name.startswith("."))

    def place(self, name: str) -> Path:
        """The folder of a model: our own, unless only another one has it."""
        places = [folder / name for folder in (self.folder, *self._others)]
        return next((place for place in places if (place / MANIFEST).exists()), places[0])

    def built(self) -> dict[str, Model]:
        """Every model whose manifest can be read."""
        models = {}
        for name in self.names():
            with suppress(ModelError):
                models[name] = self.get(name)
        return models

    def get(self, name: str) -> Model:
        """The model called `name`. Raises ModelError when there is none."""
        return read_model(self.place(name))
