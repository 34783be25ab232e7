"""sherpa-onnx's streaming WebSocket protocol, spoken as its example clients do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.client import silence
from tests.conftest import Said
from tests.daemon import DaemonProcess

FIELDS = {
    *("text", "tokens", "timestamps", "ys_probs", "lm_probs", "context_scores"),
    *("segment", "words", "start_time", "is_final", "is_eof"),
}
CHUNK = 8000
"""Samples: the example client's message"""
Start = Callable[..., DaemonProcess]
Result = dict[str, Any]


def chunks(samples: np.ndarray) -> Iterator[bytes]:
    for first in range(0, len(samples), CHUNK):
        yield samples[first : first + CHUNK].astype("<f4").tobytes()


async def decode_file(url: str, samples: np.ndarray, pause: float = 0.02) -> list[Result]:
    """The example's two tasks: one sends, then `Done`; the other takes results until `Done!`."""
    async with connect_async(url) as websocket:

        async def receive() -> list[Result]:
            results = []
            async for message in websocket:
                if message == "Done!":
                    return results
                results.append(json.loads(message))
            raise AssertionError("it was closed without Done!")

        receiving = asyncio.create_task(receive())
        for chunk in chunks(samples):
            await websocket.send(chunk)
            await asyncio.sleep(pause)
        await websocket.send("Done")
        return await receiving


CLIENT = Path(sys.executable).parent / "sherpa-onnx-online-websocket-client"


def upstream(url: str, file: Path, *options: str) -> list[Result]:
    """What the project's own client, in C++, is told until `Done!`."""
    host, port = url.removeprefix("ws://").split(":")
    command = [str(CLIENT), f"--server-ip={host}", f"--server-port={port}", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.rstrip().endswith("Done!")
    told = (line.partition(" {")[2] for line in done.stderr.splitlines() if ":OnMessage:" in line)
    return [json.loads("{" + message) for message in told if message]


def text(results: list[Result]) -> str:
    return " ".join(result["text"] for result in results if result["is_final"] and result["text"])


def test_the_example_gets_the_text_and_then_done(daemon: DaemonProcess, said: Said) -> None:
    samples = said.samples[: round(5.6 * 16000)]
    results = asyncio.run(decode_file(daemon.guest("sherpa"), samples, pause=0.25))
    assert all(set(result) == FIELDS for result in results)
    finals = [result for result in results if result["is_final"] and result["text"]]
    assert len(finals) == 2
    assert said.text.startswith(finals[0]["text"])
    assert [final["segment"] for final in finals] == list(range(len(finals)))
    assert [result["is_eof"] for result in results] == [False] * (len(results) - 1) + [True]
    partials = [result for result in results if not result["is_final"]]
    assert partials
    for final in finals:
        assert "".join(final["tokens"]).strip() == final["text"]
        assert len(final["tokens"]) == len(final["timestamps"])
        assert final["timestamps"] == sorted(final["timestamps"])
        assert 0 < final["start_time"] + final["timestamps"][-1] <= 6


@pytest.mark.skipif(not CLIENT.exists(), reason="the package sherpa-onnx-bin is not installed")
def test_the_project_s_own_client_gets_the_text(
    daemon: DaemonProcess, said: Said, tmp_path: Path
) -> None:
    # Up to its last word: after a pause the last final may come before `Done`.
    sentences = said.samples[: round(8.3 * 16000)]
    soundfile.write(tmp_path / "said.wav", sentences, 16000, subtype="PCM_16")
    results = upstream(daemon.guest("sherpa"), tmp_path / "said.wav")
    assert text(results) == said.text
    assert results[-1]["is_eof"]
    assert results[-1]["text"]
    segments = [result["segment"] for result in results]
    assert segments == sorted(segments), "nothing overtakes a final"


def test_the_last_result_of_a_file_has_its_text(daemon: DaemonProcess, said: Said) -> None:
    """The example prints only what came before `Done!`."""
    sentence = said.samples[: round(4.6 * 16000)]
    last = asyncio.run(decode_file(daemon.guest("sherpa"), sentence, pause=0))[-1]
    assert last["is_final"]
    assert last["is_eof"]
    assert "it was the best of times" in last["text"].lower()


def test_several_at_once_each_get_their_own(daemon: DaemonProcess, said: Said) -> None:
    async def main() -> list[list[Result]]:
        url = daemon.guest("sherpa")
        both = (decode_file(url, samples) for samples in (said.samples, silence(2)))
        return list(await asyncio.gather(*both))

    spoken, quiet = asyncio.run(main())
    assert text(spoken) == said.text
    [last] = quiet
    assert last["text"] == ""
    assert last["is_eof"]


def test_done_without_audio_is_answered(daemon: DaemonProcess) -> None:
    with connect(daemon.guest("sherpa")) as websocket:
        websocket.send("done?")  # other text is ignored
        websocket.send("Done")
        with contextlib.suppress(ConnectionClosed):
            websocket.send("Done")
        assert json.loads(websocket.recv(timeout=30))["is_eof"]
        assert websocket.recv(timeout=30) == "Done!"
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=30)
        assert websocket.close_code == 1000


def test_samples_that_are_no_numbers_are_silence(daemon: DaemonProcess, said: Said) -> None:
    samples = said.samples[: round(4.8 * 16000)].copy()
    samples[:4000:7] = np.nan
    samples[1:4000:11] = np.inf
    results = asyncio.run(decode_file(daemon.guest("sherpa"), samples, pause=0))
    assert "best of times" in text(results)
