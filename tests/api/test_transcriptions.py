"""`POST /v1/audio/transcriptions`: whole files, in OpenAI's form."""

from __future__ import annotations

import io
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.api.conftest import Shared
from tests.api.http import Answer, ask, form
from tests.client import silence
from tests.daemon import DaemonProcess

PATH = "/v1/audio/transcriptions"
RATE = 16000
LONGEST = 60.0
"""Seconds that the daemon of these tests takes"""


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def server(shared_daemon: Shared, temporary: Path) -> DaemonProcess:
    """A daemon with a folder of its own for temporary files and a limit on audio."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        return shared_daemon("--no-microphone", server_max_audio_seconds=LONGEST)


@pytest.fixture(autouse=True)
def _nothing_stays(temporary: Path) -> Any:
    """Every test leaves no temporary file of ours behind."""
    yield
    assert not list(temporary.glob("edged-*"))


@pytest.fixture(scope="module")
def clip(speech: np.ndarray) -> np.ndarray:
    """Two utterances."""
    return np.concatenate([speech[: 4 * RATE], silence(1.5), speech[: 4 * RATE], silence(0.5)])


def encoded(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def wav(clip: np.ndarray) -> bytes:
    return encoded(clip)


def post(server: DaemonProcess, file: bytes | None, name: str = "a.wav", **fields: str) -> Answer:
    return ask(server, PATH, method="POST", **form(file, name, model="whisper-1", **fields))


def error_of(answer: Answer) -> dict[str, Any]:
    """The error in OpenAI's shape."""
    assert answer.kind == "application/json"
    error: dict[str, Any] = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert "/tmp" not in error["message"]
    assert "Traceback" not in error["message"]
    return error


# -- forms of answers ---------------------------------------------------------------------------


def test_json_is_the_usual_answer(server: DaemonProcess, wav: bytes) -> None:
    answer = post(server, wav)
    assert (answer.status, answer.kind) == (200, "application/json")
    assert answer.json["text"].lower().count("best of times") == 2
    assert answer.json["usage"] == {"type": "duration", "seconds": 10}


def test_text_is_plain(server: DaemonProcess, wav: bytes) -> None:
    answer = post(server, wav, response_format="text")
    assert (answer.status, answer.kind) == (200, "text/plain")
    assert answer.text == post(server, wav).json["text"] + "\n"


def test_subrip_numbers_its_cues(server: DaemonProcess, wav: bytes) -> None:
    answer = post(server, wav, response_format="srt")
    assert (answer.status, answer.kind) == (200, "application/x-subrip")
    cues = answer.text.strip().split("\n\n")
    assert [cue.splitlines()[0] for cue in cues] == ["1", "2"]
    for cue in cues:
        _, times, text = cue.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}", times)
        assert "best of times" in text


def test_webvtt_has_its_heading(server: DaemonProcess, wav: bytes) -> None:
    answer = post(server, wav, response_format="vtt")
    assert (answer.status, answer.kind) == (200, "text/vtt")
    heading, *cues = answer.text.strip().split("\n\n")
    assert heading == "WEBVTT"
    assert len(cues) == 2
    for cue in cues:
        assert re.match(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}\n", cue)


def test_verbose_json_has_segments(server: DaemonProcess, wav: bytes) -> None:
    verbose = post(server, wav, response_format="verbose_json").json
    assert verbose["task"] == "transcribe"
    assert verbose["language"] == "english"
    assert verbose["duration"] == pytest.approx(10.0, abs=0.01)
    assert verbose["text"] == " ".join(segment["text"] for segment in verbose["segments"])
    assert [segment["id"] for segment in verbose["segments"]] == [0, 1]
    for segment in verbose["segments"]:
        assert 0 <= segment["start"] < segment["end"] <= 10
        assert segment["avg_logprob"] <= 0
    assert "words" not in verbose


def test_verbose_json_has_words_if_they_are_asked_for(server: DaemonProcess, wav: bytes) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    verbose = post(server, wav, **fields).json
    assert "segments" not in verbose
    assert " ".join(word["word"] for word in verbose["words"]) == verbose["text"]
    assert all(0 <= word["start"] <= word["end"] <= 10 for word in verbose["words"])


def test_words_and_segments_can_be_had_together(server: DaemonProcess, wav: bytes) -> None:
    request = form(wav, model="m", response_format="verbose_json")
    granularities = b"".join(
        b'--edged-boundary\r\nContent-Disposition: form-data; name="timestamp_granularities[]"'
        b"\r\n\r\n" + kind + b"\r\n"
        for kind in (b"word", b"segment")
    )
    request["body"] = granularities + request["body"]
    verbose = ask(server, PATH, method="POST", **request).json
    assert len(verbose["segments"]) == 2
    for word in verbose["words"]:
        assert any(s["start"] <= word["start"] <= s["end"] for s in verbose["segments"])


def stream_events(answer: Answer) -> list[str]:
    """What stands behind `data:`, event by event."""
    assert (answer.status, answer.kind) == (200, "text/event-stream")
    events = answer.text.split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [event.removeprefix("data: ") for event in events]


def test_a_stream_tells_the_text_bit_by_bit(server: DaemonProcess, wav: bytes) -> None:
    *events, last = stream_events(post(server, wav, stream="true"))
    assert last == "[DONE]"
    *deltas, done = [json.loads(event) for event in events]
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert len(deltas) == 2
    assert done["type"] == "transcript.text.done"
    assert done["text"] == "".join(delta["delta"] for delta in deltas)
    assert done["usage"] == {"type": "duration", "seconds": 10}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("FLAC", {}),
        ("OGG", {"subtype": "VORBIS"}),
        ("OGG", {"subtype": "OPUS"}),
        ("MP3", {}),
        ("WAV", {"subtype": "FLOAT"}),
        ("WAV", {"subtype": "ULAW"}),
        ("AIFF", {}),
    ],
)
def test_every_usual_kind_of_file_is_read(
    server: DaemonProcess, speech: np.ndarray, kind: str, options: dict[str, str]
) -> None:
    if kind not in soundfile.available_formats():
        pytest.skip(f"this libsndfile writes no {kind}")
    file = encoded(speech[: 4 * RATE], kind, **options)
    answer = post(server, file, "upload")  # the name tells nothing
    assert "best of times" in answer.json["text"].lower()


def test_many_channels_and_high_rates_are_read(server: DaemonProcess, speech: np.ndarray) -> None:
    stretched = np.repeat(speech[: 4 * RATE], 3)
    frames = np.stack([stretched, stretched], axis=1)
    answer = post(server, encoded(frames, rate=48000))
    assert "best of times" in answer.json["text"].lower()


def test_silence_is_recognised_as_nothing(server: DaemonProcess) -> None:
    answer = post(server, encoded(silence(2)))
    assert answer.status == 200
    assert answer.json["text"] == ""
    assert post(server, encoded(silence(2)), response_format="vtt").text.strip() == "WEBVTT"
    *_, done = stream_events(post(server, encoded(silence(2)), stream="true"))
    assert done == "[DONE]"


@pytest.mark.parametrize("language", ["en", "EN", "english", ""])
def test_english_may_be_named(server: DaemonProcess, language: str) -> None:
    assert post(server, encoded(silence(1)), language=language).status == 200


def test_fields_without_a_use_here_are_accepted(server: DaemonProcess) -> None:
    fields = {"prompt": "names", "temperature": "0.7", "chunking_strategy": "auto", "user": "me"}
    assert post(server, encoded(silence(1)), **fields).status == 200


# -- what is refused ----------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200)
NOISE = np.random.default_rng(1).bytes(5000)
HEADER_ONLY = encoded(np.zeros(0, np.float32))


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(
    ("file", "code"),
    [
        (b"", "empty_audio"),
        (HEADER_ONLY, "empty_audio"),
        (encoded(np.zeros(0, np.float32), "FLAC"), None),
        (NOISE, "unknown_audio"),
        (b"This is a letter, no audio.\n" * 50, "unknown_audio"),
        (PNG, "unknown_audio"),
        (b"RIFF", "unknown_audio"),
        (HEADER_ONLY[:20], "unknown_audio"),
        (b"fLaC" + bytes(10), "unknown_audio"),
        (b"OggS" + bytes(100), "unknown_audio"),
        (b"ID3" + bytes(100), "unknown_audio"),
        (encoded(np.zeros(100, np.float32), rate=4000), "bad_rate"),
        (encoded(np.zeros(100, np.float32), rate=384000), "bad_rate"),
    ],
    ids=[
        "empty",
        "no samples",
        "no samples flac",
        "noise",
        "letter",
        "picture",
        "riff",
        "half a header",
        "half a flac",
        "half an ogg",
        "half an mp3",
        "slow",
        "fast",
    ],
)
def test_what_is_no_audio_is_refused(
    server: DaemonProcess, file: bytes, code: str | None, stream: str
) -> None:
    answer = post(server, file, stream=stream)
    if stream == "true" and answer.status == 200:  # found out only when all was read
        [event] = stream_events(answer)
        assert json.loads(event)["error"]["code"] == "empty_audio"
        return
    assert answer.status == 400
    error = error_of(answer)
    assert error["code"] in ({code} if code else {"empty_audio", "unknown_audio"})
    if code == "unknown_audio":
        assert "a.wav" in error["message"]


@pytest.mark.parametrize("name", ["a.raw", "a.mp3", "ä.wav", "..", "a" * 300, 'b".wav'])
def test_the_name_of_a_file_decides_nothing(
    server: DaemonProcess, speech: np.ndarray, name: str
) -> None:
    answer = post(server, encoded(speech[: 3 * RATE]), name)
    assert answer.status in {200, 422}
    assert post(server, NOISE, name).status in {400, 422}


def test_a_file_that_ends_early_is_read_as_far_as_it_goes(
    server: DaemonProcess, speech: np.ndarray
) -> None:
    whole = encoded(speech[: 8 * RATE])
    answer = post(server, whole[: len(whole) // 2 + 1])
    assert answer.status == 200
    assert "best of times" in answer.json["text"].lower()


def test_a_flac_that_ends_early_is_read_or_refused(
    server: DaemonProcess, speech: np.ndarray
) -> None:
    whole = encoded(speech[: 8 * RATE], "FLAC")
    answer = post(server, whole[: len(whole) // 2])
    if answer.status == 200:
        assert "best of times" in answer.json["text"].lower()
    else:
        assert answer.status == 400
        assert error_of(answer)["code"] == "damaged_audio"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"language": "de"}, 400),
        ({"language": "klingon"}, 400),
        ({"response_format": "pdf"}, 422),
        ({"response_format": "diarized_json"}, 400),
        ({"temperature": "hot"}, 422),
        ({"stream": "perhaps"}, 422),
        ({"timestamp_granularities[]": "syllable"}, 422),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(
    server: DaemonProcess, fields: dict[str, str], status: int
) -> None:
    answer = post(server, encoded(silence(1)), **fields)
    assert answer.status == status
    assert next(iter(fields)).removesuffix("[]") in error_of(answer)["message"]


def test_a_form_without_a_file_is_refused(server: DaemonProcess) -> None:
    answer = post(server, None)
    assert answer.status == 422
    assert "file" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"file": "a.wav"}'),
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"nothing of that kind"),
        ("multipart/form-data; boundary=x", b""),
        ("application/x-www-form-urlencoded", b"file=a.wav&model=whisper-1"),
    ],
)
def test_what_is_no_form_is_refused(server: DaemonProcess, kind: str, body: bytes) -> None:
    answer = ask(server, PATH, method="POST", headers={"Content-Type": kind}, body=body)
    assert answer.status in {400, 422}
    error_of(answer)


def test_another_method_is_refused_in_openais_shape(server: DaemonProcess) -> None:
    answer = ask(server, PATH)
    assert answer.status == 405
    error_of(answer)


def test_a_foreign_host_is_refused_in_openais_shape(server: DaemonProcess) -> None:
    answer = ask(server, PATH, method="POST", headers={"Host": "evil.example"})
    assert answer.status == 403
    assert error_of(answer)["code"] == "unknown_host"


# -- long files ---------------------------------------------------------------------------------


def test_audio_that_is_too_long_is_refused(server: DaemonProcess) -> None:
    file = encoded(silence(LONGEST + 1), "FLAC")
    answer = post(server, file)
    assert answer.status == 413
    error = error_of(answer)
    assert error["code"] == "audio_too_long"
    assert "server.max_audio_seconds" in error["message"]
    *_, last = stream_events(post(server, file, stream="true"))
    assert json.loads(last)["error"]["code"] == "audio_too_long"


def test_audio_of_the_longest_length_is_taken(server: DaemonProcess) -> None:
    assert post(server, encoded(silence(LONGEST), "FLAC")).status == 200


def test_a_header_that_promises_hours_is_not_believed(
    server: DaemonProcess, speech: np.ndarray
) -> None:
    file = bytearray(encoded((speech[: 4 * RATE] * 32767).astype(np.int16)))
    at = file.index(b"data") + 4
    struct.pack_into("<I", file, at, 4 * 3600 * RATE * 2)
    struct.pack_into("<I", file, 4, 4 * 3600 * RATE * 2 + at)
    answer = post(server, bytes(file))
    assert answer.status == 200
    assert "best of times" in answer.json["text"].lower()
    assert answer.json["usage"]["seconds"] == 4


def test_half_an_hour_of_silence_is_no_trouble(daemon: DaemonProcess) -> None:
    file = encoded(np.zeros(30 * 60 * RATE, np.int16), "FLAC")
    answer = post(daemon, file)
    assert answer.json == {"text": "", "usage": {"type": "duration", "seconds": 1800}}


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    server: DaemonProcess, temporary: Path, speech: np.ndarray
) -> None:
    import socket

    request = form(encoded(speech), stream="true")
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(request['body'])}"
        head += f"\r\nContent-Type: {request['headers']['Content-Type']}\r\n\r\n"
        sock.sendall(head.encode() + request["body"])
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
    server.wait(lambda: not list(temporary.glob("edged-*")))
    assert post(server, encoded(silence(1))).status == 200


def test_two_files_at_once_do_not_mix(server: DaemonProcess, speech: np.ndarray) -> None:
    from concurrent.futures import ThreadPoolExecutor

    files = [encoded(speech[: 4 * RATE]), encoded(speech[12 * RATE : 16 * RATE])]
    alone = [post(server, file).json["text"] for file in files]
    with ThreadPoolExecutor() as pool:
        together = list(pool.map(lambda file: post(server, file).json["text"], files * 2))
    assert together == alone * 2
