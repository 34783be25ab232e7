"""A virtual environment for each peer: bench/.peers/NAME, from requirements/NAME.txt."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.corpus import ROOT

FOLDER = ROOT / "bench" / ".peers"
REQUIREMENTS = Path(__file__).parent / "requirements"


def names() -> list[str]:
    """All peers that can be installed."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def pins() -> list[str]:
    """What is installed, as `package==version`, over all peers."""
    lines = (path.read_text("utf-8").splitlines() for path in REQUIREMENTS.glob("*.txt"))
    return sorted({line for peer in lines for line in peer if "==" in line})


def python(name: str) -> Path:
    """The Python of a peer, whether it is there or not."""
    return FOLDER / name / "bin" / "python"


def install(wanted: Sequence[str]) -> None:
    """Make the environments of these, or of all. Raises SystemExit with what to do."""
    if unknown := set(wanted) - set(names()):
        raise SystemExit(f"no such peer: {', '.join(unknown)}; there are {', '.join(names())}")
    failed = [name for name in wanted or names() if not _install(name)]
    if failed:
        raise SystemExit(f"not installed: {', '.join(failed)}; pip says why above")


def _install(name: str) -> bool:
    print(f"{name}: {FOLDER / name}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", FOLDER / name], check=True)
    command = [python(name), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "-r", REQUIREMENTS / f"{name}.txt"], check=False)
    return done.returncode == 0
