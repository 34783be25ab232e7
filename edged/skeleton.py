"""`edged plugins new`: an example, copied under another name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from edged.errors import EdgedError
from edged.paths import shipped

WORDS = {
    "provider": "frugal",
    "recognizer": "dtmf",
    "sink": "diary",
    "source": "udp",
    "router": "latest",
    "command": "count",
}
"""By kind of plugin, the word that its example is called by"""
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
TEXTS = {".py", ".toml", ".md"}


def write(name: str, kind: str, folder: Path) -> Path:
    """Write the distribution edged-NAME into `folder`; returns where it lies. Raises EdgedError."""
    if kind not in WORDS:
        raise EdgedError(f"{kind} is no kind of plugin; use one of {', '.join(WORDS)}")
    if not NAME.fullmatch(name) or name in WORDS.values():
        raise EdgedError(f"{name} cannot be a plugin's name: use small letters, as in my_{kind}")
    target = folder / f"edged-{_dashed(name)}"
    if target.exists():
        raise EdgedError(f"{target} is there already. Choose another name, or --folder")
    example = shipped("examples") / f"edged-example-{kind}"
    try:
        for path in sorted(example.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                _copy(
                    path, target / _renamed(str(path.relative_to(example)), name, kind), name, kind
                )
    except OSError as error:
        raise EdgedError(f"{target} cannot be written ({error.strerror})") from error
    return target


def _copy(path: Path, target: Path, name: str, kind: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in TEXTS:
        target.write_text(_renamed(path.read_text("utf-8"), name, kind), "utf-8")
    else:
        shutil.copyfile(path, target)


def _renamed(text: str, name: str, kind: str) -> str:
    """An example's text with its names replaced."""
    text = text.replace(f"edged-example-{kind}", f"edged-{_dashed(name)}")
    text = text.replace(f"edged_example_{kind}", f"edged_{name}")
    return re.sub(rf"\b{WORDS[kind]}\b", name, text)


def _dashed(name: str) -> str:
    return name.replace("_", "-")
