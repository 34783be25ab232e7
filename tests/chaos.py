"""Execution providers that fail on command: the real ones, with traps in front.

`chaos` is ONNX Runtime; with `EDGED_TEST_MIXED=1` there are `chaos-openvino` and `chaos-tflite`.

Installed for a test by `install`, as a stranger's distribution would be: an entry point on the
path. `EDGED_TEST_TRAP=SAMPLES` aborts the process that runs an encoder over so many samples.
`EDGED_TEST_FAULT=FILE` names a file; a fault written into it happens once, at the next run of an
encoder: the file is removed first, so that the next worker is whole again. Only `constant` stays:
from then on every encoder, of the next worker too, makes of everything what it made of the first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import distribution

FAULTS = ("segfault", "abort", "hang", "nan", "slow", "device_lost", "print", "leak")

PLUGIN = """
import ctypes
import os
import time

import numpy as np

from edged.errors import ProviderError
from edged.hookspecs import hookimpl

KEPT = []


def take_fault():
    path = os.environ.get("EDGED_TEST_FAULT", "")
    try:
        with open(path) as file:
            fault = file.read()
        if fault != "constant":
            os.unlink(path)
    except OSError:
        return ""
    return fault


def constant(values):
    from onnxruntime import OrtValue

    path = os.environ["EDGED_TEST_FAULT"] + ".npz"
    if not os.path.exists(path):
        np.savez(path, *(value.numpy() for value in values))
    return [OrtValue.ortvalue_from_numpy(array) for array in np.load(path).values()]


def before(fault):
    if fault == "segfault":
        ctypes.string_at(0)
    elif fault == "abort":
        os.abort()
    elif fault == "hang":
        time.sleep(3600)
    elif fault == "device_lost":
        raise ProviderError("the device is gone")
    elif fault == "print":
        os.write(1, b"driver: hello from stdout\\n" * 1000)
    elif fault == "leak":
        KEPT.append(bytearray(200 << 20))
        KEPT[-1][::4096] = b"x" * len(KEPT[-1][::4096])


def trap(session):
    run = session.run

    def trapped(inputs, outputs):
        audio = inputs.get("audio")
        if audio is None:
            return run(inputs, outputs)
        if str(audio.shape[1]) == os.environ.get("EDGED_TEST_TRAP"):
            os.abort()
        fault = take_fault()
        before(fault)
        started = time.monotonic()
        values = run(inputs, outputs)
        if fault == "slow":
            time.sleep(10 * (time.monotonic() - started))
        if fault == "constant":
            values = constant(values)
        if fault == "nan":
            values = [np.full(value.numpy().shape, np.nan, np.float32) for value in values]
        return values

    session.run = trapped
    return session


def trapped(provider, called):
    class Chaos(provider):
        name = called

        def open(self, model, device, options):
            return trap(super().open(model, device, options))

    return Chaos()


@hookimpl
def edged_execution_providers():
    from edged_onnxruntime.provider import OnnxRuntime

    if not os.environ.get("EDGED_TEST_MIXED"):
        return [trapped(OnnxRuntime, "chaos")]
    from edged_openvino.provider import OpenVino
    from edged_tflite.provider import LiteRt

    mixed = {"chaos": OnnxRuntime, "chaos-openvino": OpenVino, "chaos-tflite": LiteRt}
    return [trapped(provider, called) for called, provider in mixed.items()]
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the plugin part of the environment of processes started from now on."""
    distribution.write(folder, "chaos", PLUGIN)
    distribution.add_to_path(folder, monkeypatch)
