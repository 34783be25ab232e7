"""Graphs of fixed shapes compute what the open ones compute, whatever their audio is padded to."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models import check, moonshine, static_networks
from edged.models.bucket import BUCKETS, Bucket, bucket_for, columns_of, frames_of
from edged.models.moonshine import Moonshine, gain_of, token_limit
from edged.models.static_networks import VERIFIED, StaticNetworks
from edged.models.store import ModelStore
from edged.plugins import Plugins
from edged.provider import Opener, SessionOptions
from edged.recognizer import SAMPLE_RATE
from tests.conftest import TINY

Open = Callable[[str, str], Moonshine]
FIRST = SAMPLE_RATE
"""Where the recording's first sentence begins"""
LARGEST_OFF = {"fp32": 1e-4, "fp16": 0.002, "int8": 0.2}
"""Of the encoder's numbers from the open float32 graph's, as a share of their size"""


@pytest.fixture(scope="module")
def load(static_cache: Path) -> Open:
    """Loads tiny-en with a provider and a precision."""
    model = ModelStore(static_cache / "models").get(TINY)
    loaded: dict[tuple[str, str], Moonshine] = {}

    def load(provider: str, precision: str) -> Moonshine:
        if (provider, precision) not in loaded:
            found = Plugins.discover().provider(provider)
            opener = Opener(found, found.probe()[-1], SessionOptions(), parallel_threads=2)
            loaded[provider, precision] = Moonshine(model, precision, opener)
        return loaded[provider, precision]

    return load


def clip(speech: np.ndarray, seconds: float) -> np.ndarray:
    return np.ascontiguousarray(speech[FIRST : FIRST + int(seconds * SAMPLE_RATE)])


def test_a_bucket_holds_what_it_says_and_its_strides_divide_it() -> None:
    for bucket in BUCKETS:
        assert frames_of(bucket.samples) == bucket.frames
        assert columns_of(bucket.samples) == bucket.columns
        assert bucket.columns % 3 == 0
        assert bucket_for(bucket.samples) is bucket
        assert bucket.places >= token_limit(bucket.samples) + 1 + VERIFIED
    assert bucket_for(BUCKETS[-1].samples + 1) is None


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("seconds", [0.5, 1.9, 3.0, 5.2, 9.5, 20.0])
def test_the_encoder_computes_what_the_open_one_computes(
    load: Open, speech: np.ndarray, precision: str, seconds: float
) -> None:
    samples = clip(speech, seconds)
    reference = load("onnxruntime", "fp32").features(samples)
    features = load("tflite", precision).features(samples)
    assert check.difference(reference, features) < LARGEST_OFF[precision]


@pytest.mark.parametrize("larger", [0, 1, 4])
def test_padding_to_a_larger_bucket_changes_nothing(
    load: Open, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch, larger: int
) -> None:
    samples, recognizer = clip(speech, 2.6), load("tflite", "fp32")
    usual = recognizer.features(samples)

    def bucket_above(length: int, buckets: Sequence[Bucket]) -> Bucket:
        smallest = bucket_for(length, buckets)
        assert smallest
        return buckets[buckets.index(smallest) + larger]

    monkeypatch.setattr(static_networks, "bucket_for", bucket_above)
    assert check.difference(usual, recognizer.features(samples)) < 1e-5


def test_what_an_earlier_utterance_left_is_not_heard(load: Open, speech: np.ndarray) -> None:
    recognizer = load("tflite", "fp32")
    short = clip(speech, 2.2)
    first = recognizer.transcribe(short)
    recognizer.transcribe(clip(speech, 2.9))
    assert recognizer.transcribe(short) == first


@pytest.mark.parametrize("seconds", [2.0, 5.0, 11.0])
def test_the_text_is_that_of_the_open_graphs(
    load: Open, speech: np.ndarray, seconds: float
) -> None:
    samples = clip(speech, seconds)
    expected = load("onnxruntime", "fp32").transcribe(samples, words=True)
    found = load("tflite", "fp32").transcribe(samples, words=True)
    assert found.text == expected.text != ""
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-3)
    assert [(w.text, w.start, w.end) for w in found.words] == [
        (w.text, w.start, w.end) for w in expected.words
    ]


@pytest.mark.corpus
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_other_voices_are_written_as_the_open_graphs_write_them(
    load: Open, corpus: Path, precision: str
) -> None:
    import soundfile

    lines = (corpus / "manifest.jsonl").read_text().splitlines()
    for line in lines[::40]:
        samples, _ = soundfile.read(corpus / json.loads(line)["path"], dtype="float32")
        if len(samples) < 20 * SAMPLE_RATE:
            expected = load("onnxruntime", "fp32").transcribe(samples).text
            assert load("tflite", precision).transcribe(samples).text == expected


@pytest.mark.parametrize(("precision", "seconds"), [("fp32", 11.0), ("int8", 5.0)])
@pytest.mark.parametrize("kept", [0, 1, 3, 20, 100])
def test_any_draft_gives_the_greedy_text(
    load: Open, speech: np.ndarray, precision: str, seconds: float, kept: int
) -> None:
    """In int8 a rounding that falls the other way may change a doubtful word after forty."""
    recognizer, samples = load("tflite", precision), clip(speech, seconds)
    encoded, limit = recognizer.encode(samples), token_limit(len(samples))
    greedy = recognizer.decode(encoded, limit)
    assert len(greedy.said) > (VERIFIED if precision == "fp32" else 10)
    draft = [*greedy.said[:kept], 1000, 2000]
    assert recognizer.decode(encoded, limit, draft).tokens == greedy.tokens


def test_partials_with_drafts_write_what_the_whole_decode_writes(
    load: Open, speech: np.ndarray
) -> None:
    """Without regard to doubt each draft gives the very tokens; with it, their beginning."""
    recognizer, samples = load("tflite", "fp32"), clip(speech, 8.0)
    decoding, draft = recognizer.start(), []
    for stop in range(SAMPLE_RATE // 2, len(samples) + 1, SAMPLE_RATE // 2):
        encoded, limit = recognizer.encode(samples[:stop]), token_limit(stop)
        whole = recognizer.decode(encoded, limit)
        assert recognizer.decode(encoded, limit, draft).tokens == whole.tokens
        draft = whole.said
        partial = decoding.advance(samples[:stop]).text
        assert recognizer.hypothesis(whole).text.startswith(partial)
        assert partial.startswith(recognizer.start().advance(samples[:stop]).text)


def test_results_stay_when_the_graph_runs_again(load: Open, speech: np.ndarray) -> None:
    recognizer = load("tflite", "fp32")
    limit = token_limit(3 * SAMPLE_RATE)
    first = recognizer.encode(clip(speech, 3.0))
    expected = recognizer.decode(first, limit).tokens
    second = recognizer.encode(np.ascontiguousarray(speech[8 * SAMPLE_RATE : 11 * SAMPLE_RATE]))
    recognizer.encode(clip(speech, 7.0))  # in another bucket
    assert recognizer.decode(first, limit).tokens == expected
    assert recognizer.decode(second, limit).tokens != expected


def test_more_audio_than_any_bucket_holds_is_refused(load: Open) -> None:
    with pytest.raises(ModelError, match="more audio than the model takes") as raised:
        load("tflite", "fp32").features(np.zeros(40 * SAMPLE_RATE, np.float32))
    assert raised.value.code == "audio_too_long"


def test_level_and_silence_are_made_in_the_interpreters_own_tensor(
    load: Open, speech: np.ndarray
) -> None:
    recognizer, samples = load("tflite", "fp32"), clip(speech, 3.0)
    recognizer.encode(samples)
    networks = recognizer._networks
    assert isinstance(networks, StaticNetworks)
    session = networks._encoder
    index = session._inputs["audio"]["index"]
    arrays = session._arrays
    theirs = session._interpreter.tensor(index)()
    assert theirs.ctypes.data == arrays["audio"].ctypes.data
    front = recognizer._padding
    heard = theirs[0, front : front + len(samples)]
    assert np.array_equal(heard, samples * np.float32(gain_of(samples)))
    assert not theirs[0, :front].any()
    assert not theirs[0, front + len(samples) :].any()


def test_caches_lie_in_the_interpreters_own_tensors(load: Open, speech: np.ndarray) -> None:
    recognizer = load("tflite", "fp32")
    recognizer.transcribe(clip(speech, 3.0))
    networks = recognizer._networks
    assert isinstance(networks, StaticNetworks)
    for decoder in networks._decoders[:1]:
        session: Any = decoder._cache._session
        for name in decoder._cache._carried:
            theirs = session._interpreter.tensor(session._inputs[name]["index"])()
            assert theirs.ctypes.data == decoder._cache.held(name).ctypes.data
            assert theirs[:, :, : decoder.length].any()


def test_the_recogniser_knows_no_runtime() -> None:
    for module in (moonshine, static_networks):
        assert "litert" not in Path(str(module.__file__)).read_text().lower()
