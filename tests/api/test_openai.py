"""`POST /v1/audio/transcriptions` and `GET /v1/models`, by OpenAI's own client."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.api.test_transcriptions import RATE, encoded, error_of, post
from tests.client import recognize, silence, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Client = openai.OpenAI
SERVER_VAD = {"type": "server_vad", "silence_duration_ms": 3000}


@pytest.fixture(scope="module")
def client(daemon: DaemonProcess) -> Iterator[Client]:
    with Client(api_key="unused", base_url=f"{daemon.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def clip(speech: np.ndarray) -> np.ndarray:
    """Two utterances."""
    return np.concatenate([speech[: 4 * RATE], silence(1.5), speech[: 4 * RATE], silence(0.5)])


@pytest.fixture(scope="module")
def wav(clip: np.ndarray) -> bytes:
    return encoded(clip, subtype="PCM_16")


@pytest.fixture(scope="module")
def heard(daemon: DaemonProcess, clip: np.ndarray) -> list[str]:
    """What the native protocol makes of the clip: its finals."""
    return [text for text in texts(recognize(daemon.url, clip)) if text]


def transcribe(client: Client, file: bytes, **fields: Any) -> Any:
    create: Any = client.audio.transcriptions.create
    return create(file=("a.wav", io.BytesIO(file)), model="whisper-1", **fields)


def spelled(tokens: list[Any]) -> str:
    """The text that tokens are of."""
    return b"".join(bytes(map(int, token.bytes)) for token in tokens).decode()


# -- forms of answers ---------------------------------------------------------------------------


def test_every_form_has_the_text_of_the_daemons_finals(
    client: Client, wav: bytes, heard: list[str]
) -> None:
    whole = " ".join(heard)
    assert len(heard) == 2
    answer = transcribe(client, wav)
    assert (answer.text, answer.usage.type, answer.usage.seconds) == (whole, "duration", 10)
    assert answer.logprobs is None
    assert transcribe(client, wav, response_format="text") == whole + "\n"
    verbose = transcribe(client, wav, response_format="verbose_json")
    assert [segment.text for segment in verbose.segments] == heard
    assert (verbose.text, verbose.language) == (whole, "english")
    assert verbose.words is None
    for kind in ("srt", "vtt"):
        subtitles = transcribe(client, wav, response_format=kind)
        assert all(text in subtitles for text in heard)
        assert subtitles.count(" --> ") == 2


def test_words_have_times_and_segments_their_numbers(client: Client, wav: bytes) -> None:
    verbose = transcribe(
        client, wav, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert " ".join(word.word for word in verbose.words) == verbose.text
    assert all(0 <= word.start <= word.end <= 10 for word in verbose.words)
    for segment in verbose.segments:
        assert segment.tokens
        assert -1 < segment.avg_logprob <= 0
        assert 0 < segment.compression_ratio < 3
        assert segment.seek == int(segment.start * 100)


def test_tokens_have_their_logarithms_of_probability(client: Client, wav: bytes) -> None:
    answer = transcribe(client, wav, include=["logprobs"])
    assert spelled(answer.logprobs) == answer.text
    assert len({token.logprob for token in answer.logprobs}) > 10
    assert all(token.logprob <= 0 for token in answer.logprobs)
    verbose = transcribe(client, wav, response_format="verbose_json")
    ids = [token for segment in verbose.segments for token in segment.tokens]
    assert len(ids) == len(answer.logprobs)
    means = np.array(
        [token.logprob for token in answer.logprobs[: len(verbose.segments[0].tokens)]]
    )
    # The end of the text is a token too, but none that is written.
    assert means.mean() == pytest.approx(verbose.segments[0].avg_logprob, abs=0.05)


def test_a_stream_is_the_same_text_in_deltas(client: Client, wav: bytes, heard: list[str]) -> None:
    *deltas, done = list(transcribe(client, wav, stream=True, include=["logprobs"]))
    assert [delta.type for delta in deltas] == ["transcript.text.delta"] * 2
    assert "".join(delta.delta for delta in deltas) == done.text == " ".join(heard)
    assert done.type == "transcript.text.done"
    for delta in deltas:
        assert spelled(delta.logprobs) == delta.delta
    assert spelled(done.logprobs) == done.text


def test_a_stream_that_fails_raises_in_the_client(client: Client) -> None:
    with pytest.raises(openai.APIError, match="no samples"):
        list(transcribe(client, encoded(np.zeros(0, np.float32)), stream=True))


def test_the_silence_between_utterances_can_be_chosen(
    client: Client, wav: bytes, heard: list[str]
) -> None:
    one = transcribe(client, wav, chunking_strategy=SERVER_VAD, response_format="verbose_json")
    assert len(one.segments) == 1
    auto = transcribe(client, wav, chunking_strategy="auto")
    assert auto.text == " ".join(heard)


def test_the_silence_can_be_given_as_json(daemon: DaemonProcess, wav: bytes) -> None:
    chunking = '{"type": "server_vad", "silence_duration_ms": 3000, "prefix_padding_ms": 100}'
    fields = {"response_format": "srt", "chunking_strategy": chunking}
    assert post(daemon, wav, **fields).text.count(" --> ") == 1


def test_models_are_listed(client: Client) -> None:
    models = {model.id: model for model in client.models.list()}
    assert models[TINY].object == "model"
    assert models[TINY].owned_by
    assert client.models.retrieve(TINY) == models[TINY]


@pytest.mark.parametrize("name", ["whisper-1", "moonshine-tiny-en ", "x" * 5000])
def test_a_model_that_is_not_here_is_not_found(client: Client, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve(name)
    assert missing.value.code in {"model_not_found", "not_found"}
    assert len(missing.value.message) < 500


# -- what cannot be heeded ------------------------------------------------------------------------


def test_hints_that_the_model_does_not_take_are_said_to_be_unused(
    client: Client, wav: bytes
) -> None:
    answer = transcribe(client, wav, prompt="Dickens", keywords=["Paris", "London"])
    assert len(answer.warnings) == 2
    assert answer.warnings[1].startswith("keywords was not used")
    assert not hasattr(transcribe(client, wav, temperature=0.0), "warnings")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"response_format": "diarized_json"}, "response_format", "diarization_not_supported"),
        ({"stream": True, "response_format": "srt"}, "stream", "invalid_request"),
        ({"include": ["logprobs"], "response_format": "text"}, "include", "invalid_request"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities", "invalid_request"),
        ({"language": "de"}, "language", "language_not_supported"),
        ({"languages": ["de", "fr"]}, "language", "language_not_supported"),
        ({"temperature": 1.5}, "temperature", "invalid_request"),
        ({"temperature": float("nan")}, "temperature", "invalid_request"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy", "invalid_request"),
        ({"chunking_strategy": "[" * 9000}, "chunking_strategy", "invalid_request"),
        ({"chunking_strategy": '{"type": "x"}'}, "chunking_strategy", "invalid_request"),
        (
            {"chunking_strategy": {"type": "server_vad", "threshold": float("nan")}},
            "chunking_strategy",
            "invalid_request",
        ),
        (
            {"chunking_strategy": {"type": "server_vad", "silence_duration_ms": -1}},
            "chunking_strategy",
            "invalid_request",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_an_error_that_names_the_field(
    client: Client, fields: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        transcribe(client, encoded(silence(0.5)), **fields)
    assert caught.value.status_code in {400, 422}
    assert (caught.value.code, caught.value.type) == (code, "invalid_request_error")
    assert caught.value.param == param


def test_any_of_several_languages_will_do(client: Client) -> None:
    silent = encoded(silence(0.5))
    assert transcribe(client, silent, languages=["de", "en"]).text == ""
    assert transcribe(client, silent, language="en-US").text == ""


# -- kinds of files -------------------------------------------------------------------------------


def by_ffmpeg(folder: Path, wav: bytes, name: str, *options: str) -> bytes:
    """The recording as ffmpeg writes it."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("there is no ffmpeg here to write it, nor to read it")
    (folder / "in.wav").write_bytes(wav)
    command = [program, "-v", "error", "-i", str(folder / "in.wav"), *options, str(folder / name)]
    subprocess.run(command, check=True)
    return (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ("-c:a", "aac")),
        ("a.mp4", ("-c:a", "aac", "-movflags", "+faststart")),
        ("a.webm", ("-c:a", "libopus")),
        ("a.mpga", ("-f", "mp3")),
        ("a.ogg", ("-c:a", "libopus")),
    ],
)
def test_ffmpeg_reads_what_soundfile_does_not(
    client: Client, tmp_path: Path, wav: bytes, name: str, options: tuple[str, ...]
) -> None:
    file = by_ffmpeg(tmp_path, wav, name, *options)
    text = transcribe(client, file).text.lower()
    assert text.count("best of times") == 2


@pytest.mark.parametrize("kind", ["m3u8", "concat"])
def test_a_playlist_opens_no_file_of_ours(
    daemon: DaemonProcess, tmp_path: Path, wav: bytes, kind: str
) -> None:
    sound = by_ffmpeg(tmp_path, wav, "secret.mpegts", "-c:a", "aac", "-f", "mpegts")
    with tempfile.NamedTemporaryFile(suffix=".ts") as secret:  # beside where uploads lie
        secret.write(sound)
        secret.flush()
        name = Path(secret.name).name
        lists = {
            "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{name}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile {name}\n",
        }
        answer = post(daemon, lists[kind].encode(), f"a.{kind}")
    assert answer.status == 400
    assert error_of(answer)["code"] == "unknown_audio"
