"""Somebody who speaks into the microphone of a daemon, at the pace of time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

import numpy as np

from tests.client import CHUNK, s16

RATE = 16000


class Speaker:
    """A named pipe for a microphone; while nothing is said, it carries silence."""

    def __init__(self, folder: Path) -> None:
        self._fifo = folder / "microphone"
        os.mkfifo(self._fifo)
        self._waiting = np.zeros(0, np.float32)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def source(self) -> str:
        """For `microphone.source`."""
        return f"program:cat {self._fifo}"

    def say(self, samples: np.ndarray) -> None:
        """Begin to say this; returns at once."""
        with self._lock:
            self._waiting = np.concatenate([self._waiting, samples])

    def finish(self) -> None:
        """Wait until all of it is said."""
        while len(self._waiting):
            time.sleep(0.02)

    def stop(self) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        # Both ends, so that it neither waits for a reader nor fails without one.
        pipe = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        due = time.monotonic()
        while not self._over.is_set():
            with self._lock:
                piece, self._waiting = self._waiting[:CHUNK], self._waiting[CHUNK:]
            piece = np.concatenate([piece, np.zeros(CHUNK - len(piece), np.float32)])
            with contextlib.suppress(BlockingIOError):  # nobody listens, as in any room
                os.write(pipe, s16(piece))
            due += CHUNK / RATE
            time.sleep(max(0.0, due - time.monotonic()))
        os.close(pipe)
