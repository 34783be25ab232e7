"""`edged models build`: from the wheels' files to the graphs that edged runs, in seconds.

A model is built beside its place and moved there whole, so that a killed build leaves nothing
half done; a lock keeps two builds apart. Nothing is kept that does not write, for the check clip,
what the float32 graphs write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w

from edged.errors import ModelError
from edged.files import remade
from edged.messages import CHECK_CLIP_SECONDS
from edged.models.bucket import BUCKETS, FRAME
from edged.models.check import (
    CHECK_CLIP,
    REFERENCE,
    compare,
    compare_features,
    cut,
    read_clip,
    read_recording,
    write_clip,
)
from edged.models.sources import TOKENIZER, Source, SourceFiles, recordings
from edged.models.store import (
    BUILD_VERSION,
    MANIFEST,
    Model,
    Part,
    fingerprints,
    part_of,
    read_model,
    written,
)
from edged.models.tokenizer import entries_of, packed
from edged.models.vocabulary import trimmed
from edged.models.work import work_name
from edged.recognizer import Recognizer

if TYPE_CHECKING:
    from edged.models.quantize import Moments
    from edged.models.weights import Weights
    from edged.models.writer import Writer

SAMPLE_RATE = 16000
_CHECK_SAMPLES = round(CHECK_CLIP_SECONDS * SAMPLE_RATE)

OpenRecognizer = Callable[..., Recognizer]
"""Loads a part of a model on the CPU; told endings, from files with these."""
WEIGHTS_ONLY = ".qdq.onnx"
"""Ending of a graph for runtimes that multiply with quantised weights in their own way"""
Progress = Callable[[str, float], None]
"""Told the stage and the share done, 0 to 1."""
REFERENCE_PART = ("fp32", "onnx")
"""What all others are held against"""
LISTENING = "int4"
"""Is made for what float32's products are given while it recognises the gate's clips"""


def build_model(
    files: SourceFiles,
    target: Path,
    open_recognizer: OpenRecognizer,
    parts: Sequence[Part],
    progress: Progress = lambda _stage, _share: None,
) -> Model:
    """Build parts of one model into the folder `target`, keep what is there of others, and return
    the model.

    Raises ModelError when the source is broken, the folder cannot be written, or a part does not
    write what float32 writes.
    """
    with written(target), remade(target) as work:
        _Build(files, target, work, open_recognizer, parts, progress).run()
    progress("done", 1.0)
    return read_model(target)


class _Build:
    """One build, in a folder of its own until it is done."""

    def __init__(
        self,
        files: SourceFiles,
        target: Path,
        work: Path,
        open_recognizer: OpenRecognizer,
        parts: Sequence[Part],
        progress: Progress,
    ) -> None:
        self._files = files
        self._work = work
        self._open = open_recognizer
        self._progress = progress
        self._before = _usable(target, files.source)
        whole = _whole_parts(self._before) if self._before else set()
        lost = _parts_of(target) - whole
        self._parts = list(dict.fromkeys([*parts, *sorted(lost)]))
        self._kept = whole - set(self._parts)
        self._sizes = dict(((self._before and self._before.work) or {}).get("bytes", {}))

    def run(self) -> None:
        from edged.models.weights import read_weights

        self._progress("reading weights", 0.0)
        weights = read_weights(self._files.encoder, self._files.decoder)
        entries = entries_of(self._files.tokenizer.read_bytes())
        if self._files.source.trimmed:
            weights, entries = trimmed(weights, entries)
        self._keep()
        text, gate = self._reference(weights, entries)
        self._save(weights, text, gate)
        self._progress("checking", 0.8)
        self._check(text, gate)

    @property
    def _makes_reference(self) -> bool:
        listens = any(precision == LISTENING for precision, _ in self._parts)
        return (
            self._before is None
            or REFERENCE_PART in self._parts
            or (listens and REFERENCE_PART not in self._kept)
        )

    def _keep(self) -> None:
        """Take over what is whole and is not built anew."""
        if self._before is None:
            return
        for name in self._before.files:
            part = part_of(name)
            if part in self._kept or (part is None and not self._makes_reference):
                path = self._work / name
                path.parent.mkdir(exist_ok=True)
                os.link(self._before.path(name), path)

    def _reference(
        self, weights: Weights, entries: Sequence[bytes]
    ) -> tuple[str, Mapping[str, str]]:
        """What float32 writes for the check clip, and for the gate's clips by file name. Leaves the
        clips, and float32's numbers for the first."""
        if not self._makes_reference:
            assert self._before is not None
            return self._before.check_text, self._before.gate
        self._progress("building fp32 onnx", 0.1)
        (self._work / TOKENIZER).write_bytes(packed(entries))
        self._sizes[work_name(REFERENCE_PART)] = _save_part(weights, REFERENCE_PART, self._work)
        samples = read_recording(self._files.clip)[:_CHECK_SAMPLES]
        clip = write_clip(samples, self._work / CHECK_CLIP)
        model = self._manifest()
        reference = self._open(model, REFERENCE_PART)
        np.save(self._work / REFERENCE, reference.features(clip))
        return reference.transcribe(clip).text, _write_gate(model, reference)

    def _save(self, weights: Weights, text: str, gate: Mapping[str, str]) -> None:
        made = [part for part in self._parts if part != REFERENCE_PART]
        for number, part in enumerate(made):
            self._progress(f"building {' '.join(part)}", 0.2 + 0.6 * number / len(made))
            moments = None
            if part[0] == LISTENING:
                moments = self._heard(weights, self._manifest(text, gate))
            self._sizes[work_name(part)] = _save_part(weights, part, self._work, moments)

    def _heard(self, weights: Weights, model: Model) -> Moments:
        """What the decoder's products are given while float32 recognises the gate's clips."""
        from edged.models import calibration
        from edged.models.graph import decoder
        from edged.models.quantize import activations

        recorder = calibration.Recorder()
        reference = self._open(model, REFERENCE_PART, through=recorder.through)
        graph = decoder(weights)
        moments = calibration.Moments(graph, activations(graph))
        for name in model.gate:
            clip = read_clip(model.path(name))
            moments.show(recorder.heard(reference, [clip])["decoder"])
        return moments.found()

    def _check(self, text: str, gate: Mapping[str, str]) -> None:
        """Compare every part that was built with float32 on the check clip."""
        model = self._manifest(text, gate)
        features = np.load(model.path(REFERENCE))
        clip = read_clip(model.path(CHECK_CLIP))
        for part in self._parts:
            for endings in _forms(model, part):
                recognizer = self._open(model, part, endings)
                _compare(recognizer, part, text, features, clip)
        if self._makes_reference and REFERENCE_PART not in self._parts:
            _remove(self._work, REFERENCE_PART)
            self._manifest(text, gate)

    def _manifest(self, text: str = "", gate: Mapping[str, str] | None = None) -> Model:
        """The model as it is so far."""
        _write_manifest(self._files, self._work, self._sizes, text, gate or {})
        return read_model(self._work)


def _usable(target: Path, source: Source) -> Model | None:
    """What is built in a folder, if it came from the same source and has its reference."""
    try:
        model = read_model(target)
        model.verify_files(name for name in model.files if part_of(name) is None)
    except ModelError:
        return None
    is_whole = {TOKENIZER, CHECK_CLIP, REFERENCE} <= set(model.files)
    return model if is_whole and model.source == _origin(source) else None


def _parts_of(target: Path) -> set[Part]:
    """Parts built before: a build replaces the folder, and must not lose them."""
    try:
        return read_model(target).parts
    except ModelError:
        return set()


def _whole_parts(model: Model) -> set[Part]:
    whole = set()
    for part in model.parts:
        with suppress(ModelError):
            model.verify_files(name for name in model.files if part_of(name) == part)
            whole.add(part)
    return whole


def _remove(folder: Path, part: Part) -> None:
    for path in folder.glob("*/*"):
        if part_of(str(path.relative_to(folder))) == part:
            path.unlink()
    with suppress(OSError):  # another part's files are there too
        (folder / part[0]).rmdir()


def _compare(
    recognizer: Recognizer, part: Part, text: str, features: np.ndarray, clip: np.ndarray
) -> None:
    """Raises ModelError where a part does not do what float32 does."""
    precision, kind = part
    try:
        compare(text, recognizer.transcribe(clip).text, precision)
        compare_features(features, recognizer.features(clip), precision)
    except ModelError as error:
        raise ModelError(
            f"The build in {precision} for {kind} is not kept: {error.message}", code="model_wrong"
        ) from error


def _save_part(
    weights: Weights, part: Part, work: Path, moments: Moments | None = None
) -> dict[str, int]:
    """Write a part's graphs; returns the bytes of the weights that each multiplies with."""
    precision, kind = part
    if kind == "onnx":
        return _save_precision(weights, precision, work, moments)
    return _save_static(weights, part, work)


def _writer(part: Part) -> Writer:
    """An empty graph of fixed shapes."""
    precision, kind = part
    if kind == "tflite":
        from edged.models.flatgraph import FlatGraph

        return FlatGraph(precision)
    from edged.models.onnx11 import Onnx11

    return Onnx11(precision)


def _save_static(weights: Weights, part: Part, work: Path) -> dict[str, int]:
    from edged.models import static_graph

    precision, kind = part
    writers = {
        "encoder": partial(static_graph.encoder, bucket=BUCKETS[0]),
        "decoder": partial(static_graph.decoder, bucket=BUCKETS[0], new=1),
    }
    sizes = {}
    for name, write in writers.items():  # one at a time: each holds its weights twice
        graph = _writer(part)
        write(graph, weights)
        graph.save(work / precision / f"{name}.{kind}")
        sizes[name] = graph.product_bytes
    return sizes


def _save_precision(
    weights: Weights, precision: str, work: Path, moments: Moments | None
) -> dict[str, int]:
    """Write a precision's graphs; returns the bytes of the weights that each multiplies with."""
    from edged.models import graph
    from edged.models.quantize import dynamic, halve, in_blocks, weights_only
    from edged.models.work import product_bytes

    encoder, decoder = graph.encoder(weights), graph.decoder(weights)
    if precision == "fp16":
        encoder, decoder = halve(encoder), halve(decoder)
    elif precision in {"int8", "int4"}:
        save(weights_only(graph.encoder(weights)), work / precision / f"encoder{WEIGHTS_ONLY}")
        encoder = dynamic(encoder)
        decoder = in_blocks(decoder, bits=int(precision.removeprefix("int")), moments=moments)
    sizes = {"encoder": product_bytes(encoder), "decoder": product_bytes(decoder)}
    save(encoder, work / precision / "encoder.onnx")
    save(decoder, work / precision / "decoder.onnx")
    return sizes


def save(model: Any, path: Path) -> None:
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


def _write_gate(model: Model, reference: Recognizer) -> dict[str, str]:
    clips = (clip for path in recordings() for clip in cut(read_recording(path)))
    return {
        name: reference.transcribe(write_clip(clip, model.path(name))).text
        for number, clip in enumerate(clips, 1)
        if (name := f"gate-{number:02}.wav")
    }


def _forms(model: Model, part: Part) -> Iterator[Collection[str]]:
    """Endings of what the part's runtimes open: each way to read its files."""
    precision, kind = part
    plain = {f".{kind}"}
    yield plain
    if f"{precision}/encoder{WEIGHTS_ONLY}" in model.files:
        yield plain | {WEIGHTS_ONLY}


def _write_manifest(
    files: SourceFiles,
    folder: Path,
    sizes: dict[str, dict[str, int]],
    check_text: str,
    gate: Mapping[str, str],
) -> None:
    source = files.source
    manifest = {
        "build_version": BUILD_VERSION,
        "name": source.name,
        "family": source.family,
        "language": source.language,
        "licence": source.licence,
        "sample_rate": SAMPLE_RATE,
        "source": _origin(source),
        "decoding": {
            "paddings": source.paddings,
            "sure": source.sure,
            "retries": source.retries,
            "finished": source.finished,
        },
        "check": {"audio": CHECK_CLIP, "text": check_text},
        "gate": gate,
        "work": {"samples_per_frame": FRAME, "bytes": sizes},
        "files": fingerprints(folder),
    }
    (folder / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def _origin(source: Source) -> str:
    return f"{source.distribution} {source.version}"
