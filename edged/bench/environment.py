"""What a measurement was taken on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from edged import __version__
from edged.bench import processes

CHECKOUT = Path(__file__).parent.parent.parent
"""Where edged lies, if it runs from its sources"""

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
        "other_workers": len(processes.workers()),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _cpu_model() -> str:
    # x86 says "model name"; many ARM boards name the board in the device tree only.
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    board = Path("/proc/device-tree/model")
    return board.read_text().strip("\0\n") if board.is_file() else platform.machine()


def _revision() -> str | None:
    """The commit of its sources, `+changes` if edged or its plugins differ from it."""
    if not (CHECKOUT / ".git").exists():
        return None
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    changed = _git("status", "--porcelain", "--", "edged", "plugins")
    return f"{commit}+changes" if changed else commit


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
