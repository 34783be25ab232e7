"""`edged demo`: a real daemon, a recording for a microphone, its captions in the terminal."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edged.captions import Captions
from edged.client import Client
from edged.errors import EdgedError

PATIENCE = 60.0
"""Seconds that the daemon may take to answer"""


def bundled_recording() -> Path:
    """A public reading of `A Tale of Two Cities` from the wheel that tiny-en comes in."""
    spec = importlib.util.find_spec("moonshine_voice")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "assets", "two_cities.wav")
        if path.is_file():
            return path
    raise EdgedError(
        "The bundled recording is not installed here. Run: edged demo RECORDING", code="no_file"
    )


def show(recording: Path | None) -> None:
    """Play the recording to a daemon and print what it hears; returns at its end."""
    recording = recording or bundled_recording()
    with tempfile.TemporaryDirectory(prefix="edged-demo-") as folder:
        environment = {
            **os.environ,
            "EDGED_RUNTIME_DIR": folder,
            "EDGED_STATE_DIR": folder,
        }
        os.environ["EDGED_RUNTIME_DIR"] = folder
        command = [sys.executable, "-m", "edged", "run", "--port", "0"]
        command += ["--source", f"file:{recording}", "--log-level", "warning"]
        daemon = subprocess.Popen(command, env=environment)
        try:
            captions = Captions()
            for event in Client().listen(patience=PATIENCE):
                captions.show(event)
        finally:
            daemon.terminate()
            code = daemon.wait(30)
    if code:
        raise EdgedError(f"the daemon left with exit code {code}", code="demo")
