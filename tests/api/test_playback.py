"""A machine that talks does not hear itself: real recordings, one as its own voice."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from edged.demonstration import bundled_recording
from tests.client import Event, load, of_type, s16, silence, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
OWN_TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, "
    "it was the age of foolishness."
)


@pytest.fixture(scope="module")
def own(speech: np.ndarray) -> list[np.ndarray]:
    """Two sentences that the machine says."""
    return [speech[int(0.5 * RATE) : int(4.85 * RATE)], speech[int(4.85 * RATE) : int(8.5 * RATE)]]


@pytest.fixture(scope="module")
def other() -> np.ndarray:
    """Somebody else: "Ever tried. Ever failed." """
    recording: Path = bundled_recording().parent / "beckett.wav"
    return load(recording)[: int(3.2 * RATE)]


class Talk:
    """A client's stream that one can also tell what is being played."""

    def __init__(self, daemon: DaemonProcess, socket: ClientConnection) -> None:
        self._daemon = daemon
        self._socket = socket
        self._name = json.loads(socket.recv())["stream"]

    def say(self, samples: np.ndarray) -> None:
        self._socket.send(s16(samples))
        time.sleep(0.3)  # it is in the ring then

    def play(self, **order: Any) -> dict[str, Any]:
        status, report = self._daemon.post("/v1/playback", {"stream": self._name, **order})
        assert status == 200, report
        return report

    def finish(self) -> list[Event]:
        self._socket.send('{"type": "close"}')
        return [json.loads(message) for message in self._socket]


@contextmanager
def talking(daemon: DaemonProcess) -> Iterator[Talk]:
    with connect(daemon.ws("/v1/stream?words=1"), max_size=None) as socket:
        yield Talk(daemon, socket)


def test_while_it_plays_nothing_is_heard(
    daemon: DaemonProcess, own: list[np.ndarray], other: np.ndarray
) -> None:
    with talking(daemon) as talk:
        talk.say(np.concatenate([other, silence(0.2)]))
        assert talk.play()["mode"] == "gate"
        talk.say(own[0])
        talk.play(state="stopped", tail=0.2)
        talk.say(np.concatenate([silence(1), other, silence(1)]))
        events = talk.finish()
    heard = " ".join(texts(events))
    assert heard.lower().count("ever tried") == 2
    assert "times" not in heard
    [gap] = of_type(events, "gap")
    assert gap["reason"] == "playback"
    assert gap["end"] - gap["start"] == pytest.approx(len(own[0]) / RATE + 0.2, abs=0.15)
    started, stopped = of_type(events, "playback")
    assert (started["state"], started["mode"]) == ("started", "gate")
    assert (stopped["state"], stopped["reason"]) == ("stopped", "stopped")
    assert stopped["end"] == gap["end"]


def test_with_its_text_somebody_may_speak_in_between(
    daemon: DaemonProcess, own: list[np.ndarray], other: np.ndarray
) -> None:
    with talking(daemon) as talk:
        assert talk.play(text=OWN_TEXT)["mode"] == "words"
        talk.say(np.concatenate([own[0], other, own[1], silence(1)]))
        talk.play(state="stopped")
        talk.say(np.concatenate([other, silence(1)]))
        events = talk.finish()
    heard = " ".join(texts(events)).lower()
    assert heard.count("ever tried") == heard.count("ever failed") == 2
    assert not {"times", "age", "wisdom", "foolishness"} & set(re.findall(r"\w+", heard))
    finals = of_type(events, "final")
    dropped = " ".join(final.get("own_voice") or "" for final in finals).lower()
    assert {"best", "worst", "wisdom", "foolishness"} <= set(re.findall(r"\w+", dropped))
    for final in finals:
        assert [word["word"] for word in final["words"]] == final["text"].split()
    for partial in of_type(events, "partial"):
        assert partial["text"].startswith(partial["stable"])
        assert "wisdom" not in partial["stable"]


def test_words_over_its_voice_stay(
    daemon: DaemonProcess, own: list[np.ndarray], other: np.ndarray
) -> None:
    """Both at once, its own voice 15 dB softer, as a speaker beside a microphone."""
    mixed = 0.18 * np.concatenate([own[0], own[1]])
    start = RATE
    mixed[start : start + len(other)] += other
    with talking(daemon) as talk:
        talk.play(text=OWN_TEXT)
        talk.say(np.concatenate([mixed, silence(1)]))
        events = talk.finish()
    heard = " ".join(texts(events)).lower()
    assert "ever tried" in heard
    assert "ever failed" in heard
    assert "foolishness" not in heard


def test_it_is_over_by_itself(daemon: DaemonProcess, other: np.ndarray) -> None:
    with talking(daemon) as talk:
        talk.play(seconds=1.0)
        talk.say(np.concatenate([silence(1.2), other, silence(1)]))
        events = talk.finish()
    assert "ever tried" in " ".join(texts(events)).lower()
    assert of_type(events, "playback")[-1]["reason"] == "timed_out"


def test_it_survives_the_engine(
    start_daemon: Callable[..., DaemonProcess], own: list[np.ndarray], other: np.ndarray
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    with talking(daemon) as talk:
        talk.play()
        talk.say(own[0])
        daemon.worker().kill()
        talk.say(own[1])
        talk.play(state="stopped", tail=0)
        talk.say(np.concatenate([other, silence(1)]))
        events = talk.finish()
    heard = " ".join(texts(events)).lower()
    assert "ever failed" in heard
    assert "times" not in heard
    assert "wisdom" not in heard


def test_a_stream_that_is_not_there(daemon: DaemonProcess) -> None:
    status, problem = daemon.post("/v1/playback", {"text": "hello"})
    assert (status, problem["code"]) == (404, "no_stream")
    assert "microphone" in problem["detail"]


def test_finals_tell_the_time_by_every_clock(daemon: DaemonProcess, other: np.ndarray) -> None:
    before = daemon.get("/v1/clock")[1]
    assert before["ros_time"] is None
    offset = 1_000_000.5
    assert daemon.post("/v1/clock", {"ros_offset": offset})[1]["ros_offset"] == offset
    with talking(daemon) as talk:
        talk.say(np.concatenate([silence(0.5), other, silence(1)]))
        daemon.post("/v1/clock", {"ros_offset": None})
        talk.say(np.concatenate([other, silence(1)]))
        events = talk.finish()
    finals = [final for final in of_type(events, "final") if final["text"]]
    first, last = finals[0], finals[-1]
    assert first["sample"] == pytest.approx(first["start"] * RATE, abs=RATE / 1000)
    assert first["ros_time"] == pytest.approx(first["clock"] + offset, abs=0.001)
    assert first["time"] - first["clock"] == pytest.approx(
        before["time"] - before["clock"], abs=0.05
    )
    assert "ros_time" not in last
