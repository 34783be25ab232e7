"""What a process and all its descendants cost, from /proc."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from edged.engine.process import family as children_of

WORKER = "edged.engine.worker"
PROCESS_CLOCK = 2
"""What clock_getcpuclockid(3) makes of a process's number: CPUCLOCK_SCHED of the kernel"""
TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all its descendants, the process itself first."""
    return [pid, *(other for child in children_of(pid)[1:] for other in family(child))]


def arguments(pid: int) -> list[str]:
    """Its command line; nothing once it has ended."""
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
        return line.rstrip("\0").split("\0")
    return []


def name_of(pid: int) -> str:
    """What a process of ours does: `edged`, or the module it runs. Raises OSError."""
    words = arguments(pid)
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return Path(f"/proc/{pid}/comm").read_text().strip()


def worker_of(pid: int) -> int | None:
    """The engine worker of a daemon, while it has one."""
    return next((member for member in family(pid) if WORKER in arguments(member)), None)


def workers() -> list[int]:
    """The engine workers of all daemons on this machine."""
    pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if WORKER in arguments(pid)]


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU time used so far, in seconds."""

    all: float
    """Of all processes"""
    worker: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.all - earlier.all, self.worker - earlier.worker)


def cpu_time(pid: int) -> CpuTime:
    """Of a process, its descendants, and the children it has buried."""
    total = worker = 0.0
    for member in family(pid):
        with contextlib.suppress(OSError):  # it may just have ended
            own, buried = _seconds(member)
            total += own + buried * (member == pid)
            worker += own * (name_of(member) == WORKER)
    return CpuTime(total, worker)


def cpu_percent(pid: int, seconds: float) -> float:
    """Of one core, what it and they use in the `seconds` that come."""
    before, started = cpu_time(pid), time.monotonic()
    time.sleep(seconds)
    used = cpu_time(pid) - before
    return 100 * used.all / (time.monotonic() - started)


def _seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of a process, and of its children that have ended. Raises OSError."""
    stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    own = time.clock_gettime((~pid << 3) | PROCESS_CLOCK)  # to the nanosecond; stat counts ticks
    return own, sum(int(field) for field in stat[13:15]) / TICKS


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


def memory(pid: int) -> list[Memory]:
    """Of a process and each of its descendants; the process itself is the first."""
    measured = []
    for member in family(pid):
        with contextlib.suppress(OSError):  # it may just have ended
            measured.append(memory_of(member))
    return measured


def memory_of(pid: int) -> Memory:
    """One process. Raises OSError when it has ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kilobytes = dict(re.findall(r"^(\w+): +(\d+) kB$", rollup, re.MULTILINE))

    def megabytes(*fields: str) -> float:
        return sum(int(kilobytes.get(field, 0)) for field in fields) * 1024 / 1e6

    return Memory(
        name=name_of(pid),
        pss=megabytes("Pss"),
        anonymous=megabytes("Pss_Anon", "Pss_Shmem"),
        private=megabytes("Private_Clean", "Private_Dirty"),
    )
