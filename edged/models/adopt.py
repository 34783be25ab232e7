"""Takes a stranger's model into the store.

It comes as a folder with its files below the name of each precision, a clip that it can recognise,
`check.wav` (16 kHz, mono, 16 bits), and a short `model.toml`:

    name = "touch-tones"
    family = "dtmf"            # the recogniser that drives it
    language = "en"
    licence = "Apache-2.0"
    source = "where it comes from"

    [decoding]                 # whatever the recogniser wants to know
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from edged.errors import ModelError
from edged.models.check import CHECK_CLIP, REFERENCE, compare, compare_features, read_clip
from edged.models.store import (
    BUILD_VERSION,
    MANIFEST,
    PRECISIONS,
    Model,
    Part,
    fingerprints,
    read_model,
)
from edged.recognizer import SAMPLE_RATE

OpenRecognizer = Callable[[Model, Part], Any]
"""Loads a part of a model"""


def adopt(folder: Path, models: Path, open_recognizer: OpenRecognizer) -> Model:
    """Copy a model below `models` and let it write down what its clip says. Raises ModelError."""
    written = _read(folder)
    target = models / written["name"]
    work = models / f".{written['name']}.{os.getpid()}"
    try:
        shutil.copytree(folder, work)
        _write_manifest(work, written, "")
        text = _reference(read_model(work), open_recognizer)
        _write_manifest(work, written, text)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written ({error})", path=target) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_model(target)


def _read(folder: Path) -> dict[str, Any]:
    """The author's manifest. Raises ModelError when something is missing."""
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
    return written


def _write_manifest(folder: Path, written: dict[str, Any], text: str) -> None:
    manifest = {
        "decoding": {},
        "gate": {},
        **written,
        "build_version": BUILD_VERSION,
        "sample_rate": SAMPLE_RATE,
        "check": {"audio": CHECK_CLIP, "text": text},
        "files": fingerprints(folder),
    }
    (folder / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def _reference(model: Model, open_recognizer: OpenRecognizer) -> str:
    """What the best precision makes of the clip, for the others to be held against."""
    best, *others = sorted(model.parts, key=lambda part: (PRECISIONS.index(part[0]), part[1]))
    clip = read_clip(model.path(CHECK_CLIP))
    recognizer = open_recognizer(model, best)
    text, features = recognizer.transcribe(clip).text, recognizer.features(clip)
    if not text:
        raise ModelError(f"{model.name} recognises nothing in {CHECK_CLIP}", code="wrong_text")
    np.save(model.path(REFERENCE), features)
    for part in others:
        other = open_recognizer(model, part)
        compare(text, other.transcribe(clip).text, part[0])
        compare_features(features, other.features(clip), part[0])
    return str(text)
