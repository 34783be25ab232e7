"""A room with a microphone that can be pulled out while somebody speaks on.

PulseAudio: the voice is played to a null sink, and the microphone is a source of its own that
hears it, so that losing the one does not stop the other.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.corpus import RATE
from tests.audio.sound_server import SoundServer

ROOM = "room"
MICROPHONE = "vmic"
CHUNK = RATE // 10
"""Samples written at once"""
AHEAD = 1.0
"""Seconds that lie in the player's hands"""


class Room:
    """One sound server, one voice, one microphone."""

    def __init__(self, folder: Path) -> None:
        self._server = SoundServer(folder)
        self.environment = self._server.environment
        self._server.plug(ROOM)
        self._handle = ""
        self.plug()

    def plug(self) -> None:
        self._handle = self._pactl(
            "load-module", "module-remap-source", f"master={ROOM}.monitor",
            f"source_name={MICROPHONE}", "remix=no",
        )  # fmt: skip

    def unplug(self) -> None:
        self._pactl("unload-module", self._handle)

    def _pactl(self, *arguments: str) -> str:
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            ["pactl", *arguments], env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Processes started meanwhile hear this room, and no other."""
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        yield
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value

    def close(self) -> None:
        self._server.stop()

    def speak(self, samples: np.ndarray) -> Voice:
        return Voice(samples, {**os.environ, **self.environment})


class Voice(threading.Thread):
    """Plays the script into the room at the pace of time."""

    def __init__(self, samples: np.ndarray, environment: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self._samples = samples
        self._player = subprocess.Popen(
            [
                "pacat", "--playback", f"--device={ROOM}", "--format=s16le", f"--rate={RATE}",
                "--channels=1", "--latency-msec=500", "--raw",
            ],
            env=environment,
            stdin=subprocess.PIPE,
        )  # fmt: skip
        self.started = 0.0
        """When the first sample was due, CLOCK_MONOTONIC"""

    def run(self) -> None:
        assert self._player.stdin is not None
        self.started = time.monotonic() + AHEAD
        for first in range(0, len(self._samples), CHUNK):
            due = self.started + first / RATE - AHEAD
            time.sleep(max(0.0, due - time.monotonic()))
            self._player.stdin.write(self._samples[first : first + CHUNK].tobytes())
            self._player.stdin.flush()
        self._player.stdin.close()
        self._player.wait()
