"""A virtual microphone of a real sound server, through real PortAudio."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edged import paths
from tests.audio.sound_server import SoundServer
from tests.client import silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Start = Callable[..., DaemonProcess]


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    if reason := SoundServer.missing():
        pytest.skip(reason)
    monkeypatch.setenv("EDGED_CACHE_DIR", str(paths.cache_directory()))
    server = SoundServer(tmp_path / "sound")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


@pytest.fixture
def sentence(tmp_path: Path, speech: np.ndarray) -> Path:
    """The recording's first sentence, with silence around it."""
    path = tmp_path / "sentence.wav"
    samples = np.concatenate([silence(0.5), speech[: 5 * 16000], silence(1)])
    soundfile.write(path, samples, 16000)
    return path


class Follower:
    """Collects the microphone's events in the background."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self.events: list[dict[str, Any]] = []
        address = daemon.ws("/v1/transcripts")
        threading.Thread(target=self._read, args=(address,), daemon=True).start()
        daemon.wait(lambda: self.of("hello"))

    def _read(self, address: str) -> None:
        with contextlib.suppress(ConnectionClosed), connect(address) as websocket:
            for message in websocket:
                self.events.append(json.loads(message))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def text(self) -> str:
        return " ".join(event["text"] for event in self.of("final"))


def state(daemon: DaemonProcess) -> str:
    return str(daemon.get("/v1/health")[1]["microphone"]["state"])


def test_what_is_spoken_into_the_microphone_is_written(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "listening")
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "worst of times" in follower.text(), 15)
    assert "best of times" in follower.text()
    final = follower.of("final")[0]
    assert 0 < final["latency"]["endpoint"] < 1
    assert follower.of("partial")


def test_a_microphone_of_another_rate_is_heard_too(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug(rate=48000, channels=2)
    daemon = start_daemon("--model", TINY, microphone_channel="1")
    daemon.wait(lambda: state(daemon) == "listening")
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "best of times" in follower.text(), 15)


def test_it_waits_for_a_microphone_and_takes_one_that_appears(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "waiting")
    reasons = daemon.get("/v1/health")[1]["reasons"]
    assert any(reason.startswith("microphone:") for reason in reasons)
    sound.plug()
    daemon.wait(lambda: state(daemon) == "listening", 15)
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "best of times" in follower.text(), 15)


def test_an_unplugged_microphone_is_a_gap_and_is_taken_again(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    handle = sound.plug()
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "listening")
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "worst of times" in follower.text(), 15)
    sound.unplug(handle)
    daemon.wait(lambda: state(daemon) == "waiting", 10)
    sound.plug()
    daemon.wait(lambda: state(daemon) == "listening", 15)
    daemon.wait(lambda: follower.of("gap"), 10)
    gap = follower.of("gap")[0]
    assert gap["reason"] == "device_lost"
    assert gap["end"] > gap["start"]
    before = len(follower.of("final"))
    sound.play(sentence).wait(30)
    daemon.wait(lambda: len(follower.of("final")) > before, 15)
    assert follower.of("final")[-1]["start"] >= gap["end"]


def test_nothing_is_heard_while_muted(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "listening")
    follower = Follower(daemon)
    assert daemon.post("/v1/microphone", {"muted": True})[1]["muted"] is True
    assert state(daemon) == "muted"
    sound.play(sentence).wait(30)
    assert daemon.post("/v1/microphone", {"muted": False})[1]["muted"] is False
    daemon.wait(lambda: follower.of("gap"), 10)
    assert follower.of("gap")[0]["reason"] == "muted"
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "worst of times" in follower.text(), 15)
    assert follower.text().count("worst of times") == 1


def test_a_killed_capture_process_is_replaced(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "listening")
    capture = daemon.wait(lambda: daemon.child("edged.audio.capture"))
    capture.kill()
    daemon.wait(lambda: state(daemon) == "listening" and daemon.child("edged.audio.capture"), 15)
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "best of times" in follower.text(), 15)


def test_a_capture_process_that_hangs_is_replaced(
    sound: SoundServer, start_daemon: Start, sentence: Path
) -> None:
    sound.plug()
    daemon = start_daemon("--model", TINY)
    daemon.wait(lambda: state(daemon) == "listening")
    capture = daemon.wait(lambda: daemon.child("edged.audio.capture"))
    capture.suspend()
    daemon.wait(lambda: state(daemon) == "waiting", 20)
    daemon.wait(lambda: state(daemon) == "listening", 20)
    assert not capture.is_running()
    follower = Follower(daemon)
    sound.play(sentence).wait(30)
    daemon.wait(lambda: "best of times" in follower.text(), 15)
