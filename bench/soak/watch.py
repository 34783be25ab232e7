"""What the processes use, taken every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from bench.processes import family, name_of
from bench.processes import memory_of as memory
from tests.daemon import DaemonProcess

NAMES = {"edged.engine.worker": "worker", "edged.audio.capture": "capture", "edged": "daemon"}


@dataclass(frozen=True, slots=True)
class Sample:
    """The state at one moment."""

    at: float
    """CLOCK_MONOTONIC"""
    before: str | None
    """The fault that comes now, if one does: all is settled since the last"""
    memory: dict[str, float]
    """MB that no other program can share, by process"""
    descriptors: int
    """Of all processes"""
    threads: int
    """Of all processes"""
    processes: int


class Watch(threading.Thread):
    """Takes a sample every few seconds, and whenever it is asked."""

    def __init__(self, daemon: DaemonProcess, every: float) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample] = []
        self._daemon_process = daemon
        self._every = every
        self._stop_asked = threading.Event()

    def run(self) -> None:
        while not self._stop_asked.wait(self._every):
            self.look()

    def look(self, before: str | None = None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.samples.append(_sample(family(self._daemon_process), before))

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def _sample(processes: Iterable[psutil.Process], before: str | None) -> Sample:
    used: dict[str, float] = {}
    descriptors = threads = count = 0
    for process in processes:
        with contextlib.suppress(OSError, psutil.Error):  # it may just have ended
            name = NAMES.get(name_of(process), "other")
            used[name] = used.get(name, 0.0) + round(memory(process).anonymous, 3)
            descriptors += process.num_fds()
            threads += process.num_threads()
            count += 1
    return Sample(time.monotonic(), before, used, descriptors, threads, count)
