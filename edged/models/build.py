"""`edged models build`: from the wheels' files to the graphs that edged runs, in seconds.

A model is built beside its place and moved there whole, so that a killed build leaves nothing
half done; a lock keeps two builds apart. Nothing is kept that does not write, for the check clip,
what the float32 graphs write.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from edged.errors import ModelError
from edged.models.check import (
    CHECK_CLIP,
    REFERENCE,
    compare,
    compare_features,
    cut,
    read_clip,
)
from edged.models.moonshine import FRAME
from edged.models.sources import SourceFiles, recordings
from edged.models.store import BUILD_VERSION, MANIFEST, PRECISIONS, Model, read_model
from edged.recognizer import Recognizer

SAMPLE_RATE = 16000
CHECK_SECONDS = 6.0
"""Length of the check clip."""
_CHECK_SAMPLES = round(CHECK_SECONDS * SAMPLE_RATE)

OpenRecognizer = Callable[[Model, str], Recognizer]
"""Loads a model in one precision on the CPU."""
Progress = Callable[[str, float], None]
"""Told the stage and the share done, 0 to 1."""


def build_model(
    files: SourceFiles,
    target: Path,
    open_recognizer: OpenRecognizer,
    precisions: Sequence[str] = PRECISIONS,
    progress: Progress = lambda _stage, _share: None,
) -> Model:
    """Build one model into the folder `target` and return it.

    Raises ModelError when the source is broken, the folder cannot be written, or a precision does
    not write what float32 writes.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            return _build(files, target, open_recognizer, precisions, progress)
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror}). "
            "Free it, or choose another place with EDGED_CACHE_DIR",
            path=target,
            code="cache_unwritable",
        ) from error


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(
    files: SourceFiles,
    target: Path,
    open_recognizer: OpenRecognizer,
    precisions: Sequence[str],
    progress: Progress,
) -> Model:
    from edged.models.weights import read_weights

    for left in target.parent.glob(f".{target.name}.*"):  # by builds that were killed
        shutil.rmtree(left, ignore_errors=True)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        work.mkdir()
        progress("reading weights", 0.0)
        weights = read_weights(files.encoder, files.decoder)
        sizes = {}
        for number, precision in enumerate(dict.fromkeys(["fp32", *precisions])):
            progress(f"building {precision}", 0.2 + 0.5 * number / len(PRECISIONS))
            sizes[precision] = _save_precision(weights, precision, work)
        shutil.copyfile(files.tokenizer, work / "tokenizer.bin")
        clip = _write_clip(_read_recording(files.clip)[:_CHECK_SAMPLES], work / CHECK_CLIP)
        progress("checking", 0.8)
        _write_manifest(files, work, sizes, check_text="", gate={})
        text, gate = _check(read_model(work), clip, open_recognizer, precisions)
        if "fp32" not in precisions:
            shutil.rmtree(work / "fp32")
        _write_manifest(files, work, sizes, text, gate)
        if target.exists():
            target.rename(target.with_name(f".{target.name}.old"))
        work.rename(target)
        shutil.rmtree(target.with_name(f".{target.name}.old"), ignore_errors=True)
        progress("done", 1.0)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_model(target)


def _save_precision(weights: Any, precision: str, work: Path) -> dict[str, int]:
    """Write a precision's graphs; returns the bytes of the weights that each multiplies with."""
    from edged.models import graph
    from edged.models.quantize import halve, quantize_decoder, quantize_encoder
    from edged.models.work import product_bytes

    encoder, decoder = graph.encoder(weights), graph.decoder(weights)
    if precision == "fp16":
        encoder, decoder = halve(encoder), halve(decoder)
    elif precision in {"int8", "int4"}:
        encoder = quantize_encoder(encoder)
        decoder = quantize_decoder(decoder, bits=int(precision.removeprefix("int")))
    sizes = {"encoder": product_bytes(encoder), "decoder": product_bytes(decoder)}
    _save(encoder, work / precision / "encoder.onnx")
    _save(decoder, work / precision / "decoder.onnx")
    return sizes


def _save(model: Any, path: Path) -> None:
    """Write a graph with its weights in a file beside it, which runtimes map instead of copying."""
    import onnx

    path.parent.mkdir(exist_ok=True)
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.stem}.weights",
        size_threshold=1024,
    )


def _read_recording(path: Path) -> np.ndarray:
    """A recording as 16 kHz mono."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    resampled: np.ndarray = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    return resampled


def _write_clip(samples: np.ndarray, target: Path) -> np.ndarray:
    """Write a clip and return what a reader will see."""
    import soundfile

    soundfile.write(target, samples, SAMPLE_RATE, subtype="PCM_16")
    return read_clip(target)


def _check(
    model: Model, clip: np.ndarray, open_recognizer: OpenRecognizer, precisions: Sequence[str]
) -> tuple[str, dict[str, str]]:
    """Compare every precision with float32 on the check clip; return float32's text, and its texts
    for the gate's clips by file name.

    Leaves float32's numbers beside the clip, and the gate's clips.
    """
    reference = open_recognizer(model, "fp32")
    text, features = reference.transcribe(clip).text, reference.features(clip)
    np.save(model.path(REFERENCE), features)
    for precision in precisions:
        recognizer = open_recognizer(model, precision)
        try:
            compare(text, recognizer.transcribe(clip).text, precision)
            compare_features(features, recognizer.features(clip), precision)
        except ModelError as error:
            raise ModelError(
                f"{model.name} in {precision} is not kept: {error.message}",
                path=model.path(precision),
                code="model_wrong",
            ) from error
    return text, _write_gate(model, reference)


def _write_gate(model: Model, reference: Recognizer) -> dict[str, str]:
    clips = (clip for path in recordings() for clip in cut(_read_recording(path)))
    return {
        name: reference.transcribe(_write_clip(clip, model.path(name))).text
        for number, clip in enumerate(clips, 1)
        if (name := f"gate-{number:02}.wav")
    }


def _write_manifest(
    files: SourceFiles,
    folder: Path,
    sizes: dict[str, dict[str, int]],
    check_text: str,
    gate: dict[str, str],
) -> None:
    source = files.source
    manifest = {
        "build_version": BUILD_VERSION,
        "name": source.name,
        "family": source.family,
        "language": source.language,
        "licence": source.licence,
        "sample_rate": SAMPLE_RATE,
        "source": f"{source.distribution} {source.version}",
        "decoding": {
            "paddings": source.paddings,
            "sure": source.sure,
            "retries": source.retries,
            "finished": source.finished,
        },
        "check": {"audio": CHECK_CLIP, "text": check_text},
        "gate": gate,
        "work": {"samples_per_frame": FRAME, "bytes": sizes},
        "files": {
            str(path.relative_to(folder)): _fingerprint(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != MANIFEST
        },
    }
    (folder / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, "bytes": path.stat().st_size}
