"""Following the microphone: `WS /v1/transcripts` and its server-sent events."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.http import ask, event_stream
from tests.client import s16, silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


@pytest.fixture
def clip(speech: np.ndarray) -> np.ndarray:
    """Two utterances."""
    return np.concatenate([speech[: 4 * RATE], silence(1.5), speech[: 4 * RATE], silence(1.5)])


class Fed:
    """A daemon whose microphone is a named pipe that a test writes to."""

    def __init__(self, start: Start, folder: Path, *flags: str, **settings: object) -> None:
        self.fifo = folder / "microphone"
        os.mkfifo(self.fifo)
        source = f"program:cat {self.fifo}"
        self.daemon = start("--model", TINY, "--source", source, *flags, **settings)

    def speak(self, samples: np.ndarray) -> None:
        """All of it, and then the microphone is at its end."""
        with self.fifo.open("wb") as pipe:
            pipe.write(s16(samples))


@pytest.fixture
def fed(start_daemon: Start, tmp_path: Path) -> Fed:
    return Fed(start_daemon, tmp_path)


def rest_of(websocket: ClientConnection) -> list[dict[str, Any]]:
    events = []
    try:
        while True:
            events.append(json.loads(websocket.recv(timeout=30)))
    except ConnectionClosed:
        return events


def test_every_follower_gets_every_event(fed: Fed, clip: np.ndarray) -> None:
    url = fed.daemon.ws("/v1/transcripts")
    with (
        connect(url) as one,
        connect(url) as other,
        event_stream(fed.daemon, "/v1/transcripts/events") as stream,
    ):
        assert next(stream)["json"]["type"] == "hello"
        fed.speak(clip)
        [hello, *events], [_, *same] = rest_of(one), rest_of(other)
        sent = list(stream)
    assert hello["type"] == "hello"
    assert hello["stream"] == "microphone"
    assert events == same == [event["json"] for event in sent]
    assert [event["event"] for event in sent] == [event["type"] for event in events]
    assert events[-1] == {"type": "closed", "reason": "source_ended"}
    assert one.close_code == 1000
    finals = [event for event in events if event["type"] == "final"]
    assert len(finals) == 2
    assert [event["id"] for event in sent if "id" in event] == [str(f["id"]) for f in finals]


def stalled(daemon: DaemonProcess, path: str, *headers: str) -> socket.socket:
    """One that asks, and then takes nothing of what it is sent."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # as little as there can be
    sock.connect(("127.0.0.1", daemon.port))
    lines = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{daemon.port}", *headers, "", "")
    sock.sendall("\r\n".join(lines).encode())
    return sock


@pytest.mark.long
def test_who_takes_nothing_is_cut_off_and_others_miss_nothing(fed: Fed, speech: np.ndarray) -> None:
    handshake = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    daemon = fed.daemon
    with (
        stalled(daemon, "/v1/transcripts?words=1", *handshake, key),
        stalled(daemon, "/v1/transcripts/events?words=1"),
        connect(daemon.ws("/v1/transcripts?words=1")) as brisk,
        ThreadPoolExecutor() as pool,
    ):
        reading = pool.submit(rest_of, brisk)
        daemon.wait(lambda: "edged_clients 3.0" in ask(daemon, "/metrics").text)
        with fed.fifo.open("wb") as pipe:
            pipe.write(s16(speech))
            daemon.wait(lambda: "edged_clients 1.0" in ask(daemon, "/metrics").text, 90)
        events = reading.result(30)
    stored = daemon.get("/v1/transcripts?limit=1000")[1]["transcripts"]
    finals = [event for event in events if event["type"] == "final" and event["text"]]
    assert [final["id"] for final in finals] == [entry["id"] for entry in stored]
    assert len(finals) > 3
    assert "Traceback" not in daemon.log.read_text()


def test_a_follower_chooses_partials_and_words(fed: Fed, clip: np.ndarray) -> None:
    with (
        connect(fed.daemon.ws("/v1/transcripts?partials=0&words=1")) as detailed,
        connect(fed.daemon.ws("/v1/transcripts")) as brief,
        event_stream(fed.daemon, "/v1/transcripts/events?partials=false&words=true") as stream,
    ):
        assert next(stream)["event"] == "hello"
        fed.speak(clip)
        with_words, without = rest_of(detailed), rest_of(brief)
        sent = [event["json"] for event in stream]
    assert with_words[1:] == sent
    assert not [event for event in with_words if event["type"] == "partial"]
    finals = [event for event in with_words if event["type"] == "final"]
    assert len(finals) == 2
    assert all(final["words"] for final in finals)
    assert not any("words" in event for event in without)


def test_a_client_that_comes_back_gets_what_it_missed(
    start_daemon: Start, tmp_path: Path, clip: np.ndarray
) -> None:
    recording = tmp_path / "recording.wav"
    soundfile.write(recording, clip, RATE)
    daemon = start_daemon("--model", TINY, "--source", f"fast:{recording}")
    path = "/v1/transcripts/events"

    def both_stored() -> list[dict[str, Any]] | None:
        entries: list[dict[str, Any]] = daemon.get("/v1/transcripts")[1]["transcripts"]
        return entries if len(entries) == 2 else None

    first, second = daemon.wait(both_stored)
    with (
        event_stream(daemon, path, {"Last-Event-ID": "0"}) as new,
        event_stream(daemon, path, {"Last-Event-ID": str(first["id"])}) as behind,
        event_stream(daemon, path, {"Last-Event-ID": str(second["id"])}) as current,
        event_stream(daemon, path) as fresh,
    ):
        streams = [new, behind, current, fresh]
        for stream in streams:
            assert next(stream)["event"] == "hello"
        daemon.process.send_signal(signal.SIGTERM)
        *got, last = [[event["json"] for event in stream] for stream in streams]
    for events in (*got, last):
        assert events.pop() == {"type": "closed", "reason": "stopping"}
    assert [[final["text"] for final in finals] for finals in got] == [
        [first["text"], second["text"]],
        [second["text"]],
        [],
    ]
    assert [final["id"] for final in got[0]] == [first["id"], second["id"]]
    assert not any("words" in final for final in got[0])
    assert last == []


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 30, "-1", "abc", "\xb2", "1.5", ""])
def test_a_strange_last_event_id_does_no_harm(daemon: DaemonProcess, number: str) -> None:
    with event_stream(daemon, "/v1/transcripts/events", {"Last-Event-ID": number}) as stream:
        assert next(stream)["event"] == "hello"
    assert "Traceback" not in daemon.log.read_text()


def test_recordings_of_clients_are_not_the_microphones(
    fed: Fed, speech: np.ndarray, clip: np.ndarray
) -> None:
    """A client's stream is stored, but it is no event of the microphone's."""
    from tests.client import recognize, texts

    assert texts(recognize(fed.daemon.url, speech[: 4 * RATE]))
    with event_stream(fed.daemon, "/v1/transcripts/events", {"Last-Event-ID": "0"}) as stream:
        assert next(stream)["event"] == "hello"
        fed.speak(clip)
        numbers = [event["id"] for event in stream if "id" in event]
    assert numbers == ["2", "3"]


def at_the_pace_of_time(pipe: BinaryIO, samples: np.ndarray) -> None:
    """As a microphone would, in pieces of 20 ms."""
    started = time.monotonic()
    for first in range(0, len(samples), RATE // 50):
        time.sleep(max(0.0, started + first / RATE - time.monotonic()))
        pipe.write(s16(samples[first : first + RATE // 50]))
        pipe.flush()


def test_muting_is_announced_as_a_gap(
    start_daemon: Start, tmp_path: Path, speech: np.ndarray
) -> None:
    """What is said while muted is not heard, and how long that was is told."""
    fifo = tmp_path / "microphone"
    os.mkfifo(fifo)
    daemon = start_daemon("--model", TINY, "--source", f"program:cat {fifo}")
    with connect(daemon.ws("/v1/transcripts?partials=0")) as follower, fifo.open("wb") as pipe:
        assert json.loads(follower.recv())["type"] == "hello"
        daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["state"] == "listening")
        pipe.write(s16(np.concatenate([speech[: 4 * RATE], silence(1.5)])))
        pipe.flush()
        events = []
        while not any(event["type"] == "final" for event in events):
            events.append(json.loads(follower.recv(timeout=30)))
        assert daemon.post("/v1/microphone", {"muted": True})[1]["state"] == "muted"
        at_the_pace_of_time(pipe, speech[12 * RATE : round(12.6 * RATE)])
        assert daemon.post("/v1/microphone", {"muted": False})[1]["state"] == "listening"
        at_the_pace_of_time(pipe, silence(0.2))
        while not any(event["type"] == "gap" for event in events):
            events.append(json.loads(follower.recv(timeout=30)))
    [gap] = [event for event in events if event["type"] == "gap"]
    assert gap["reason"] == "muted"
    assert gap["end"] - gap["start"] >= 0.1
    assert len([event for event in events if event["type"] == "final"]) == 1
