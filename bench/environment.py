"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from edged import __version__

ROOT = Path(__file__).parent.parent

Environment = dict[str, str | int | list[float] | None]


def describe() -> Environment:
    """The machine and the software, as they are now."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "edged": __version__,
        "revision": _revision(),
        "other_workers": _workers(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu_model() -> str:
    # x86 says "model name"; many ARM boards name the board in the device tree only.
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    board = Path("/proc/device-tree/model")
    return board.read_text().strip("\0\n") if board.is_file() else platform.machine()


def _workers() -> int:
    """Engine workers of other daemons: they share our pages and take our cores."""
    arguments = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return sum("edged.engine.worker" in words for words in arguments)


def _revision() -> str | None:
    """The commit of the checkout, `+changes` if edged or its plugins differ from it."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    changed = _git("status", "--porcelain", "--", "edged", "plugins")
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
