"""Play a recording to a daemon of one's own, as a microphone hears it, while everybody takes note.

The daemon has a configuration with the user's engine and nothing else: no transcripts, no sinks.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tomli_w

from edged import workers
from edged.audio.files import duration, open_recording
from edged.client import Client
from edged.client.requests import Address
from edged.config import FILE, Configuration
from edged.errors import EdgedError
from edged.messages import Event, Final, Hello, Partial
from edged.trace.watching import told
from edged.tracer import About, Tracer

START_SECONDS, LEAVE_SECONDS = 600.0, 90.0
"""A device may compile when it starts, and much may be written at the end"""
PATIENCE = 5.0
"""Seconds without a daemon, should it be gone"""
LOOK_SECONDS = 0.05
RECEIVE = "receive"
SOCKET = "edged.sock"

Progress = Callable[[str, float], None]


def play(
    configuration: Configuration,
    recording: Path,
    folder: Path,
    progress: Progress,
    *,
    fast: bool = False,
    operators: float = 0.0,
) -> None:
    """Have everything noted in `folder`, operators for so many seconds. Raises EdgedError."""
    next(open_recording(recording), None)  # says what is wrong with it before anything is started
    seconds = duration(recording) or float("inf")
    source = f"{'fast' if fast else 'file'}:{recording.absolute()}"
    settings = _settings(configuration, folder, source, operators)
    url = f"unix:{folder / SOCKET}"
    with _daemon(folder, settings, Address(url)) as address:
        received = _Received(Tracer(folder, "client"))
        for event in Client(url).listen(words=True, patience=PATIENCE):
            received.take(event)
            if isinstance(event, Hello):
                # Only now: neither the engine's start nor ours is to be seen in latencies.
                _write(folder, {**settings, "microphone": {"source": source}})
                address.reload()
            elif isinstance(event, Partial | Final):
                progress(recording.name, min(1.0, event.end / seconds))


class _Received:
    """Notes what comes."""

    def __init__(self, tracer: Tracer) -> None:
        tracer.watch(self, "take", _received)

    def take(self, event: Event) -> None:
        """An event is here."""


def _received(_result: None, event: Event) -> About:
    return f"{RECEIVE} {event.__struct_config__.tag}", told(event)


def _settings(
    configuration: Configuration, folder: Path, source: str, operators: float
) -> dict[str, Any]:
    """The daemon's configuration, before it is to listen."""
    kept = configuration.model_dump(
        mode="json", exclude_none=True, include={"engine", "providers", "workers"}
    )
    # Those that were created lie in the state directory, which is another one here.
    pythons = workers.pythons(configuration.provider_options())
    return kept | {
        "workers": {name: {"python": str(python)} for name, python in pythons.items()},
        "microphone": {"enabled": False, "source": source},
        "server": {"port": 0},
        "transcripts": {"enabled": False},
        "trace": {"folder": str(folder), "operators": operators},
    }


def _write(folder: Path, settings: dict[str, Any]) -> None:
    (folder / FILE).write_text(tomli_w.dumps(settings), "utf-8")


def _environment(folder: Path) -> dict[str, str]:
    """Ours, without settings: they are in the file already."""
    kept = {"EDGED_CACHE_DIR", "EDGED_CONFIG_DIR"}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("EDGED_") or k in kept}
    return inherited | {"EDGED_STATE_DIR": str(folder), "EDGED_RUNTIME_DIR": str(folder)}


@contextlib.contextmanager
def _daemon(folder: Path, settings: dict[str, Any], address: Address) -> Iterator[Address]:
    """One that is ready; it has ended, and everything is written, at the end. Raises EdgedError."""
    _write(folder, settings)
    command = [sys.executable, "-m", "edged", "run", "--log-level", "error"]
    process = subprocess.Popen([*command, "--config", str(folder / FILE)], env=_environment(folder))
    try:
        yield _ready(process, address)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE_SECONDS)
        process.kill()
        process.wait()


def _ready(process: subprocess.Popen[bytes], address: Address) -> Address:
    """Wait until its engine runs; it has said itself why it does not."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, EdgedError):
            if address.get("/v1/health")["ready"]:
                return address
        time.sleep(LOOK_SECONDS)
    raise EdgedError("The daemon to be traced does not start. Try: edged run", code="trace_daemon")
