"""`edged models quantize`: a quantised model, with a name of its own, out of a float32 one.

It has the other model's tokenizer, check clip, gate and references, so that it is proven like any
other. Graphs that multiply many rows at a time, as an encoder, are quantised otherwise than those
that multiply few:

    method    many rows                         few rows
    dynamic   int8, scale taken in every run    int8 in blocks
    static    int8, scale from recordings       the same as many
    int4      as dynamic                        int4 in blocks, from recordings or the gate's clips

With `sensitivity` the layers that lose most for what they save stay in float32, 1, 2, 4 and so on
of them, until the words written are as good as was asked for.
"""

from __future__ import annotations

import difflib
import itertools
import shutil
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tomli_w

from edged.errors import ModelError
from edged.files import remade
from edged.models import check, quantize
from edged.models.build import REFERENCE_PART, WEIGHTS_ONLY, Progress, save
from edged.models.calibration import Feed, Moments, Ranges, Recorder
from edged.models.judge import Judge, gate, timed
from edged.models.quantize import Range
from edged.models.recordings import Utterance, calibration, references
from edged.models.sensitivity import losses
from edged.models.store import (
    DERIVED,
    MANIFEST,
    Model,
    ModelStore,
    fingerprints,
    part_of,
    read_model,
    written,
)
from edged.models.work import product_bytes
from edged.recognizer import SAMPLE_RATE, Recognizer

METHODS = {"dynamic": "int8", "static": "int8", "int4": "int4"}
"""And the precision that each makes"""
REPORT = "quantization.json"
CALIBRATION_SECONDS = 120.0
SENSITIVITY_CLIPS = 4
SENSITIVITY_RUNS = 32
"""Of a graph, spread over these clips"""

OpenRecognizer = Callable[..., Recognizer]
"""Loads a part of a model on the CPU; told `through`, through what that makes of the opener"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    output: str
    """The new model's name"""
    method: str
    calibrate: str
    calibration: Path | None = None
    """Folder of recordings"""
    references: Path | None = None
    """Recordings whose words are known"""
    exclude: Sequence[str] = ()
    """Layers that stay in float32"""
    allow: float | None = None
    """Word errors more than float32's, as a share, up to which layers are quantised; None to
    quantise all"""


class LayerReport(msgspec.Struct, frozen=True):
    """One layer that can be quantised."""

    name: str
    graph: str
    bytes: int
    """Of its weights in float32"""
    loss: float | None
    """When it alone is quantised: of the choice in nats, of features as a share of their size;
    null if it was not measured"""
    share: float | None
    """The same as a share of all losses in its graph"""
    kept: bool
    """In float32"""


class Measure(msgspec.Struct, frozen=True):
    """A model's size, speed and errors."""

    bytes: int
    """Of its graphs"""
    seconds_per_second: float
    """Of audio, for one recognition on one thread of this machine"""
    word_error_rate: float | None
    """Against the references, case and punctuation aside; null without any"""


class QuantizationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a model, and what it costs."""

    model: str
    source: str
    method: str
    precision: str
    calibrate: str | None
    calibration_seconds: float
    judged_on: str
    """references, calibration or gate: the recordings that texts were compared on"""
    words: int
    """That were compared"""
    before: Measure
    """float32"""
    after: Measure
    speed_ratio: float
    """Median of float32's time over the new model's, recording by recording in turn"""
    text_difference: float
    """Words written otherwise than by float32, as a share"""
    allowed: float | None
    """The bound that layers were kept for"""
    gate_error_rate: float
    refusal: str | None
    """Why a proof will refuse it"""
    layers: list[LayerReport]


class _Layer(msgspec.Struct):
    name: str
    graph: str
    bytes: int
    loss: float | None = None
    share: float | None = None


def derive(
    source: Model,
    wish: Wish,
    store: ModelStore,
    open_recognizer: OpenRecognizer,
    progress: Progress,
) -> QuantizationReport:
    """Write the model that is asked for into the store. Raises EdgedError; then nothing is left."""
    _refuse_name(wish.output, store)
    _refuse_source(source)
    target = store.folder / wish.output
    with written(target), remade(target) as work:
        return _Derivation(source, wish, work, open_recognizer, progress).run()


def _refuse_source(source: Model) -> None:
    """It must have float32 graphs, and whole ones. Raises ModelError."""
    if REFERENCE_PART in source.parts:
        source.verify("fp32", {".onnx"})
        return
    raise ModelError(
        f"{source.name} has no fp32 graphs to quantise. Build them (edged models build "
        f"{source.name} --precision fp32), or take the model that it was made of",
        code="model_missing",
    )


def _refuse_name(name: str, store: ModelStore) -> None:
    """A model that was not made here is not replaced. Raises ModelError."""
    manifest = store.folder / name / MANIFEST
    if Path(name).name != name or name.startswith("."):
        raise ModelError(f"{name!r} is no name for a model", code="bad_name")
    if manifest.is_file() and DERIVED not in tomllib.loads(manifest.read_text("utf-8")):
        raise ModelError(
            f"{name} is another model; choose a new name with --output", code="name_taken"
        )


class _Derivation:
    """One model on its way, in a folder of its own until it is done."""

    def __init__(
        self,
        source: Model,
        wish: Wish,
        work: Path,
        open_recognizer: OpenRecognizer,
        progress: Progress,
    ) -> None:
        self._source = source
        self._wish = wish
        self._work = work
        self._open = open_recognizer
        self._progress = progress
        self._recorder = Recorder()
        self._clips: list[np.ndarray] = []
        self._graphs: dict[str, Any] = {}
        self._layers: list[_Layer] = []
        self._ranges: dict[str, dict[str, Range]] = {}
        self._moments: dict[str, quantize.Moments] = {}

    def run(self) -> QuantizationReport:
        wish = self._wish
        self._progress("reading recordings", 0.0)
        self._clips = self._calibration()
        name, spoken = self._spoken()
        self._progress("loading float32", 0.02)
        self._load()
        excluded = [self._known(name) for name in wish.exclude]
        if wish.method == "static":
            self._calibrate()
        elif wish.method == "int4":
            self._listen()
        self._progress("what float32 writes", 0.28)
        judge = Judge(name, spoken, self._float)
        if wish.allow is None:
            kept = excluded
            model, texts = self._made(kept, judge)
        else:
            self._measure_layers()
            kept, model, texts = self._good_enough(excluded, wish.allow, judge)
        return self._finish(model, kept, judge, texts)

    def _calibration(self) -> list[np.ndarray]:
        """Clips such as the model will hear. Raises ModelError where they are needed."""
        wish = self._wish
        if wish.calibration:
            return calibration(wish.calibration, CALIBRATION_SECONDS)
        if wish.method == "static" or wish.allow is not None:
            raise ModelError(
                "This needs recordings such as the model will hear: --calibration FOLDER",
                code="no_recordings",
            )
        return []

    def _spoken(self) -> tuple[str, list[Utterance]]:
        """What texts are compared on: the best there is, and its name."""
        if self._wish.references:
            return "references", references(self._wish.references)
        if self._clips:
            return "calibration", [Utterance(clip) for clip in self._clips]
        return "gate", [Utterance(clip) for clip in self._own_clips()]

    def _own_clips(self) -> list[np.ndarray]:
        """Those that the model brings along."""
        names = list(self._source.gate) or [check.CHECK_CLIP]
        return [check.read_clip(self._source.path(name)) for name in names]

    def _load(self) -> None:
        """The float32 model, whose graphs' inputs can be recorded."""
        import onnx

        self._float = self._open(self._source, REFERENCE_PART, through=self._recorder.through)
        self._networks = self._recorder.networks
        self._graphs = {name: onnx.load(network.path) for name, network in self._networks.items()}
        self._layers = [
            _Layer(layer, name, size)
            for name, graph in self._graphs.items()
            for layer, size in quantize.layers(graph).items()
        ]

    def _known(self, name: str) -> str:
        """A layer's name. Raises ModelError, which names the nearest."""
        names = [layer.name for layer in self._layers]
        if name in names:
            return name
        near = difflib.get_close_matches(name, names, 3, 0.3)
        raise ModelError(
            f"{self._source.name} has no layer {name} to leave out"
            + (f"; did you mean {' or '.join(near)}?" if near else f"; there is {names[0]}"),
            code="layer_unknown",
        )

    # -- what recordings tell ---------------------------------------------------------------------

    def _calibrate(self) -> None:
        ranges = {
            name: Ranges(graph, quantize.activations(graph), self._wish.calibrate)
            for name, graph in self._graphs.items()
        }
        self._show(ranges, self._clips)
        self._progress("choosing ranges", 0.25)
        self._ranges = {name: found.found() for name, found in ranges.items()}

    def _listen(self) -> None:
        """What the products in blocks are given."""
        moments = {
            name: Moments(graph, quantize.activations(graph))
            for name, graph in self._graphs.items()
            if not self._networks[name].parallel
        }
        self._show(moments, self._clips or self._own_clips())
        self._moments = {name: found.found() for name, found in moments.items()}

    def _show(self, observers: Mapping[str, Ranges | Moments], clips: Sequence[np.ndarray]) -> None:
        """Let observers see what their graphs are given while float32 recognises these."""
        for number, clip in enumerate(clips):
            self._progress("listening", 0.05 + 0.2 * number / len(clips))
            heard = self._heard([clip])
            for name, observer in observers.items():
                observer.show(heard[name])

    def _heard(self, clips: Sequence[np.ndarray]) -> dict[str, list[Feed]]:
        """What each graph is given for these. Raises ModelError where one is given nothing."""
        heard = self._recorder.heard(self._float, clips)
        silent = [name for name, feeds in heard.items() if not feeds]
        if silent:
            raise ModelError(
                f"{self._source.name} ran no {silent[0]} for these recordings: choose some with "
                "speech in them",
                code="no_recordings",
            )
        return heard

    def _measure_layers(self) -> None:
        """Each layer's loss."""
        heard = self._heard(self._clips[:SENSITIVITY_CLIPS])
        measured = 0
        for name, graph in self._graphs.items():
            stride = -(-len(heard[name]) // SENSITIVITY_RUNS)
            layers = {layer.name: layer for layer in self._layers if layer.graph == name}
            for layer, loss in losses(graph, heard[name][::stride], self._scheme(name)):
                layers[layer].loss = loss
                measured += 1
                self._progress(f"measuring {layer}", 0.3 + 0.4 * measured / len(self._layers))
            total = sum(layer.loss or 0.0 for layer in layers.values())
            for each in layers.values():
                each.share = (each.loss or 0.0) / total if total else 0.0

    # -- making it --------------------------------------------------------------------------------

    def _scheme(self, name: str) -> Callable[[Any, Collection[str]], Any]:
        """How a graph is quantised but for the layers named."""
        method, many_rows = self._wish.method, self._networks[name].parallel
        if method == "static":
            ranges = self._ranges[name]
            return lambda graph, kept: quantize.static(graph, ranges, kept)
        if many_rows:
            return quantize.dynamic
        if method == "int4":
            moments = self._moments[name]
            return lambda graph, kept: quantize.in_blocks(graph, 4, kept, moments)
        return lambda graph, kept: quantize.in_blocks(graph, 8, kept)

    def _good_enough(
        self, excluded: Sequence[str], allow: float, judge: Judge
    ) -> tuple[list[str], Model, list[str]]:
        """The fewest layers tried in float32 with which the words are as good as asked for."""
        worst = sorted(self._layers, key=lambda layer: -(layer.share or 0.0) / layer.bytes)
        names = [layer.name for layer in worst if layer.name not in excluded]
        for count in counts(len(names)):
            kept = [*excluded, *names[:count]]
            self._progress(f"trying with {len(kept)} layers in float32", 0.75)
            model, texts = self._made(kept, judge)
            if judge.excess(texts) <= allow:
                break
        return kept, model, texts

    def _made(self, kept: Collection[str], judge: Judge) -> tuple[Model, list[str]]:
        """The model with these layers in float32, and what it writes."""
        model = self._write(kept)
        self._progress("comparing words", 0.8)
        return model, judge.texts(self._open(model, (self._precision, "onnx")))

    @property
    def _precision(self) -> str:
        return METHODS[self._wish.method]

    def _write(self, kept: Collection[str]) -> Model:
        import onnx

        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        for name in self._source.files:
            if part_of(name) is None and name != REPORT:
                shutil.copyfile(self._source.path(name), self._work / name)
        sizes = {}
        for name, graph in self._graphs.items():
            made = onnx.ModelProto()
            made.CopyFrom(graph)
            folder = self._work / self._precision
            save(self._scheme(name)(made, kept), folder / f"{name}.onnx")
            sizes[name] = product_bytes(made)
            if self._networks[name].parallel and self._wish.method != "static":
                made.CopyFrom(graph)
                save(quantize.weights_only(made, kept), folder / f"{name}{WEIGHTS_ONLY}")
        self._write_manifest(sizes)
        return read_model(self._work)

    def _write_manifest(self, sizes: Mapping[str, int]) -> None:
        """The source's, but for what is other."""
        manifest = tomllib.loads(self._source.path(MANIFEST).read_text("utf-8"))
        manifest |= {
            "name": self._wish.output,
            DERIVED: self._source.name,
            "files": fingerprints(self._work),
        }
        if self._source.work:
            counted = self._source.work["bytes"]
            known = {"fp32": counted["fp32"]} if "fp32" in counted else {}
            manifest["work"] = {
                **self._source.work,
                "bytes": {**known, self._precision: dict(sizes)},
            }
        (self._work / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")

    # -- what it is worth -------------------------------------------------------------------------

    def _finish(
        self, model: Model, kept: Collection[str], judge: Judge, texts: Sequence[str]
    ) -> QuantizationReport:
        """Check it and measure it. Raises ModelError for a model that must not serve."""
        recognizer = self._open(model, (self._precision, "onnx"))
        self._check(model, recognizer)
        gate_rate, refusal = gate(model, self._precision, recognizer)
        self._progress("timing", 0.95)
        before, after = timed(self._float, recognizer, judge.clips)
        report = QuantizationReport(
            model=model.name,
            source=self._source.name,
            method=self._wish.method,
            precision=self._precision,
            calibrate=self._wish.calibrate if self._wish.method == "static" else None,
            calibration_seconds=sum(map(len, self._clips)) / SAMPLE_RATE,
            judged_on=judge.name,
            words=judge.words,
            before=Measure(
                _graph_bytes(self._source, "fp32"), float(np.median(before)), judge.before
            ),
            after=Measure(
                _graph_bytes(model, self._precision), float(np.median(after)), judge.after(texts)
            ),
            speed_ratio=float(np.median(np.array(before) / np.array(after))),
            text_difference=judge.difference(texts),
            allowed=self._wish.allow,
            gate_error_rate=gate_rate,
            refusal=refusal,
            layers=[
                LayerReport(
                    each.name, each.graph, each.bytes, each.loss, each.share, each.name in kept
                )
                for each in self._layers
            ],
        )
        self._keep(report)
        return report

    def _check(self, model: Model, recognizer: Recognizer) -> None:
        """As a build does. Raises ModelError."""
        clip = check.read_clip(model.path(check.CHECK_CLIP))
        reference = np.load(model.path(check.REFERENCE))
        try:
            check.compare(model.check_text, recognizer.transcribe(clip).text, self._precision)
            check.compare_features(reference, recognizer.features(clip), self._precision)
        except ModelError as error:
            raise ModelError(
                f"{model.name} is not kept: {error.message}. Leave layers in float32: "
                "--sensitivity, or --exclude LAYER",
                code="model_wrong",
            ) from error

    def _keep(self, report: QuantizationReport) -> None:
        """Write the report beside the model."""
        text = msgspec.json.format(msgspec.json.encode(report), indent=1)
        (self._work / REPORT).write_bytes(text)
        manifest = tomllib.loads((self._work / MANIFEST).read_text("utf-8"))
        manifest["files"] = fingerprints(self._work)
        (self._work / MANIFEST).write_text(tomli_w.dumps(manifest), "utf-8")


def counts(most: int) -> Iterator[int]:
    """0, 1, 2, 4 and so on up to all."""
    powers = (2**power for power in itertools.count())
    yield from dict.fromkeys([0, *itertools.takewhile(lambda n: n < most, powers), most])


def _graph_bytes(model: Model, precision: str) -> int:
    """Of a precision's files that ONNX Runtime reads."""
    return sum(
        int(file["bytes"])
        for name, file in model.files.items()
        if part_of(name) == (precision, "onnx") and WEIGHTS_ONLY.removesuffix(".onnx") not in name
    )
