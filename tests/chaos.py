"""An execution provider that fails on command: ONNX Runtime's, with a trap in front.

Installed for a test by `install`, as a stranger's distribution would be: an entry point on the
path. `EDGED_TEST_TRAP=SAMPLES` aborts the process that runs an encoder over so many samples.
"""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGIN = """
import os

from edged.hookspecs import hookimpl


@hookimpl
def edged_execution_providers():
    from edged_onnxruntime.provider import OnnxRuntime

    class Chaos(OnnxRuntime):
        name = "chaos"

        def open(self, model, device, options):
            session = super().open(model, device, options)
            run = session.run

            def trapped(inputs, outputs):
                audio = inputs.get("audio")
                if audio is not None and str(audio.shape[1]) == os.environ.get("EDGED_TEST_TRAP"):
                    os.abort()
                return run(inputs, outputs)

            session.run = trapped
            return session

    return [Chaos()]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plugin part of the environment of processes started from now on."""
    (folder / "edged_chaos.py").write_text(PLUGIN)
    metadata = folder / "edged_chaos-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: edged-chaos\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[edged]\nchaos = edged_chaos\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
