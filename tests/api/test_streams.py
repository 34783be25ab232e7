"""What is being recognised, how long it took of late, and how loud the microphone is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.sync.client import connect

from edged.api.levels import SILENCE, SPAN, LevelMeter
from edged.messages import Level
from tests.api.conftest import Shared
from tests.client import of_type, recognize, s16, silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


@pytest.fixture(scope="module")
def server(shared_daemon: Shared) -> DaemonProcess:
    return shared_daemon("--no-microphone", server_max_streams=3)


def test_open_streams_are_listed(server: DaemonProcess, speech: np.ndarray) -> None:
    empty = (200, {"streams": [], "most": 3})
    assert server.get("/v1/streams") == empty
    with connect(server.ws("/v1/stream")) as websocket:
        name = json.loads(websocket.recv())["stream"]
        websocket.send(s16(speech[: 2 * RATE]))
        [stream] = server.wait(
            lambda: [s for s in server.get("/v1/streams")[1]["streams"] if s["speaking"]]
        )
        assert (stream["name"], stream["protocol"]) == (name, "edged")
        assert 0 < stream["audio"] <= 2
        assert stream["age"] > 0
    server.wait(lambda: server.get("/v1/streams") == empty)


def test_latencies_are_of_audio_at_the_pace_of_time(
    server: DaemonProcess, speech: np.ndarray
) -> None:
    def counts() -> dict[str, int]:
        stages = server.get("/v1/latencies")[1]["stages"]
        return {each["stage"]: sum(s["count"] for s in each["spans"]) for each in stages}

    recognize(server.url, speech[: 4 * RATE])
    nothing = dict.fromkeys(("first_partial", "endpoint", "decode", "total"), 0)
    assert counts() == nothing, "it came faster"
    clip = np.concatenate([speech[: 2 * RATE], silence(0.7)])
    events = recognize(server.url, clip, pace=1.0)
    [total] = [final["latency"]["total"] for final in of_type(events, "final")]
    assert counts() == dict.fromkeys(nothing, 1)
    stages = server.get("/v1/latencies?seconds=600&parts=1")[1]["stages"]
    [span] = next(each["spans"] for each in stages if each["stage"] == "total")
    assert span["p50"] == span["p99"] == pytest.approx(total)


def test_how_loud_the_microphone_is_comes_to_who_asks(
    start_daemon: Start, tmp_path: Path, speech: np.ndarray
) -> None:
    file = tmp_path / "loud.wav"
    soundfile.write(file, np.concatenate([silence(1), speech[: 2 * RATE]]), RATE)
    # It is played anew at each start, and starts when the daemon does: both connect at once.
    daemon = start_daemon("--model", TINY, "--source", f"file:{file}", wait=False)
    daemon.wait(lambda: daemon.port)
    with (
        connect(daemon.ws("/v1/transcripts?levels=1")) as asks,
        connect(daemon.ws("/v1/transcripts")) as other,
    ):
        events = [json.loads(message) for message in asks]
        assert not [e for e in map(json.loads, other) if e["type"] == "level"]
    levels = of_type(events, "level")
    assert len(levels) > 10
    assert all(level["rms"] <= level["peak"] <= 0 for level in levels)
    assert max(level["peak"] for level in levels) > -20
    assert events[0]["type"] == "hello"
    assert events[-1]["type"] == "closed"


def test_a_level_is_in_decibels_of_full_scale() -> None:
    levels: list[Level] = []
    meter = LevelMeter(levels.append)
    square = np.tile(np.array([32767, -32767], "<i2"), SPAN // 2)
    meter.hear(square.tobytes()[:100])
    assert not levels, "too little to tell"
    meter.hear(square.tobytes()[100:])
    meter.hear((square // 10).tobytes())
    meter.hear(np.zeros(SPAN, "<i2").tobytes())
    assert [(level.rms, level.peak) for level in levels] == [
        pytest.approx((0, 0), abs=0.01),
        pytest.approx((-20, -20), abs=0.01),
        (SILENCE, SILENCE),
    ]
