"""Vosk's WebSocket protocol, spoken as its example clients do."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.client import s16, silence
from tests.conftest import Said
from tests.daemon import DaemonProcess

CONFIG = '{"config" : {"sample_rate" : 16000.0}}'
EOF, RESET = '{"eof" : 1}', '{"reset" : 1}'
CHUNK = 8000
"""Bytes: the example client's 4000 frames"""
Start = Callable[..., DaemonProcess]
Reply = dict[str, Any]


def chunks(samples: np.ndarray) -> Iterator[bytes]:
    data = s16(samples)
    return (data[first : first + CHUNK] for first in range(0, len(data), CHUNK))


def reply(websocket: ClientConnection) -> Reply:
    answer: Reply = json.loads(websocket.recv(timeout=30))
    return answer


def converse(url: str, samples: np.ndarray, config: str = CONFIG, pause: float = 0) -> list[Reply]:
    """The example's loop: each chunk is sent and its reply awaited, then `eof`."""
    with connect(url) as websocket:
        websocket.send(config)
        replies = []
        for chunk in chunks(samples):
            websocket.send(chunk)
            replies.append(reply(websocket))
            time.sleep(pause)
        websocket.send(EOF)
        replies.append(reply(websocket))
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=30)
        assert websocket.close_code == 1000
    return replies


def text(replies: list[Reply]) -> str:
    return " ".join(reply["text"] for reply in replies if reply.get("text"))


# -- the example clients ---------------------------------------------------------------------------


def test_the_example_s_loop_gets_the_text_and_one_reply_a_chunk(
    daemon: DaemonProcess, said: Said
) -> None:
    replies = converse(daemon.guest("vosk"), said.samples)
    assert len(replies) == len(list(chunks(said.samples))) + 1
    assert all(("partial" in reply) != ("text" in reply) for reply in replies)
    assert "text" in replies[-1]
    assert text(replies) == said.text


def test_words_have_their_times_from_the_stream_s_start(daemon: DaemonProcess, said: Said) -> None:
    replies = converse(daemon.guest("vosk"), said.samples)
    words = [word for reply in replies for word in reply.get("result", ())]
    assert " ".join(word["word"] for word in words) == said.text
    for word in words:
        assert set(word) == {"conf", "start", "end", "word"}
        assert 0 < word["conf"] <= 1
        assert 0 < word["start"] <= word["end"] <= 9
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    assert words[-1]["start"] > 7


def test_at_the_pace_of_time_finals_come_in_between(daemon: DaemonProcess, said: Said) -> None:
    first = said.samples[: round(5.6 * 16000)]
    replies = converse(daemon.guest("vosk"), first, pause=0.1)
    results = [reply for reply in replies if "text" in reply]
    assert len(results) == 2
    assert results[0]["text"]
    assert said.text.startswith(results[0]["text"])
    assert any(reply.get("partial") for reply in replies)


def test_the_project_s_own_client_gets_the_text(
    daemon: DaemonProcess, said: Said, tmp_path: Path
) -> None:
    """What `vosk-transcriber --server` runs, here on a file of PCM instead of ffmpeg's output."""
    module = pytest.importorskip("vosk.transcriber.transcriber")
    client = object.__new__(module.Transcriber)  # to make one loads a model, which this needs not
    client.args = SimpleNamespace(server=daemon.guest("vosk"), output_type="txt")
    (tmp_path / "pcm").write_bytes(s16(said.samples))

    async def main() -> tuple[list[Reply], int]:
        command = ("cat", str(tmp_path / "pcm"))
        proc = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        answer: tuple[list[Reply], int] = await client.recognize_stream_server(proc)
        await proc.wait()
        return answer

    results, size = asyncio.run(main())
    assert size == 2 * len(said.samples)
    assert " ".join(client.format_result(results).split()) == said.text
    client.args.output_type = "srt"
    assert "00:00:0" in client.format_result(results)


def test_the_browser_s_order_frames_without_waiting(daemon: DaemonProcess, said: Said) -> None:
    """The JavaScript client sends as audio comes, and takes replies as they come."""

    async def main() -> list[Reply]:
        async with connect_async(daemon.guest("vosk")) as websocket:
            await websocket.send(CONFIG)
            for chunk in chunks(said.samples):
                await websocket.send(chunk)
            await websocket.send(EOF)
            return [json.loads(message) async for message in websocket]

    replies = asyncio.run(main())
    assert len(replies) == len(list(chunks(said.samples))) + 1
    assert text(replies) == said.text


def test_several_at_once_each_get_their_own(daemon: DaemonProcess, said: Said) -> None:
    async def one(samples: np.ndarray) -> list[Reply]:
        async with connect_async(daemon.guest("vosk")) as websocket:
            await websocket.send(CONFIG)
            for chunk in chunks(samples):
                await websocket.send(chunk)
            await websocket.send(EOF)
            return [json.loads(message) async for message in websocket]

    async def main() -> list[list[Reply]]:
        quiet = silence(2)
        return list(await asyncio.gather(*(one(s) for s in (said.samples, quiet, said.samples))))

    first, quiet, third = asyncio.run(main())
    assert text(first) == text(third) == said.text
    assert quiet[-1] == {"text": ""}


# -- details ---------------------------------------------------------------------------------------


def test_a_client_that_configures_nothing_sends_8000_hertz(
    daemon: DaemonProcess, said: Said
) -> None:
    sentence = soxr.resample(said.samples[: round(4.8 * 16000)], 16000, 8000)
    with connect(daemon.guest("vosk")) as websocket:
        websocket.send(s16(sentence))
        assert reply(websocket) == {"partial": ""}
        websocket.send(EOF)
        result = reply(websocket)
    assert "it was the best of times" in result["text"].lower()
    assert 0.5 < result["result"][0]["start"] < 1.5


@pytest.mark.parametrize("eof", [EOF, '{"eof":1}', '{"eof": true}'])
def test_the_end_without_audio_is_an_empty_result(daemon: DaemonProcess, eof: str) -> None:
    with connect(daemon.guest("vosk")) as websocket:
        websocket.send(eof)
        assert reply(websocket) == {"text": ""}
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=30)


def test_reset_gives_a_result_and_the_stream_goes_on(daemon: DaemonProcess, said: Said) -> None:
    half = round(2.2 * 16000)  # in the flow of words
    with connect(daemon.guest("vosk")) as websocket:
        websocket.send(CONFIG)
        websocket.send(s16(said.samples[:half]))
        reply(websocket)
        websocket.send(RESET)
        assert "best" in reply(websocket)["text"]
        websocket.send(s16(said.samples[half : 5 * 16000]))
        reply(websocket)
        websocket.send(EOF)
        rest = reply(websocket)
    assert "worst" in rest["text"]
    assert rest["result"][0]["start"] > 2


def test_words_can_be_left_out_and_alternatives_asked_for(
    daemon: DaemonProcess, said: Said
) -> None:
    sentence = said.samples[: round(4.8 * 16000)]
    url = daemon.guest("vosk")
    config = '{"config": {"sample_rate": 16000, "words": 0, "phrase_list": ["a", "[unk]"]}}'
    plain = converse(url, sentence, config)[-1]
    assert set(plain) == {"text"}
    config = '{"config": {"sample_rate": "16000", "max_alternatives": 3, "words": 1}}'
    [alternative] = converse(url, sentence, config)[-1]["alternatives"]
    assert alternative["text"] == plain["text"]
    assert 0 < alternative["confidence"] <= 1
    assert set(alternative["result"][0]) == {"word", "start", "end"}


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        "[]",
        "{}",
        "[" * 100_000,
        '{"config": 1}',
        '{"config": {"sample_rate": 5}}',
        '{"config": {"sample_rate": "much"}}',
        '{"config": {"sample_rate": 1e999}}',
        '{"config": {"sample_rate": NaN}}',
        '{"config": {"max_alternatives": {}}}',
    ],
)
def test_a_client_s_mistake_is_told_and_ends_its_connection(
    daemon: DaemonProcess, message: str
) -> None:
    with connect(daemon.guest("vosk")) as websocket:
        websocket.send(message)
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=30)
        assert websocket.close_code == 1008
        assert websocket.close_reason


# -- a reader that does not read ----------------------------------------------------------------


@pytest.mark.long
def test_a_client_that_does_not_read_is_let_go_and_others_are_not(
    daemon: DaemonProcess, said: Said
) -> None:
    """It is owed a reply for every frame; megabytes fit between the two until it shows."""
    lazy = socket.socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.connect(("127.0.0.1", int(daemon.guest("vosk").rsplit(":", 1)[1])))
    lazy.settimeout(60)
    lazy.sendall(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert lazy.recv(12) == b"HTTP/1.1 101"
    frame = b"\x82\x82\0\0\0\0\0\0"  # one silent sample
    with pytest.raises(OSError):  # reset, or a broken pipe
        while True:
            lazy.sendall(1000 * frame)
    assert "a client of vosk is let go: it reads too slowly" in daemon.log.read_text()
    assert text(converse(daemon.guest("vosk"), said.samples)) == said.text
    lazy.close()


# -- garbage ---------------------------------------------------------------------------------------


def test_frames_may_be_cut_anywhere(daemon: DaemonProcess, said: Said) -> None:
    data = s16(said.samples[: round(4.8 * 16000)])
    sizes = itertools.cycle([0, 1, 333, 4095, 7001])
    with connect(daemon.guest("vosk")) as websocket:
        websocket.send(CONFIG)
        first = 0
        while first < len(data):
            size = next(sizes)
            websocket.send(data[first : first + size])
            reply(websocket)
            first += size
        websocket.send(EOF)
        assert "worst of time" in reply(websocket)["text"]
