"""What a measurement was taken on, and what may have spoilt it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edged.bench import processes
from edged.bench.daemon import OURS, Installation
from edged.errors import EdgedError
from edged.hardware import power, thermal
from edged.hardware.root import Root

QUIET_LOAD = 0.3
"""Load average a core from which other programs may be heard in the figures"""
STEADY_GOVERNORS = {"performance", "schedutil"}
WARM_SHARE = 0.95
"""Of the temperature from which the machine slows down"""
STOLEN_SHARE = 0.01
"""Of all processor time, taken by the host of a virtual machine"""
_ASK = """
import importlib.metadata, json, pathlib, platform
import edged
from edged.models.store import BUILD_VERSION
print(json.dumps({
    "edged": edged.__version__,
    "python": platform.python_version(),
    "onnxruntime": importlib.metadata.version("onnxruntime"),
    "build_version": BUILD_VERSION,
    "folder": str(pathlib.Path(edged.__file__).parent.parent),
}))
"""

Environment = dict[str, Any]


def describe(installation: Installation = OURS) -> Environment:
    """The machine and the software, as they are now. Raises EdgedError where there is no edged."""
    software = _ask(installation)
    folder = Path(software.pop("folder"))
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "kernel": platform.release(),
        **software,
        "revision": _revision(folder),
        "other_workers": len(processes.workers()),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _ask(installation: Installation) -> dict[str, Any]:
    """Raises EdgedError."""
    command = installation.command("-c", _ASK)
    try:
        done = subprocess.run(
            command, env=installation.environment, capture_output=True, text=True, check=False
        )
        answer: dict[str, Any] = msgspec.json.decode(done.stdout)
    except OSError as error:
        raise _no_edged(installation, error.strerror) from error
    except msgspec.DecodeError as error:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise _no_edged(installation, last) from error
    return answer


def _no_edged(installation: Installation, why: str | None) -> EdgedError:
    return EdgedError(
        f"{installation.python} runs no edged ({why}). "
        "Name the Python of an environment that has one: ENVIRONMENT/bin/python",
        code="no_edged",
    )


def _cpu_model() -> str:
    # x86 says "model name"; many ARM boards name the board in the device tree only.
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    board = Path("/proc/device-tree/model")
    return board.read_text().strip("\0\n") if board.is_file() else platform.machine()


def _revision(checkout: Path) -> str | None:
    """The commit of its sources, `+changes` if edged or its plugins differ from it."""
    if not (checkout / ".git").exists():
        return None
    commit = _git(checkout, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    changed = _git(checkout, "status", "--porcelain", "--", "edged", "plugins")
    return f"{commit}+changes" if changed else commit


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=checkout, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


# -- what spoils it -------------------------------------------------------------------------------


def spoilers() -> list[str]:
    """What of the machine's state now makes figures worse, or unsteady."""
    return [*_neighbours(), *_clock(), *_heat()]


def _neighbours() -> Iterator[str]:
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > QUIET_LOAD * cores:
        yield f"other programs are at work: the load average is {load:.2f}, of {cores} cores"
    if others := len(processes.workers()):
        yield f"{others} other engine workers run here: memory that is shared with them is not seen"


def _clock() -> Iterator[str]:
    files = Path("/sys/devices/system/cpu/cpufreq").glob("policy*/scaling_governor")
    slow = {file.read_text().strip() for file in files} - STEADY_GOVERNORS
    if slow:
        yield f"the clock may be low at first: the frequency governor is {', '.join(sorted(slow))}"
    if power.read(Root()).discharging:
        yield "it runs on battery"


def _heat() -> Iterator[str]:
    for zone in thermal.read(Root()):
        if zone.trip_celsius and zone.celsius > WARM_SHARE * zone.trip_celsius:
            yield f"it is hot: {zone.kind} {zone.celsius:.0f} of {zone.trip_celsius:.0f} degrees"


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """At the end the list tells what the host of a virtual machine took meanwhile."""
    told: list[str] = []
    stolen, total = _ticks()
    yield told
    stolen_now, total_now = _ticks()
    share = (stolen_now - stolen) / max(total_now - total, 1)
    if share > STOLEN_SHARE:
        told.append(f"the host of this virtual machine took {share:.0%} of the processor's time")


def _ticks() -> tuple[int, int]:
    """Stolen, and of all kinds, since the machine's start."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return int(fields[7]), sum(map(int, fields))
