"""One microphone, every client: all protocols at once, by their own projects' clients.

Somebody speaks into a microphone of a sound server. Who follows it gets its finals; who brings
audio brings the same recording at the same time. All of them write the same.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wyoming.audio import AudioChunk, AudioStop

from edged import paths
from edged.client import Client, Final
from edged.errors import EdgedError
from tests.api import test_realtime, test_sherpa, test_wyoming
from tests.api.http import event_stream
from tests.audio.sound_server import SoundServer
from tests.client import load, recognize, s16, silence, texts
from tests.conftest import GUESTS, TINY
from tests.daemon import DaemonProcess
from tests.plugins.broker import Broker, Listener

RATE = 16000
UTTERANCES = 2
PACED = """
import sys, time
started = time.monotonic()
with open(sys.argv[1], "rb") as file:
    for number in range(1, 10**9):
        if not (data := file.read(3200)):
            break
        time.sleep(max(0, started + number / 10 - time.monotonic()))
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
"""
"""Writes 16 bit samples at the pace of time"""

# The package's way of opening a socket, which the newest `websockets` would have otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")


@dataclass(frozen=True)
class Clip:
    """A recording in its forms."""

    wav: Path
    pcm: Path
    samples: np.ndarray


@pytest.fixture
def clip(tmp_path: Path, speech: np.ndarray) -> Clip:
    """UTTERANCES of them, in 16 bits."""
    wav, pcm = tmp_path / "clip.wav", tmp_path / "clip.pcm"
    soundfile.write(wav, np.concatenate([speech[: round(8.4 * RATE)], silence(1)]), RATE, "PCM_16")
    samples = load(wav)
    pcm.write_bytes(s16(samples))
    return Clip(wav, pcm, samples)


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    if reason := SoundServer.missing():
        pytest.skip(reason)
    monkeypatch.setenv("EDGED_CACHE_DIR", str(paths.cache_directory()))
    server = SoundServer(tmp_path / "sound")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.plug()
    yield server
    server.stop()


@pytest.fixture
def broker(tmp_path: Path, free_port: int) -> Iterator[Broker]:
    if reason := Broker.missing():
        pytest.skip(reason)
    started = Broker(tmp_path / "broker", free_port)
    started.start()
    yield started
    started.stop()


@pytest.fixture
def daemon(
    start_daemon: Callable[..., DaemonProcess], sound: SoundServer, broker: Broker
) -> DaemonProcess:
    """Listens to the sound server's microphone and speaks everything; nothing lighter serves."""
    mqtt = {"host": "127.0.0.1", "port": broker.port, "name": "robot"}
    rung = {"engine_precision": "int8", "engine_fallback": "fail"}
    settings = {**GUESTS, **rung, "wyoming_microphone": 1, "sinks": json.dumps({"mqtt": mqtt})}
    started = start_daemon("--model", TINY, **settings)
    health = lambda: started.get("/v1/health")[1]  # noqa: E731
    started.wait(lambda: health()["microphone"]["state"] == "listening")
    return started


# -- who follows the microphone, until the daemon stops ----------------------------------------


def follow_websocket(daemon: DaemonProcess) -> list[str]:
    events = []
    with suppress(ConnectionClosed), connect(daemon.ws("/v1/transcripts")) as websocket:
        for message in websocket:
            events.append(json.loads(message))
    return texts(events)


def follow_events(daemon: DaemonProcess) -> list[str]:
    with event_stream(daemon, "/v1/transcripts/events") as stream:
        return texts([event["json"] for event in stream])


def follow_by_client(daemon: DaemonProcess) -> list[str]:
    found: list[str] = []
    with suppress(EdgedError):  # once the daemon is gone
        for event in Client(daemon.url).listen(patience=1):
            if isinstance(event, Final):
                found.append(event.text)
    return found


class Satellite:
    """Takes the microphone by Wyoming, and has what it hears transcribed by Wyoming."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._done = threading.Event()
        self.pcm = b""

    def run(self) -> str:
        return asyncio.run(self._relay())

    async def _relay(self) -> str:
        client = test_wyoming.client
        async with client(self._daemon) as microphone, client(self._daemon) as recognizer:
            start = (await test_wyoming.until(microphone, "audio-start"))[0]
            await recognizer.write_event(start)
            answer = asyncio.create_task(test_wyoming.until(recognizer, "transcript-stop"))
            while not self._done.is_set():
                event = await microphone.read_event()
                assert event is not None
                self.pcm += AudioChunk.from_event(event).audio
                await recognizer.write_event(event)
            await recognizer.write_event(AudioStop().event())
            return test_wyoming.transcript(await answer)

    def stop(self) -> None:
        self._done.set()


# -- who brings the recording, at the pace of time ---------------------------------------------


def by_native(daemon: DaemonProcess, clip: Clip) -> list[str]:
    return texts(recognize(daemon.url, clip.samples, pace=1.0))


def by_realtime(daemon: DaemonProcess, clip: Clip) -> list[str]:
    with test_realtime.Talk(daemon) as talk:
        talk.update(format=test_realtime.PCM16)
        talk.append(s16(clip.samples), pace=1.0)
        talk.until("completed", UTTERANCES)
        return test_realtime.transcripts(talk.events)


def by_vosk(daemon: DaemonProcess, clip: Clip) -> list[str]:
    """What `vosk-transcriber --server` runs, with a program that plays instead of ffmpeg."""
    module = pytest.importorskip("vosk.transcriber.transcriber")
    client = object.__new__(module.Transcriber)  # to make one loads a model, which this needs not
    client.args = SimpleNamespace(server=daemon.guest("vosk"), output_type="txt")

    async def converse() -> list[dict[str, str]]:
        command = (sys.executable, "-c", PACED, str(clip.pcm))
        program = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        results, _ = await client.recognize_stream_server(program)
        await program.wait()
        found: list[dict[str, str]] = results
        return found

    return [result["text"] for result in asyncio.run(converse())]


def by_sherpa(daemon: DaemonProcess, clip: Clip) -> list[str]:
    pace = ("--samples-per-message=3200", "--seconds-per-message=0.2")
    results = test_sherpa.upstream(daemon.guest("sherpa"), clip.wav, *pace)
    return [result["text"] for result in results if result["is_final"]]


def by_wyoming(daemon: DaemonProcess, clip: Clip) -> str:
    async def converse() -> str:
        async with test_wyoming.client(daemon) as connection:
            chunk = test_wyoming.SAMPLES / RATE
            events = await test_wyoming.transcribe(connection, clip.samples, pause=chunk)
            return test_wyoming.transcript(events)

    return asyncio.run(converse())


# -- all at once -------------------------------------------------------------------------------


def test_every_client_of_one_microphone_gets_the_same_finals(
    daemon: DaemonProcess, sound: SoundServer, broker: Broker, clip: Clip
) -> None:
    listener = Listener(broker)
    satellite = Satellite(daemon)
    with ThreadPoolExecutor(16) as pool:
        followers = {
            call.__name__: pool.submit(call, daemon)
            for call in (follow_websocket, follow_events, follow_by_client)
        }
        relayed = pool.submit(satellite.run)
        daemon.wait(lambda: len(satellite.pcm) > RATE)
        playing = sound.play(clip.wav)
        bringers = {
            call.__name__: pool.submit(call, daemon, clip)
            for call in (by_native, by_realtime, by_vosk, by_sherpa)
        }
        by_request = pool.submit(by_wyoming, daemon, clip)
        brought = {name: spoken(future.result(60)) for name, future in bringers.items()}
        playing.wait(30)
        expected = brought["by_native"]
        daemon.wait(lambda: len(stored(daemon)) >= len(expected), 20)
        satellite.stop()
        once = [by_request.result(60), relayed.result(60)]
        daemon.process.send_signal(signal.SIGTERM)
        followed = {name: spoken(future.result(60)) for name, future in followers.items()}
    published = [json.loads(text)["text"] for text in listener.payloads("edged/robot/final")]
    captured = [json.loads(text)["text"] for text in listener.payloads("hermes/asr/textCaptured")]
    listener.stop()
    assert len(expected) == UTTERANCES
    same = {**brought, **followed, "mqtt": published, "hermes": captured}
    assert {name: heard for name, heard in same.items() if heard != expected} == {}
    assert once == [" ".join(expected)] * 2
    assert s16(clip.samples) in satellite.pcm, "a satellite gets the microphone's very bits"


def spoken(finals: list[str]) -> list[str]:
    return [text for text in finals if text]


def stored(daemon: DaemonProcess) -> list[str]:
    page = daemon.get("/v1/transcripts?limit=1000")[1]["transcripts"]
    return [entry["text"] for entry in page if entry["stream"] == "microphone"]
