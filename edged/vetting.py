"""Whether a stranger's plugin can be loaded at all: tried once, in a process that may be lost.

    python -m edged.vetting NAME MODULE

A plugin that raises is only left out. One that blocks, crashes or leaves would take its process
along, and so it is loaded elsewhere first. The answer is remembered in the cache directory until
one of the plugin's files changes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

from edged import paths
from edged.errors import EdgedError
from edged.files import write_whole
from edged.log import get_logger
from edged.parent import answer_only

log = get_logger(__name__)

LOAD_SECONDS = 15.0
"""Longest time that a plugin may take to be loaded and asked what it supplies"""
FILE = "plugins.json"
LOADED = b"loaded"
AGAIN = "To try it again: edged plugins --fresh"

Answers = dict[str, str | None]
"""By what identifies a plugin, why it must not be loaded, or None"""


def vet(entries: Sequence[EntryPoint], fresh: bool = False) -> list[str | None]:
    """For each plugin why it must not be loaded, or None; those not known yet are all tried at
    once."""
    known = {} if fresh else _read()
    identities = [_identity(entry) for entry in entries]
    new = [(i, entry) for i, entry in zip(identities, entries, strict=True) if i not in known]
    if new:
        known |= _try_apart(new)
        _write({i: known[i] for i in identities})
    return [known[identity] for identity in identities]


def refuse(entry: EntryPoint, reason: str) -> None:
    """Remember that a plugin must not be loaded, though it could be once."""
    _write(_read() | {_identity(entry): reason})


def _identity(entry: EntryPoint) -> str:
    distribution = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
    return f"{distribution}: {entry.name} = {entry.value}, of {_newest(entry.module)}"


def _newest(module: str) -> int:
    """When the module's package was changed last, in nanoseconds; 0 where it is not found."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        spec = importlib.util.find_spec(module.partition(".")[0])
        if spec is not None and spec.submodule_search_locations:
            files = (f for f in Path(spec.submodule_search_locations[0]).rglob("*.py"))
            return max((file.stat().st_mtime_ns for file in files), default=0)
        if spec is not None and spec.origin:
            return Path(spec.origin).stat().st_mtime_ns
    return 0


# -- trying ---------------------------------------------------------------------------------------


def _try_apart(entries: Sequence[tuple[str, EntryPoint]]) -> Answers:
    deadline = time.monotonic() + LOAD_SECONDS
    started = [(identity, _start(entry)) for identity, entry in entries]
    return {identity: _answer(process, deadline) for identity, process in started}


def _start(entry: EntryPoint) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "edged.vetting", entry.name, entry.value],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _answer(process: subprocess.Popen[bytes], deadline: float) -> str | None:
    """Why what this process loads must not be loaded, or None."""
    try:
        out, errors = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return f"it was not loaded within {LOAD_SECONDS:.0f} s. {AGAIN}"
    finally:
        _kill(process)
    if out.endswith(LOADED):
        return None
    last = (errors.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
    return f"it ended the process that loaded it ({_how(process.returncode)}). {last}".strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it has started, which may hold our pipes open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


# -- remembering ----------------------------------------------------------------------------------


def _path() -> Path:
    return paths.cache_directory() / FILE


def _read() -> Answers:
    try:
        answers = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return answers if isinstance(answers, dict) else {}


def _write(answers: Answers) -> None:
    """A cache that cannot be written makes the next start slow, but not this one wrong."""
    try:
        write_whole(_path(), json.dumps(answers, indent=1).encode())
    except EdgedError as error:
        log.debug("%s", error.message)


def main() -> None:
    out = answer_only()
    from edged.plugins import load

    name, value = sys.argv[1:]
    load(EntryPoint(name=name, value=value, group="edged"))
    os.write(out, LOADED)
    os._exit(0)  # whatever threads it has started


if __name__ == "__main__":
    main()
