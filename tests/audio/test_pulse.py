"""One source of a real sound server, by libpulse."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.audio.pulse import Recorder
from tests.audio.sound_server import MICROPHONE, SoundServer

RATE = 16000
SECONDS = 2.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """PulseAudio, whose null sinks send pieces of 50 ms whatever is wished."""
    if reason := SoundServer.missing():
        pytest.skip(reason)
    server = SoundServer(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.plug()
    yield server
    server.stop()


def listen(frames: int) -> tuple[float, int]:
    """Record for a while, so many frames wished at a time: seconds of sound, and how often the
    thread that reads had to wait."""
    recorder = Recorder(f"{MICROPHONE}.monitor", RATE, ("mono",), frames)
    found = []

    def read() -> None:
        recorder.read()
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        heard, end = 0, time.monotonic() + SECONDS
        while time.monotonic() < end:
            block = recorder.read()
            assert block is not None
            heard += len(block) // recorder.frame_bytes
        waits = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        found.append((heard / RATE, waits))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    recorder.close()
    [(seconds, waits)] = found
    return seconds, waits


def test_a_server_that_sends_small_pieces_wakes_nobody_for_each(server: SoundServer) -> None:
    (near, often), (far, seldom) = listen(RATE // 40), listen(RATE // 10)
    assert near == pytest.approx(SECONDS, abs=0.25)
    assert far == pytest.approx(SECONDS, abs=0.25)
    assert seldom < 0.7 * often
