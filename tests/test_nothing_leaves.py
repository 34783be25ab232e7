"""Nothing leaves the machine: the system calls of the daemon and all its processes are watched."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import paths
from tests.client import recognize, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess
from tests.wire_tap import WireTap, tap

RATE = 16000
Start = Callable[..., DaemonProcess]
CI = ("CI", "TF_BUILD", "JENKINS_URL")
"""Where these are set, some telemetry is silent"""
PLANTED = {
    "a connection": "socket.socket().connect_ex(('192.0.2.1', 443))",
    "one by IPv6": "socket.socket(socket.AF_INET6).connect_ex(('2001:db8::1', 443))",
    "a datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'said', ('192.0.2.1', 9))",
    "a name": "socket.getaddrinfo('telemetry.example', 443)",
}


@pytest.fixture
def wire(tmp_path: Path) -> WireTap:
    return tap(tmp_path)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where nobody has opted in or out of anything."""
    monkeypatch.setenv("EDGED_CACHE_DIR", str(paths.cache_directory()))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*CI, "DO_NOT_TRACK", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(tmp_path: Path, wire: WireTap, fresh: None) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(*flags: str, **settings: object) -> DaemonProcess:
            daemon = DaemonProcess(tmp_path / "daemon", flags, settings, (wire.command, ()))
            stack.callback(daemon.stop)
            daemon.wait_ready()
            return daemon

        yield start


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_what_a_grandchild_sends_would_be_seen(wire: WireTap, planted: str) -> None:
    child = f"import socket; socket.setdefaulttimeout(0.2); {planted}"
    parent = f"import subprocess, sys; subprocess.call([sys.executable, '-c', {child!r}])"
    environment = {**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"}
    subprocess.run(
        [*wire.command, sys.executable, "-c", parent],
        env=environment,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert wire.beyond()


def test_what_stays_here_is_not_taken_for_it(wire: WireTap) -> None:
    code = (
        "import socket; one = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(one.getsockname()); "
        "two = socket.create_server(('::1', 0), family=socket.AF_INET6); "
        "socket.create_connection(two.getsockname()[:2])"
    )
    subprocess.run([*wire.command, sys.executable, "-c", code], check=True, timeout=60)
    assert len([line for line in wire.lines() if "connect(" in line]) == 2
    assert not wire.beyond()


@pytest.mark.parametrize(
    "provider", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.long)]
)
def test_the_daemon_sends_nothing_beyond_this_machine(
    start: Start, wire: WireTap, speech: np.ndarray, provider: str
) -> None:
    """With every provider asked for its devices, and one that recognises."""
    pytest.importorskip(provider)
    daemon = start(
        "--no-microphone", "--model", TINY, engine_provider=provider, engine_precision="int8"
    )
    assert texts(recognize(daemon.url, speech[: 4 * RATE]))
    usable = {p["name"] for p in daemon.get("/v1/plugins")[1]["providers"] if not p["error"]}
    assert provider in usable
    assert daemon.get("/v1/health")[1]["engine"]["effective"]["provider"] == provider
    worker = daemon.worker().pid
    assert daemon.stop() == 0
    watched = {int(line.split()[0]) for line in wire.lines()}
    assert {daemon.pid, worker} <= watched
    assert not wire.beyond()


@pytest.mark.long
def test_nor_does_it_with_tflite(
    static_cache: Path,
    start: Start,
    wire: WireTap,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(static_cache))
    daemon = start("--no-microphone", "--model", TINY, engine_provider="tflite")
    assert texts(recognize(daemon.url, speech[: 8 * RATE]))
    assert daemon.stop() == 0
    assert not wire.beyond()


def test_openvinos_reports_are_switched_off(fresh: None, tmp_path: Path) -> None:
    """They are sent by its import, and an identity of the machine is kept in its user's home."""
    pytest.importorskip("openvino")
    code = "import edged, openvino.tools.ovc.telemetry_utils as used; print(used.tm.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"
    assert not (tmp_path / "intel").exists()
