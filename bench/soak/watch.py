"""What the processes use, taken every few seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from edged.bench.processes import family, memory_of, name_of
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
        sample = _sample(family(self._daemon_process.pid), before)
        if sample.processes:
            self.samples.append(sample)

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


def _sample(processes: Iterable[int], before: str | None) -> Sample:
    used: dict[str, float] = {}
    descriptors = threads = count = 0
    for pid in processes:
        with contextlib.suppress(OSError, psutil.Error):  # it may just have ended
            name = NAMES.get(name_of(pid), "other")
            used[name] = used.get(name, 0.0) + round(memory_of(pid).anonymous, 3)
            process = psutil.Process(pid)
            descriptors += process.num_fds()
            threads += process.num_threads()
            count += 1
    return Sample(time.monotonic(), before, used, descriptors, threads, count)
