"""OpenVINO's sessions on the processor, with real speech."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edged.audio.ring import AudioRing
from edged.engine.verdicts import runtimes
from edged.errors import EdgedError, ProviderError
from edged.models import check
from edged.models.inventory import store
from edged.models.moonshine import Moonshine, _Decoded, token_limit
from edged.models.networks import GROWING_AXIS
from edged.models.store import Model, read_model
from edged.plugins import Plugins
from edged.provider import Device, Loop, Opener, Session, SessionOptions
from tests.conftest import TINY

pytest.importorskip("openvino", reason="openvino is not installed: pip install 'edged[openvino]'")

from edged_openvino import blobs, provider, session
from edged_openvino.caches import StateLoop
from edged_openvino.provider import OpenVino
from edged_openvino.session import Request

RUNTIME = OpenVino()
[CPU] = [device for device in RUNTIME.probe() if device.name == "cpu"]
FORMATS = RUNTIME.formats_on("cpu")
PRECISIONS = ["fp32", "int8", *CPU.computes]


def opener(precision: str, **options: Any) -> Opener:
    return Opener(RUNTIME, CPU, SessionOptions(1, precision, **options), parallel_threads=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """tiny-en in float32 and int8: the store's, or one that is built for these tests."""
    built = store().get(TINY)
    if {"fp32", "int8"} <= set(built.precisions):
        return built
    folder = tmp_path_factory.mktemp("cache")
    subprocess.run(
        [
            *(sys.executable, "-m", "edged", "models", "build", TINY),
            *("--precision", "fp32", "--precision", "int8"),
        ],
        env={**os.environ, "EDGED_CACHE_DIR": str(folder)},
        check=True,
    )
    return read_model(folder / "models" / TINY)


@pytest.fixture(scope="module")
def recognizers(model: Model) -> Callable[[str], Moonshine]:
    """A recogniser in each precision, loaded once."""
    loaded: dict[str, Moonshine] = {}

    def recognizer(precision: str) -> Moonshine:
        if precision not in loaded:
            loaded[precision] = Moonshine(model, precision, opener(precision))
        return loaded[precision]

    return recognizer


@pytest.fixture(scope="module")
def reference(model: Model) -> Moonshine:
    """The same model in float32 on ONNX Runtime."""
    runtime = Plugins.discover().provider("onnxruntime")
    [cpu] = [device for device in runtime.probe() if device.name == "cpu"]
    return Moonshine(model, "fp32", Opener(runtime, cpu))


@pytest.fixture(scope="module")
def samples(speech: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(speech[16000:96000])


@pytest.fixture(scope="module")
def encoder(model: Model) -> Session:
    return opener("fp32")(model.graph("fp32", "encoder", FORMATS), True)


@pytest.fixture(scope="module")
def decoder(model: Model) -> Session:
    return opener("fp32")(model.graph("fp32", "decoder", FORMATS), False)


def hear(samples: np.ndarray) -> dict[str, np.ndarray]:
    """The encoder's inputs."""
    return {
        "audio": samples[None],
        "gain": np.ones(1, np.float32),
        "padding": np.array([8000, 8000], np.int64),
    }


def carried(graph: Session) -> dict[str, str]:
    names = [spec.name for spec in graph.outputs if spec.name.startswith("present")]
    return {name.replace("present", "past"): name for name in names}


# -- what it writes -------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_writes_and_computes_what_float32_does(
    model: Model, recognizers: Callable[[str], Moonshine], precision: str
) -> None:
    clip = check.read_clip(model.path(check.CHECK_CLIP))
    features = recognizers(precision).features(clip)
    check.compare_features(np.load(model.path(check.REFERENCE)), features, precision)
    assert (
        check.compare(model.check_text, recognizers(precision).transcribe(clip).text, precision)
        == 0.0
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_speech_that_is_not_the_check_clip(
    recognizers: Callable[[str], Moonshine], speech: np.ndarray, precision: str
) -> None:
    text = recognizers(precision).transcribe(np.ascontiguousarray(speech[:80000])).text
    assert text == "It was the best of times, it was the worst of times."


def test_the_hint_is_what_the_precision_says(model: Model) -> None:
    """The runtime's own choice differs from machine to machine."""
    for precision, hint in [("fp32", "f32"), ("int8", "f32"), *((c, c) for c in CPU.computes)]:
        path = model.graph(precision, "encoder", FORMATS)
        opened: Any = opener(precision)(path, True)
        assert opened.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == hint


def test_int8_reads_the_form_whose_products_it_knows(model: Model) -> None:
    assert model.graph("int8", "encoder", FORMATS).name == "encoder.qdq.onnx"
    assert model.graph("fp32", "encoder", FORMATS).name == "encoder.onnx"
    assert model.graph("int8", "encoder", {".onnx"}).name == "encoder.onnx"


def test_words_have_the_times_that_they_have_elsewhere(
    recognizers: Callable[[str], Moonshine], reference: Moonshine, samples: np.ndarray
) -> None:
    found = recognizers("fp32").transcribe(samples, words=True).words
    expected = reference.transcribe(samples, words=True).words
    assert len(found) > 5
    assert [(w.text, w.start, w.end) for w in found] == [(w.text, w.start, w.end) for w in expected]


# -- the caches inside ----------------------------------------------------------------------------


def greedy(recognizer: Moonshine, samples: np.ndarray) -> tuple[Any, int, _Decoded]:
    encoded, limit = recognizer.encode(samples), token_limit(len(samples))
    return encoded, limit, recognizer.decode(encoded, limit)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kept", [0, 1, 3, 100])
def test_any_draft_gives_the_greedy_text(
    recognizers: Callable[[str], Moonshine], samples: np.ndarray, precision: str, kept: int
) -> None:
    recognizer = recognizers(precision)
    encoded, limit, plain = greedy(recognizer, samples)
    draft = [*plain.said[:kept], 1000, 2000]
    assert recognizer.decode(encoded, limit, draft).tokens == plain.tokens


def test_per_token_nothing_is_bound_but_the_token(
    recognizers: Callable[[str], Moonshine],
    samples: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognizer = recognizers("fp32")
    encoded = recognizer.encode(samples)
    bound: list[str] = []
    made: list[list[str]] = []
    tensor, run = session._tensor, Request.run

    def recording_tensor(name: str, port: Any, given: Any) -> Any:
        bound.append(name)
        return tensor(name, port, given)

    def recording_run(self: Request, inputs: Any, outputs: Any) -> Any:
        made.append(list(outputs))
        return run(self, inputs, outputs)

    monkeypatch.setattr(session, "_tensor", recording_tensor)
    monkeypatch.setattr(Request, "run", recording_run)
    decoded = recognizer.decode(encoded, token_limit(len(samples)))
    assert len(decoded.tokens) > 8
    assert made == [["next_token", "log_probability"]] * len(decoded.tokens)
    layers = {name for name in bound if name != "input_ids"}
    assert all(name.startswith("cross") for name in layers)
    assert len(bound) == len(decoded.tokens) + len(layers)


def test_two_loops_of_a_session_know_nothing_of_each_other(
    decoder: Session, encoder: Session, samples: np.ndarray
) -> None:
    names = [spec.name for spec in encoder.outputs]
    heard = [
        dict(zip(names, encoder.run(hear(part), names), strict=True))
        for part in (samples, np.ascontiguousarray(samples[40000:]))
    ]

    def step(loop: Loop, cross: dict[str, Any], token: int) -> int:
        [chosen] = loop.run({"input_ids": np.array([[token]]), **cross}, ["next_token"])
        return int(chosen.numpy()[0, 0])

    def alone(cross: dict[str, Any]) -> list[int]:
        loop, tokens = decoder.loop(carried(decoder), GROWING_AXIS), [1]
        for _ in range(8):
            tokens.append(step(loop, cross, tokens[-1]))
        return tokens

    expected = [alone(cross) for cross in heard]
    assert expected[0] != expected[1]
    loops = [decoder.loop(carried(decoder), GROWING_AXIS) for _ in heard]
    assert all(isinstance(loop, StateLoop) for loop in loops)
    together = [[1], [1]]
    for _ in range(8):
        for loop, cross, tokens in zip(loops, heard, together, strict=True):
            tokens.append(step(loop, cross, tokens[-1]))
    assert together == expected


def test_caches_that_are_handed_in_and_out_give_the_same(
    decoder: Session, reference: Moonshine, encoder: Session, samples: np.ndarray
) -> None:
    """Also from a past of length 0 on: a graph that was not compiled with states computed wrong
    numbers from 16 tokens on."""
    names = [spec.name for spec in encoder.outputs]
    cross = dict(zip(names, encoder.run(hear(samples), names), strict=True))
    elsewhere = {name: value.numpy().copy() for name, value in cross.items()}
    tokens = [1, *greedy(reference, samples)[2].said, *range(500, 512)]
    assert len(tokens) > 24
    session_there: Any = reference._networks._decoder  # type: ignore[attr-defined]
    loops = {
        "inside": (decoder.loop(carried(decoder), GROWING_AXIS), cross),
        "outside": (Loop(decoder, carried(decoder), GROWING_AXIS), cross),
        "elsewhere": (Loop(session_there, carried(session_there), GROWING_AXIS), elsewhere),
    }
    likely: dict[str, list[float]] = {}
    for name, (loop, heard) in loops.items():
        likely[name] = []
        for token in tokens:
            inputs = {"input_ids": np.array([[token]]), **heard}
            [value] = loop.run(inputs, ["log_probability"])
            likely[name].append(float(value.numpy()[0, 0]))
    assert np.allclose(likely["inside"], likely["elsewhere"], atol=1e-3)
    assert np.allclose(likely["outside"], likely["elsewhere"], atol=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_many_tokens_in_one_run_are_judged_as_one_by_one(
    recognizers: Callable[[str], Moonshine],
    reference: Moonshine,
    samples: np.ndarray,
    precision: str,
) -> None:
    """OpenVINO sums ReduceLogSumExp over all positions: right for one token, wrong for more."""
    tokens = [1, *greedy(reference, samples)[2].said]
    networks, elsewhere = recognizers(precision)._networks, reference._networks
    encoded = recognizers(precision).encode(samples)
    writing = networks.write(encoded)
    single = [writing.feed([token]) for token in tokens]
    chosen, likely = networks.write(encoded).feed(tokens)
    expected = elsewhere.write(reference.encode(samples)).feed(tokens)
    assert chosen == [choice for [choice], _ in single]
    assert np.allclose(likely, [probability for _, [probability] in single], atol=0.05)
    assert np.allclose(likely, expected[1], atol=0.001 if precision == "fp32" else 0.5)


# -- memory ---------------------------------------------------------------------------------------


def test_the_audio_is_read_where_it_lies_in_the_ring(
    encoder: Session, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not written to, though the runtime is not told that it must not."""
    ring = AudioRing.create(len(samples))
    ring.write(0, samples)
    addresses: dict[str, int] = {}
    tensor = session._tensor

    def recording_tensor(name: str, port: Any, given: Any) -> Any:
        made = tensor(name, port, given)
        addresses[name] = made.data.ctypes.data
        return made

    monkeypatch.setattr(session, "_tensor", recording_tensor)
    for start in (160, 16000, 40001):
        view = ring.view(start, len(samples))
        assert not view.flags.writeable
        [value] = encoder.run(hear(view), ["cross_v_0"])
        assert addresses["audio"] == view.ctypes.data == ring.address + start * view.itemsize
        [copied] = encoder.run(hear(samples[start:].copy()), ["cross_v_0"])
        assert np.array_equal(value.numpy(), copied.numpy())
    assert np.array_equal(ring.view(0, len(samples)), samples)


def test_the_runtime_sees_what_is_written_after_it_was_given_the_address(
    encoder: Any, samples: np.ndarray
) -> None:
    audio = samples.copy()
    [before] = encoder.run(hear(audio), ["cross_v_0"])
    kept = before.numpy().copy()
    audio[:] = audio[::-1].copy()
    [turned] = encoder.run(hear(audio.copy()), ["cross_v_0"])
    assert not np.allclose(turned.numpy(), kept)
    assert np.array_equal(before.numpy(), kept)
    [again] = encoder.run(hear(audio), ["cross_v_0"])
    audio[:] = samples
    encoder._request.runtime.infer(share_outputs=True)
    assert np.array_equal(again.numpy(), kept)


def test_what_a_run_gives_stays_when_others_follow(encoder: Session, samples: np.ndarray) -> None:
    names = ["cross_k_0", "cross_v_5"]
    first = encoder.run(hear(samples), names)
    array = first[0].numpy()
    copies = [value.numpy().copy() for value in first]
    quiet = np.zeros(len(samples), np.float32)
    encoder.run(hear(quiet), names)
    encoder.run(hear(quiet), names[:1])
    encoder.run(hear(quiet), [])
    for value, copy in zip(first, copies, strict=True):
        assert np.array_equal(value.numpy(), copy)
    del first, value
    gc.collect()
    encoder.run(hear(quiet), names)
    assert np.array_equal(array, copies[0])


# -- what is refused ------------------------------------------------------------------------------


def test_what_would_be_copied_or_forgotten_is_refused(
    encoder: Session, samples: np.ndarray
) -> None:
    good = hear(samples)
    strided = {**good, "audio": samples[None, ::2]}
    doubled = {**good, "audio": samples[None].astype(np.float64)}
    for wrong in (strided, doubled):
        with pytest.raises(ProviderError, match="input audio must be C-contiguous float32"):
            encoder.run(wrong, ["cross_k_0"])
    for wrong in ({**good, "more": good["gain"]}, {"audio": good["audio"]}):
        with pytest.raises(ProviderError, match=r"missing or unknown for this graph: (more|gain)"):
            encoder.run(wrong, ["cross_k_0"])
    with pytest.raises(ProviderError, match="missing or unknown for this graph: nothing"):
        encoder.run(good, ["nothing"])


def test_a_device_that_is_not_there_is_refused_by_name(model: Model) -> None:
    path = model.graph("fp32", "encoder", FORMATS)
    absent = Device("gpu.7", "gpu")
    with pytest.raises(ProviderError, match=r"no device gpu\.7 here; it has: .*cpu") as raised:
        RUNTIME.open(path, absent, SessionOptions())
    assert raised.value.code == "device_missing"


def test_a_runtime_that_takes_another_device_is_caught() -> None:
    def compiled(*devices: str) -> Any:
        return SimpleNamespace(get_property=lambda _name: list(devices))

    session._hold_to(compiled("CPU"), CPU)
    session._hold_to(compiled("GPU.0"), Device("gpu", "gpu"))
    for device, taken in [(CPU, ["GPU.0"]), (Device("gpu.1", "gpu"), ["GPU.0"])]:
        with pytest.raises(ProviderError, match=r"took gpu\.0, not"):
            session._hold_to(compiled(*taken), device)
    with pytest.raises(ProviderError, match="took npu, cpu, not npu"):
        session._hold_to(compiled("NPU", "CPU"), Device("npu", "npu"))


def test_a_precision_that_the_device_has_not_is_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "_capabilities", lambda _name: ["FP32", "INT8"])
    [plain] = [device for device in RUNTIME.probe() if device.name == "cpu"]
    assert plain.computes == ()
    path = model.graph("bf16", "encoder", FORMATS)
    with pytest.raises(ProviderError, match="cpu does not compute in bf16") as raised:
        RUNTIME.open(path, plain, SessionOptions(precision="bf16"))
    assert raised.value.code == "precision_unsupported"


def test_what_it_cannot_read_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(ProviderError, match=r"openvino cannot load .*broken\.onnx") as raised:
        RUNTIME.open(tmp_path / "broken.onnx", CPU, SessionOptions())
    assert len(raised.value.message.splitlines()) == 1


def test_the_configuration_goes_over_our_settings(model: Model) -> None:
    path = model.graph("fp32", "encoder", FORMATS)
    for threads in (1, 2):
        extra = {"cpu": {"INFERENCE_NUM_THREADS": threads}}
        opened: Any = RUNTIME.open(path, CPU, SessionOptions(1, extra=extra))
        assert opened.compiled.get_property("INFERENCE_NUM_THREADS") == threads
    with pytest.raises(ProviderError, match=r"cannot load .*NO_SUCH_PROPERTY"):
        RUNTIME.open(path, CPU, SessionOptions(extra={"cpu": {"NO_SUCH_PROPERTY": 1}}))


# -- the folder of compiled graphs ----------------------------------------------------------------


def test_a_second_start_compiles_nothing(model: Model, tmp_path: Path) -> None:
    options = SessionOptions(cache=tmp_path / "not" / "there")
    for name in ("encoder", "decoder"):
        path = model.graph("fp32", name, FORMATS)
        loaded = []
        for _ in range(2):
            opened: Any = RUNTIME.open(path, CPU, options)
            loaded.append(opened.compiled.get_property("LOADED_FROM_CACHE"))
            opened.close()
        assert loaded == [False, True], name


def test_a_folder_that_cannot_be_written_is_no_error(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = model.graph("int8", "encoder", FORMATS)
    for folder in (tmp_path / "file" / "below", Path("/sys/kernel")):
        RUNTIME.open(path, CPU, SessionOptions(precision="int8", cache=folder)).close()


def test_what_is_only_tried_is_not_kept(model: Model, tmp_path: Path) -> None:
    path = model.graph("int8", "encoder", FORMATS)
    options = SessionOptions(precision="int8", cache=tmp_path, inspect=True)
    opened = RUNTIME.open(path, CPU, options)
    assert opened.placement.keys() == {"cpu"}
    assert opened.placement["cpu"] > 100
    RUNTIME.open(path, CPU, replace(options, inspect=False)).close()
    assert len(list(tmp_path.glob("*.blob"))) == 1


def test_the_oldest_blobs_make_room(tmp_path: Path) -> None:
    for number in range(blobs.MOST + 3):
        (tmp_path / f"{number}.blob").write_text("")
        os.utime(tmp_path / f"{number}.blob", (number, number))
    assert blobs.tidy(tmp_path)
    kept = sorted(int(path.stem) for path in tmp_path.glob("*.blob"))
    assert kept == list(range(4, blobs.MOST + 3))


# -- installed or not -----------------------------------------------------------------------------


def test_its_version_is_known_without_importing_it() -> None:
    import openvino

    version = runtimes(Plugins.discover())["openvino"]
    assert f"openvino {RUNTIME.version()}" in version
    assert openvino.__version__.startswith(RUNTIME.version())


def test_without_the_package_the_plugin_says_how_to_get_it() -> None:
    program = (
        "import sys; sys.modules['openvino'] = None; from edged.plugins import Plugins;"
        "plugins = Plugins.discover();"
        "print([p.error for p in plugins.all if p.name == 'openvino'][0]);"
        "plugins.provider('openvino')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    remedy = "openvino is not installed. Run: pip install 'edged[openvino]'"
    assert done.stdout.strip() == remedy
    assert remedy in done.stderr.splitlines()[-1]
    assert EdgedError.__name__ in done.stderr.splitlines()[-1]
