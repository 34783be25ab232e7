"""Takes a model from elsewhere into the store.

It comes in a layout that a recogniser knows (`Recognizer.describe`), or as a folder with its files
below the name of each precision, a clip that it can recognise, `check.wav` (16 kHz, mono, 16 bits),
and a short `model.toml`:

    name = "touch-tones"
    family = "dtmf"            # the recogniser that drives it
    language = "en"
    licence = "Apache-2.0"
    source = "where it comes from"

    [decoding]                 # whatever the recogniser wants to know
"""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from edged.errors import ModelError
from edged.files import remade
from edged.messages import CHECK_CLIP_SECONDS
from edged.models.check import (
    CHECK_CLIP,
    REFERENCE,
    compare,
    compare_features,
    read_clip,
    read_recording,
    write_clip,
)
from edged.models.sources import SOURCES, recordings
from edged.models.store import (
    BUILD_VERSION,
    MANIFEST,
    PRECISIONS,
    Model,
    Part,
    fingerprints,
    read_model,
)
from edged.recognizer import SAMPLE_RATE, Recognizer

OpenRecognizer = Callable[[Model, Part], Any]
"""Loads a part of a model"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FASTER_WHISPER = {"model.bin", "config.json"}
"""Files of a model for CTranslate2"""
LAYOUTS = (
    "a model.toml (docs/plugins.md)",
    "sherpa-onnx's tokens.txt with its .onnx files",
    "Moonshine's encoder_model.ort, decoder_model_merged.ort and tokenizer.bin",
)
"""What is looked for in a folder"""
UNDETERMINED = "und"
"""The language of who does not say it (ISO 639-2)"""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A model from elsewhere."""

    written: Mapping[str, Any]
    """What its manifest says, as far as it is known"""
    files: Mapping[str, Path]
    """By place in the model's folder"""
    recordings: Sequence[Path] = ()
    """Of which the first becomes its check clip, if it has none"""


def find(folder: Path, recognizers: Iterable[type[Recognizer]], said: Mapping[str, str]) -> Foreign:
    """What lies in a folder; `said` goes over what it says of itself. Raises ModelError."""
    if (folder / MANIFEST).is_file():
        found = _with_manifest(folder)
    else:
        found = _in_a_layout(folder, recognizers)
    written = {**found.written, **{key: value for key, value in said.items() if value}}
    name = written["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ModelError(f"{name!r} is no name for a model: use letters, digits, dots and dashes")
    if any(source.name == name for source in SOURCES):
        raise ModelError(f"{name} is a default model's name. Choose another one: --name")
    return Foreign(written, found.files, found.recordings)


def _with_manifest(folder: Path) -> Foreign:
    path = folder / MANIFEST
    try:
        written = tomllib.loads(path.read_text("utf-8"))
        name = written["name"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is no model's description ({error!r})", path=path) from error
    if not (folder / CHECK_CLIP).is_file():
        raise ModelError(f"{folder} holds no {CHECK_CLIP}: a clip that {name} can recognise")
    if not any((folder / precision).is_dir() for precision in PRECISIONS):
        raise ModelError(f"{folder} has no folder called {', '.join(PRECISIONS)}")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return Foreign(written, {str(path.relative_to(folder)): path for path in files})


def _in_a_layout(folder: Path, recognizers: Iterable[type[Recognizer]]) -> Foreign:
    if not folder.is_dir():
        raise ModelError(f"{folder} is no folder", path=folder)
    for recognizer in recognizers:
        described = recognizer.describe(folder)
        if described:
            name = folder.resolve().name
            written = {
                "name": name,
                "family": recognizer.family,
                "language": UNDETERMINED,
                "licence": "unknown",
                "source": name,
                "decoding": dict(described.decoding),
            }
            return Foreign(written, described.files, described.recordings)
    names = {path.name for path in folder.iterdir()}
    if names >= FASTER_WHISPER:
        raise ModelError(
            f"{folder} is a model of faster-whisper; it wants a recogniser of that family, and "
            "none is installed. See: edged plugins",
            code="model_unknown",
        )
    raise ModelError(
        f"{folder} is in no layout that edged knows. It looked for {'; '.join(LAYOUTS)}",
        code="model_unknown",
    )


def adopt(foreign: Foreign, models: Path, open_recognizer: OpenRecognizer) -> Model:
    """Take a model below `models` and let it write down what its clip says. Raises ModelError."""
    target = models / foreign.written["name"]
    try:
        with remade(target) as work:
            _make(work, foreign, open_recognizer)
    except OSError as error:
        raise ModelError(f"{target} cannot be written ({error})", path=target) from error
    return read_model(target)


def _make(work: Path, foreign: Foreign, open_recognizer: OpenRecognizer) -> None:
    """Put the model into its folder, and try it there."""
    for place, path in foreign.files.items():
        _take(path, work / place)
    if CHECK_CLIP not in foreign.files:
        _make_clip(foreign, work)
    _write_manifest(work, foreign.written, "", {})
    text, left_out = _reference(read_model(work), open_recognizer)
    for precision in left_out:
        shutil.rmtree(work / precision)
    _write_manifest(work, foreign.written, text, left_out)


def _take(path: Path, place: Path) -> None:
    """Without a second copy on the disk, where that can be."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        os.link(path.resolve(), place)
        return
    shutil.copyfile(path, place)


def _make_clip(foreign: Foreign, work: Path) -> None:
    """From a recording that came with it, else from edged's own. Raises ModelError."""
    for path in (*foreign.recordings, *recordings()):
        samples = read_recording(path)[: round(CHECK_CLIP_SECONDS * SAMPLE_RATE)]
        write_clip(samples, work / CHECK_CLIP)
        return
    raise ModelError(
        f"There is no recording to try {foreign.written['name']} with. "
        "Put one beside its files: test_wavs/speech.wav"
    )


def _write_manifest(
    folder: Path, written: Mapping[str, Any], text: str, left_out: Mapping[str, str]
) -> None:
    manifest = {
        "decoding": {},
        "gate": {},
        **written,
        "build_version": BUILD_VERSION,
        "sample_rate": SAMPLE_RATE,
        "check": {"audio": CHECK_CLIP, "text": text},
        "left_out": dict(left_out),
        "files": fingerprints(folder),
    }
    (folder / MANIFEST).unlink(missing_ok=True)  # it may be a link to the author's
    (folder / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def _reference(model: Model, open_recognizer: OpenRecognizer) -> tuple[str, dict[str, str]]:
    """What the best precision makes of the clip, and which others do not do the same, and why."""
    best, *others = sorted(model.parts, key=lambda part: (PRECISIONS.index(part[0]), part[1]))
    clip = read_clip(model.path(CHECK_CLIP))
    recognizer = open_recognizer(model, best)
    text, features = str(recognizer.transcribe(clip).text), recognizer.features(clip)
    if not text:
        raise ModelError(f"{model.name} recognises nothing in {CHECK_CLIP}", code="wrong_text")
    model.path(REFERENCE).unlink(missing_ok=True)
    np.save(model.path(REFERENCE), features)
    left_out = {}
    for part in others:
        other = open_recognizer(model, part)
        try:
            compare(text, other.transcribe(clip).text, part[0])
            compare_features(features, other.features(clip), part[0])
        except ModelError as error:
            left_out[part[0]] = error.message
    return text, left_out
