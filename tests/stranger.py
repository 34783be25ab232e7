"""An execution provider that misbehaves on command, while it is asked, loaded or run.

Installed for a test as a stranger's distribution would be: an entry point on the path.
`EDGED_TEST_FAULT` says what it does; without it, it is ONNX Runtime under another name. It offers
an NPU, of which it admits that a quarter of the operators stay on the CPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import distribution

PLUGIN = """
import ctypes
import os
import subprocess
import sys
import time

from edged.errors import ProviderError
from edged.hookspecs import hookimpl

FAULT = os.environ.get("EDGED_TEST_FAULT", "")
REST = {"npu": {"npu": 3, "cpu": 1}, "fake": {"cpu": 4}}


def fail(when):
    if FAULT == f"segfault {when}":
        print("the driver said this last", file=sys.stderr, flush=True)
        ctypes.string_at(0)
    elif FAULT == f"abort {when}":
        os.abort()
    elif FAULT == f"hang {when}":
        subprocess.Popen(["sleep", "1000"])  # which holds the pipes
        time.sleep(1000)
    elif FAULT == f"spin {when}":
        while True:
            pass
    elif FAULT == f"leave {when}":
        os._exit(0)
    elif FAULT == f"raise {when}":
        raise ZeroDivisionError("a stranger's mistake")
    elif FAULT == f"refuse {when}":
        raise ProviderError("the stranger does not feel like it")
    elif FAULT == f"print {when}":
        print("rubbish")
        os.write(1, b"and more of it" * 1000)


@hookimpl
def edged_execution_providers():
    from edged.provider import Device
    from edged_onnxruntime.provider import OnnxRuntime
    from edged_onnxruntime.targets import CPU

    def changed(value, change):
        import onnxruntime

        return onnxruntime.OrtValue.ortvalue_from_numpy(change(value.numpy()))

    class Stranger(OnnxRuntime):
        name = "stranger"
        packages = ()

        def probe(self):
            fail("asked")
            return [CPU, *(Device(name, "npu") for name in REST)]

        def open(self, model, device, options):
            fail("loaded")
            session = super().open(model, CPU, options)
            session.device = device
            session.placement = REST.get(device.name, session.placement)
            run = session.run

            def faulty(inputs, outputs):
                fail("run")
                results = run(inputs, outputs)
                factor = {"nan": float("nan"), "numbers": -1.0}.get(FAULT)
                if "audio" in inputs and factor:
                    results = [changed(value, lambda array: factor * array) for value in results]
                if "next_token" in outputs and FAULT == "words":
                    results[0] = changed(results[0], lambda array: (array + 700) % 20000)
                return results

            session.run = faulty
            return session

    return [Stranger()]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str = "") -> None:
    """Make the plugin part of the environment of processes started from now on."""
    distribution.write(folder, "stranger", PLUGIN)
    distribution.add_to_path(folder, monkeypatch)
    monkeypatch.setenv("EDGED_TEST_FAULT", fault)
