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
from edged.models.check import CHECK_ERROR_RATE, read_clip, word_error_rate
from edged.models.sources import SourceFiles
from edged.models.store import BUILD_VERSION, MANIFEST, Model, read_model

SAMPLE_RATE = 16000
CHECK_SECONDS = 6.0
"""Length of the check clip."""
DEFAULT_PRECISIONS = ("int8",)
PRECISIONS = ("fp32", "int8")

Transcribe = Callable[[Model, str, np.ndarray], str]
"""What a model writes in one precision for float32 samples at 16 kHz."""
Progress = Callable[[str, float], None]
"""Told the stage and the share done, 0 to 1."""


def build_model(
    files: SourceFiles,
    target: Path,
    transcribe: Transcribe,
    precisions: Sequence[str] = DEFAULT_PRECISIONS,
    progress: Progress = lambda _stage, _share: None,
) -> Model:
    """Build one model into the folder `target` and return it.

    Raises ModelError when the source is broken, the folder cannot be written, or a precision does
    not write what float32 writes.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            return _build(files, target, transcribe, precisions, progress)
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
    transcribe: Transcribe,
    precisions: Sequence[str],
    progress: Progress,
) -> Model:
    from edged.models.graph import decoder, encoder
    from edged.models.weights import read_weights

    for left in target.parent.glob(f".{target.name}.*"):  # by builds that were killed
        shutil.rmtree(left, ignore_errors=True)
    work = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        work.mkdir()
        progress("reading weights", 0.0)
        weights = read_weights(files.encoder, files.decoder)
        progress("building graphs", 0.2)
        _save(encoder(weights), work / "fp32" / "encoder.onnx")
        _save(decoder(weights), work / "fp32" / "decoder.onnx")
        if "int8" in precisions:
            progress("quantising", 0.4)
            _save_int8(weights, work)
        shutil.copyfile(files.tokenizer, work / "tokenizer.bin")
        clip = _write_check_clip(files.clip, work / "check.wav")
        progress("checking", 0.8)
        _write_manifest(files, work, check_text="")
        text = _check(read_model(work), clip, transcribe, precisions)
        if "fp32" not in precisions:
            shutil.rmtree(work / "fp32")
        _write_manifest(files, work, text)
        if target.exists():
            target.rename(target.with_name(f".{target.name}.old"))
        work.rename(target)
        shutil.rmtree(target.with_name(f".{target.name}.old"), ignore_errors=True)
        progress("done", 1.0)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return read_model(target)


def _save_int8(weights: Any, work: Path) -> None:
    from edged.models.graph import decoder, encoder
    from edged.models.quantize import quantize_decoder, quantize_encoder

    _save(quantize_encoder(encoder(weights)), work / "int8" / "encoder.onnx")
    _save(quantize_decoder(decoder(weights)), work / "int8" / "decoder.onnx")


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


def _write_check_clip(recording: Path, target: Path) -> np.ndarray:
    """Cut the check clip at 16 kHz mono, write it, and return what a reader will see."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(recording, dtype="float32", always_2d=True)
    resampled = soxr.resample(samples.mean(axis=1), rate, SAMPLE_RATE)
    clip = resampled[: int(CHECK_SECONDS * SAMPLE_RATE)]
    soundfile.write(target, clip, SAMPLE_RATE, subtype="PCM_16")
    return read_clip(target)


def _check(
    model: Model, clip: np.ndarray, transcribe: Transcribe, precisions: Sequence[str]
) -> str:
    """Compare every precision with float32 on the check clip; return float32's text."""
    reference = transcribe(model, "fp32", clip)
    for precision in precisions:
        text = transcribe(model, precision, clip)
        rate = word_error_rate(reference, text)
        if not reference or rate > CHECK_ERROR_RATE:
            raise ModelError(
                f"{model.name} in {precision} writes {text!r} where float32 writes "
                f"{reference!r}; it is not kept",
                path=model.path(precision),
                code="model_wrong",
            )
    return reference


def _write_manifest(files: SourceFiles, folder: Path, check_text: str) -> None:
    source = files.source
    manifest = {
        "build_version": BUILD_VERSION,
        "name": source.name,
        "family": source.family,
        "language": source.language,
        "licence": source.licence,
        "sample_rate": SAMPLE_RATE,
        "source": f"{source.distribution} {source.version}",
        "decoding": {"padding": source.padding, "finished": source.finished},
        "check": {"audio": "check.wav", "text": check_text},
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
