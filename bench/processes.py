"""A daemon to measure, and what its processes cost."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from tests.daemon import DaemonProcess

WORKER = "edged.engine.worker"
_COMPLAINT = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|Traceback|Fatal|^\w*Error\b")


@contextlib.contextmanager
def running(
    model: str, settings: Mapping[str, object] = MappingProxyType({})
) -> Iterator[DaemonProcess]:
    """A ready daemon for one model without a microphone, with folders of its own."""
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        daemon = DaemonProcess(Path(folder), ("--no-microphone", "--model", model), settings)
        try:
            daemon.wait_ready()
            yield daemon
        finally:
            daemon.stop()


def complaints(daemon: DaemonProcess) -> list[str]:
    """The lines of its log that speak of trouble."""
    return [line for line in daemon.log.read_text().splitlines() if _COMPLAINT.search(line)]


def family(daemon: DaemonProcess) -> list[psutil.Process]:
    """The daemon and all its descendants."""
    parent = psutil.Process(daemon.pid)
    return [parent, *parent.children(recursive=True)]


def name_of(process: psutil.Process) -> str:
    """What a process of ours does: `edged`, or the module it runs."""
    arguments: list[str] = process.cmdline()
    if "-m" in arguments[:-1]:
        return arguments[arguments.index("-m") + 1]
    return str(process.name())


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time used so far, in seconds."""

    all: float
    """Of all processes"""
    worker: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.all - earlier.all, self.worker - earlier.worker)


def cpu_time(daemon: DaemonProcess) -> CpuTime:
    """User and system time of the daemon, its children, and those it has already buried."""
    total = worker = 0.0
    for process in family(daemon):
        times = process.cpu_times()
        total += times.user + times.system
        if process.pid == daemon.pid:
            total += times.children_user + times.children_system
        elif name_of(process) == WORKER:
            worker += times.user + times.system
    return CpuTime(total, worker)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process, in MB of 10^6 bytes."""

    name: str
    pss: float
    """Proportional: pages that n processes share count 1/n"""
    anonymous: float
    """The part of `pss` that is no file on disk, which no other program can share"""
    private: float
    """What would be free if it ended"""


def memory(daemon: DaemonProcess) -> list[Memory]:
    """Each process of the daemon; the daemon itself is the first."""
    measured = []
    for process in family(daemon):
        with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it may just have ended
            measured.append(memory_of(process))
    return measured


def memory_of(process: psutil.Process) -> Memory:
    """One process. Raises OSError or psutil.NoSuchProcess when it has ended."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    kilobytes = dict(re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE))

    def megabytes(*fields: str) -> float:
        return sum(int(kilobytes.get(field, 0)) for field in fields) * 1024 / 1e6

    return Memory(
        name=name_of(process),
        pss=megabytes("Pss"),
        anonymous=megabytes("Pss_Anon", "Pss_Shmem"),
        private=megabytes("Private_Clean", "Private_Dirty"),
    )
