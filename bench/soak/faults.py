"""What goes wrong, in turn."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.soak.room import Room
from bench.soak.talkers import Client
from tests.daemon import DaemonProcess

LOST_SECONDS = 2.0
"""The microphone is away"""
FULL_SECONDS = 8.0
"""The disk is full"""
STEPS = (3600, -1800, 0, -86400, 600, 0)
"""Offsets of the wall clock in seconds, one after the other"""
DISK_MEGABYTES = 16
"""The store's write-ahead log alone comes to 4 before SQLite empties it"""
SHIM = Path(__file__).with_name("clock.c")


@dataclass(frozen=True, slots=True)
class Fault:
    """One that happened."""

    at: float
    """CLOCK_MONOTONIC"""
    kind: str


@dataclass(frozen=True, slots=True)
class Stage:
    """What faults happen to."""

    daemon: DaemonProcess
    client: Client
    room: Room
    disk: Path
    clock: Path


def kill_worker(stage: Stage) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        if worker := stage.daemon.child("edged.engine.worker"):
            worker.kill()


def cut_client(stage: Stage) -> None:
    stage.client.cut()


def lose_microphone(stage: Stage) -> None:
    stage.room.unplug()
    time.sleep(LOST_SECONDS)
    stage.room.plug()


def fill_disk(stage: Stage) -> None:
    full = stage.disk / "full"
    with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    time.sleep(FULL_SECONDS)
    full.unlink()


_steps = itertools.cycle(STEPS)


def step_clock(stage: Stage) -> None:
    set_clock(stage.clock, next(_steps))


KINDS: dict[str, Callable[[Stage], None]] = {
    "worker killed": kill_worker,
    "client cut": cut_client,
    "microphone lost": lose_microphone,
    "disk full": fill_disk,
    "clock stepped": step_clock,
}


class Faults(threading.Thread):
    """Injects one every so many seconds; tells before each."""

    def __init__(self, stage: Stage, every: float, before: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.happened: list[Fault] = []
        self.problems: list[str] = []
        """Faults that could not be injected"""
        self._stage = stage
        self._every = every
        self._before = before
        self._stop_asked = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        for number, kind in enumerate(itertools.cycle(KINDS), 1):
            due = started + number * self._every
            if self._stop_asked.wait(max(0.0, due - time.monotonic())):
                return
            self._before(kind)
            self.happened.append(Fault(time.monotonic(), kind))
            try:
                KINDS[kind](self._stage)
            except (OSError, subprocess.SubprocessError) as error:
                self.problems.append(f"{kind}: {error!r}")

    def stop(self) -> None:
        self._stop_asked.set()
        self.join()


# -- what makes them possible ---------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a few megabytes; needs root."""
    folder.mkdir()
    options = f"size={DISK_MEGABYTES}m"
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit("a small disk to fill cannot be mounted: be root") from error
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=False)


@contextlib.contextmanager
def clock_of_its_own(file: Path) -> Iterator[None]:
    """Processes started meanwhile take their wall clock's offset from this file.

    The machine's clock stays as it is. libfaketime, the usual way, makes sleeping processes fail,
    which no step of a real clock does.
    """
    library = file.with_suffix(".so")
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", library, SHIM, "-ldl"]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit("a C compiler is missing. Run: apt-get install gcc libc6-dev") from error
    file.write_bytes(bytes(8))
    ours = {"LD_PRELOAD": str(library), "EDGED_SOAK_CLOCK": str(file)}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def set_clock(file: Path, offset: int) -> None:
    """Step it, to so many seconds beside the machine's."""
    with file.open("r+b") as clock:  # it is mapped: the file must stay the same
        clock.write(offset.to_bytes(8, sys.byteorder, signed=True))
