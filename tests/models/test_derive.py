"""`edged models quantize`: real speech, the default model, and graphs made to be hard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.engine.prove import prove
from edged.errors import AudioError, ModelError
from edged.messages import Rung, WorkerOptions
from edged.models.anatomy import graphs
from edged.models.check import GATE_RATE
from edged.models.derive import REPORT, Wish, counts
from edged.models.inventory import quantized
from edged.models.recordings import calibration, references
from edged.models.store import MANIFEST, Model, read_model
from edged.recognizer import SAMPLE_RATE
from tests.conftest import TINY

KEPT = "encoder.layers.0.mlp.fc1"
FIRST = "It was the best of times, it was the worst of times."


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    """Ten seconds, with the text of the first five beside them."""
    import soundfile

    folder = tmp_path_factory.mktemp("recordings")
    soundfile.write(folder / "first.wav", speech[: 5 * SAMPLE_RATE], SAMPLE_RATE)
    soundfile.write(folder / "second.wav", speech[5 * SAMPLE_RATE : 10 * SAMPLE_RATE], SAMPLE_RATE)
    (folder / "first.txt").write_text(FIRST)
    return folder


@pytest.fixture(scope="module")
def cache(static_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of one's own, with tiny-en in float32 too."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    (folder / "models" / TINY).symlink_to(static_cache / "models" / TINY)
    return folder


def edged(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "EDGED_CACHE_DIR": str(cache)},
        check=False,
    )


@pytest.fixture(scope="module")
def static(cache: Path, recordings: Path) -> tuple[Model, dict[str, Any]]:
    """tiny-en with ranges from ten seconds of speech, one layer left in float32."""
    done = edged(
        cache,
        *("models", "quantize", TINY, "--method", "static", "--output", "mine", "--json"),
        *("--exclude", KEPT, f"--calibration={recordings}", f"--references={recordings}"),
    )
    assert done.returncode == 0, done.stderr
    return read_model(cache / "models" / "mine"), json.loads(done.stdout)


def test_a_model_of_its_own_comes_out_with_a_report(
    static: tuple[Model, dict[str, Any]],
) -> None:
    model, report = static
    assert (model.name, model.precisions) == ("mine", ["int8"])
    model.verify("int8", {".onnx"})
    assert json.loads(model.path(REPORT).read_text()) == report
    assert report["after"]["bytes"] < report["before"]["bytes"] / 2
    assert report["before"]["word_error_rate"] == 0.0
    assert report["words"] == 12
    assert report["calibration_seconds"] == 10
    assert report["speed_ratio"] > 1.2
    assert report["judged_on"] == "references"
    assert (report["refusal"] is None) == (report["gate_error_rate"] <= GATE_RATE)


def test_a_layer_that_is_left_out_stays_float32(static: tuple[Model, dict[str, Any]]) -> None:
    import onnx

    model, report = static
    graph = onnx.load(model.path("int8/encoder.onnx")).graph
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == KEPT)
    assert tensor.data_type == onnx.TensorProto.FLOAT
    constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
    restored = [node for node in graph.node if node.op_type == "DequantizeLinear"]
    weights = {node.input[0] for node in restored if node.input[0] in constants}
    listed = [layer for layer in report["layers"] if layer["graph"] == "encoder"]
    assert weights == {f"{layer['name']}_quantized" for layer in listed if not layer["kept"]}
    assert {constants[name] for name in weights} == {onnx.TensorProto.INT8}
    assert [layer["name"] for layer in report["layers"] if layer["kept"]] == [KEPT]


def test_the_runtime_multiplies_integers(static: tuple[Model, dict[str, Any]]) -> None:
    model, _ = static
    encoder, decoder = graphs(model, "int8", {".onnx"}, 1.0)
    assert encoder.optimized["MatMulIntegerToFloat"] == 31  # of 32, but for the one left out
    assert decoder.optimized["MatMulIntegerToFloat"] == 37


def test_the_new_model_is_served_by_its_name(
    cache: Path, static: tuple[Model, dict[str, Any]], recordings: Path
) -> None:
    done = edged(cache, "transcribe", "--model=mine", str(recordings / "first.wav"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower().startswith("it was the best of times")


def test_a_newer_edged_tells_how_to_make_it_again(
    static: tuple[Model, dict[str, Any]], tmp_path: Path
) -> None:
    model, _ = static
    text = model.path(MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace("build_version = ", "build_version = 99"))
    with pytest.raises(ModelError, match=f"Run: edged models quantize {TINY}$"):
        read_model(tmp_path)


@pytest.mark.long
def test_a_proof_agrees_with_the_report(static: tuple[Model, dict[str, Any]]) -> None:
    model, report = static
    verdict = prove(Rung("mine", "onnxruntime", "cpu", "int8"), model.folder, WorkerOptions())
    assert verdict.ok == (report["refusal"] is None), verdict.reason
    assert verdict.gate_error_rate == report["gate_error_rate"]
    assert verdict.gigaflops


def wish(**settings: Any) -> Wish:
    return Wish(**{"output": "new", "method": "dynamic", "calibrate": "minmax", **settings})


def test_what_cannot_be_done_is_said_in_a_line(
    cache: Path,
    recordings: Path,
    tmp_path: Path,
    static: tuple[Model, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    cases = [
        (TINY, wish(exclude=["encoder.layer.0.fc1"]), f"did you mean {KEPT}"),
        (TINY, wish(method="static"), "--calibration FOLDER"),
        (TINY, wish(allow=0.01), "--calibration FOLDER"),
        (TINY, wish(calibration=tmp_path), f"There are no recordings in {tmp_path}"),
        (TINY, wish(references=tmp_path), "names no recordings with their texts"),
        (TINY, wish(output=TINY), "is another model"),
        (TINY, wish(output="../out"), "is no name"),
        ("mine", wish(), "has no fp32 graphs to quantise"),
    ]
    for name, asked, reason in cases:
        with pytest.raises(ModelError, match=reason):
            quantized(name, asked, lambda _stage, _share: None)
    assert sorted(path.name for path in (cache / "models").iterdir()) == ["mine", TINY]


def test_words_that_are_known_are_read_from_a_folder_or_a_file(
    recordings: Path, tmp_path: Path
) -> None:
    (beside,) = references(recordings)
    assert beside.text == FIRST
    assert len(beside.samples) == 5 * SAMPLE_RATE
    listed = recordings / "texts.tsv"
    listed.write_text("a heading\nsecond.wav\tit was the age\n")
    (second,) = references(listed)
    assert second.text == "it was the age"
    listed.write_text("gone.wav\twho knows\n")
    with pytest.raises(AudioError, match=r"gone\.wav is no file"):
        references(listed)


def test_calibration_takes_no_more_than_it_needs(recordings: Path) -> None:
    clips = calibration(recordings, seconds=4.0)
    assert len(clips) == 1
    assert sum(map(len, calibration(recordings, seconds=60.0))) == 10 * SAMPLE_RATE


def test_more_and_more_layers_are_tried() -> None:
    assert list(counts(0)) == [0]
    assert list(counts(1)) == [0, 1]
    assert list(counts(10)) == [0, 1, 2, 4, 8, 10]


@pytest.mark.long
def test_layers_are_kept_until_the_words_are_good(
    cache: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing to spare: every word as float32 writes it."""
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    asked = wish(output="careful", method="int4", calibration=recordings, allow=0.0)
    report = quantized(TINY, asked, lambda _stage, _share: None)
    assert report.text_difference == 0.0
    assert report.judged_on == "calibration"
    measured = sorted(report.layers, key=lambda layer: -(layer.share or 0) / layer.bytes)
    kept = [layer.kept for layer in measured]
    assert kept == sorted(kept, reverse=True)  # the worst ones, and no others
    for graph in ("encoder", "decoder"):
        assert sum(layer.share or 0 for layer in report.layers if layer.graph == graph) == (
            pytest.approx(1.0)
        )
