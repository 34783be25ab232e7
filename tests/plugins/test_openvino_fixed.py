"""OpenVINO with graphs of fixed shapes, as an NPU takes them, on the processor: real speech."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edged.errors import ProviderError
from edged.models import check
from edged.models.moonshine import Moonshine, token_limit
from edged.models.store import Model, read_model
from edged.plugins import Plugins
from edged.provider import Opener, Places, Session, SessionOptions, devices
from tests.conftest import TINY, build

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'edged[openvino]'")

from edged_openvino.fixed import FIRST, StatePlaces
from edged_openvino.provider import STATIC_CPU, OpenVino
from edged_openvino.session import Request

RUNTIME = OpenVino()
EXTRA = {"static_cpu": True}
[FIXED] = RUNTIME.configured(EXTRA)
Load = Callable[[str], Moonshine]


def built(folder: Path, *precisions: str) -> Model:
    return read_model(build(folder, precisions, ["onnx11"]) / "models" / TINY)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """tiny-en in int8, built, tried and found right by the command."""
    return built(tmp_path_factory.mktemp("cache"), "int8")


def loaded(model: Model, precision: str) -> Moonshine:
    options = SessionOptions(1, precision, extra=EXTRA)
    opener = Opener(RUNTIME, FIXED, options, parallel_threads=2)
    opener.compiles = False  # only the sizes that are asked for
    return Moonshine(model, precision, opener)


@pytest.fixture(scope="module")
def recognizer(model: Model) -> Moonshine:
    return loaded(model, "int8")


@pytest.fixture(scope="module")
def samples(speech: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(speech[16000:80000])


def test_the_processor_is_offered_so_to_those_who_ask() -> None:
    assert STATIC_CPU not in {device.name for device in devices(RUNTIME, {})}
    assert STATIC_CPU not in {device.name for device in devices(RUNTIME, {"static_cpu": False})}
    found = devices(RUNTIME, EXTRA)
    assert [(d.kind, d.static) for d in found if d.name == STATIC_CPU] == [("cpu", True)]


def test_its_files_are_not_those_of_the_other_devices() -> None:
    assert RUNTIME.formats_on(STATIC_CPU) == RUNTIME.formats_on("npu") == {".onnx11"}
    assert (
        RUNTIME.formats_on("cpu") == RUNTIME.formats_on("gpu.1") == {".onnx", ".qdq.onnx", ".xml"}
    )


def test_it_writes_and_computes_what_float32_does(model: Model, recognizer: Moonshine) -> None:
    clip = check.read_clip(model.path(check.CHECK_CLIP))
    check.compare_features(np.load(model.path(check.REFERENCE)), recognizer.features(clip), "int8")
    assert check.compare(model.check_text, recognizer.transcribe(clip).text, "int8") == 0.0


@pytest.mark.parametrize("kept", [0, 1, 3, 100])
def test_any_draft_gives_the_greedy_text(
    recognizer: Moonshine, samples: np.ndarray, kept: int
) -> None:
    """A draft is verified by another graph, which hands over what is in its cache."""
    encoded, limit = recognizer.encode(samples), token_limit(len(samples))
    plain = recognizer.decode(encoded, limit)
    draft = [*plain.said[:kept], 1000, 2000]
    assert len(plain.tokens) > 8
    assert recognizer.decode(encoded, limit, draft).tokens == plain.tokens


def test_a_draft_that_reaches_the_last_place_is_read(
    recognizer: Moonshine, samples: np.ndarray
) -> None:
    """Sixteen tokens are written at once, also where fewer are meant and left."""
    encoded = recognizer.encode(samples)
    writing: Any = recognizer._networks.write(encoded)
    places = encoded.bucket.places
    tokens = [1, *range(500, 500 + places - 1)]
    chosen, likely = writing.feed(tokens)
    assert len(chosen) == places
    assert np.isfinite(likely).all()
    shorter = recognizer._networks.write(encoded).feed(tokens[:-1])
    assert (shorter[0], shorter[1]) == (chosen[:-1], pytest.approx(likely[:-1], abs=1e-3))


def test_per_token_nothing_comes_out_but_the_token(
    recognizer: Moonshine, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = recognizer.encode(samples)
    bound: list[str] = []
    made: list[list[str]] = []
    bind, run = Request._bind, Request.run

    def recording_bind(self: Request, name: str, given: Any) -> None:
        if self._bound.get(name) is not given:
            bound.append(name)
        bind(self, name, given)

    def recording_run(self: Request, inputs: Any, outputs: Any) -> Any:
        assert not any(name.startswith(("past", "new")) for name in [*inputs, *outputs])
        made.append(list(outputs))
        return run(self, inputs, outputs)

    monkeypatch.setattr(Request, "_bind", recording_bind)
    monkeypatch.setattr(Request, "run", recording_run)
    decoded = recognizer.decode(encoded, token_limit(len(samples)))
    assert made == [["next_token", "log_probability"]] * len(decoded.tokens)
    # What is written for a token is written where the graph reads it.
    assert {name for name in bound if not name.startswith("cross")} <= {
        *("tokens", "positions", "token_mask", "frame_mask", FIRST)
    }
    assert len(bound) == len(set(bound))


def test_a_cache_inside_is_the_cache_outside(
    model: Model, recognizer: Moonshine, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the session is handed all of it as it is by those who keep no state."""
    expected = recognizer.transcribe(samples, words=True)
    monkeypatch.setattr("edged_openvino.fixed.FixedSession.places", Session.places)
    outside = loaded(model, "int8")
    decoder: Any = outside._networks._decoders[0]  # type: ignore[attr-defined]
    assert type(decoder._cache) is Places
    inside: Any = recognizer._networks._decoders[0]  # type: ignore[attr-defined]
    assert type(inside._cache) is StatePlaces
    found = outside.transcribe(samples, words=True)
    assert found.text == expected.text != ""
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-4)
    assert [(w.text, w.start, w.end) for w in found.words] == [
        (w.text, w.start, w.end) for w in expected.words
    ]


def test_a_file_that_is_missing_or_broken_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx11").write_bytes(b"no graph" * 100)
    for name in ("broken.onnx11", "missing.onnx11"):
        with pytest.raises(ProviderError, match=rf"openvino cannot load .*{name}") as raised:
            RUNTIME.open(tmp_path / name, FIXED, SessionOptions(extra=EXTRA))
        assert len(raised.value.message.splitlines()) == 1


@pytest.mark.long
@pytest.mark.corpus
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp32", *FIXED.computes, "fp16", "int8"])
def test_other_voices_are_written_as_the_open_graphs_write_them(
    tmp_path: Path, corpus: Path, precision: str
) -> None:
    """In float32 and on the processor's half, letter for letter; bf16 and int8 differ in a word."""
    from bench import corpus as recordings
    from bench import scoring

    model = built(tmp_path, "fp32", "fp16", "int8")
    runtime = Plugins.discover().provider("onnxruntime")
    reference = Moonshine(model, "fp32", Opener(runtime, runtime.probe()[-1]))
    recognizer = loaded(model, precision)
    errors = []
    for utterance in recordings.choose_evenly(recordings.utterances(corpus), 30):
        samples, _ = soundfile.read(utterance.path, dtype="float32")
        if len(samples) < 20 * 16000:
            texts = [one.transcribe(samples).text for one in (reference, recognizer)]
            errors.append(scoring.compare(*map(scoring.normalize, texts)))
    assert len(errors) > 20
    assert scoring.add(errors).rate <= (0.0 if precision in {"fp32", "fp16"} else 0.06)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_probe_proves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edged.config import load
    from edged.engine.probe import probe_machine

    monkeypatch.setenv("EDGED_CACHE_DIR", str(tmp_path))
    built(tmp_path, "int8")
    configuration = load(None, {"providers": {"openvino": EXTRA}})
    report = asyncio.run(probe_machine(configuration, [TINY], build=False))
    [verdict] = [v for v in report.verdicts if v.rung.device == STATIC_CPU]
    assert verdict.rung.precision == "int8"
    assert verdict.ok
    assert verdict.placement.keys() == {"cpu"}
    assert verdict.gigaflops
