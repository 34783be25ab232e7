"""The daemon as a service: what it tells its manager, and the sockets that it is given."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from edged.client.requests import Address
from tests.conftest import TINY
from tests.daemon import DaemonProcess
from tests.manager import Manager

Sockets = Mapping[str, Sequence[socket.socket]]
Start = Callable[..., tuple[DaemonProcess, Manager]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the daemon as a service: with a manager, sockets by name and a watchdog in seconds."""
    started: list[tuple[DaemonProcess, Manager, Sockets]] = []

    def start(
        *flags: str,
        sockets: Sockets | None = None,
        watchdog: float | None = None,
        **settings: object,
    ) -> tuple[DaemonProcess, Manager]:
        manager = Manager(tmp_path)
        folder = tmp_path / "daemon"
        launcher = manager.launcher(sockets or {}, watchdog)
        flags = ("--no-microphone", "--model", TINY, *flags)
        daemon = DaemonProcess(folder, flags, settings, launcher)
        started.append((daemon, manager, sockets or {}))
        return daemon, manager

    yield start
    for daemon, manager, given in started:
        daemon.stop()
        manager.close()
        for sock in (sock for group in given.values() for sock in group):
            sock.close()


def tcp(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0))


def unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    return sock


def edged(daemon: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as that daemon's user would."""
    return subprocess.run(
        [sys.executable, "-m", "edged", *arguments],
        env={**os.environ, "EDGED_RUNTIME_DIR": str(daemon.folder)},
        capture_output=True,
        text=True,
        check=False,
    )


# -- notifications --------------------------------------------------------------------------------


def test_it_says_when_it_is_ready_what_runs_that_it_reloads_and_that_it_stops(start: Start) -> None:
    daemon, manager = start(watchdog=2)
    assert int(manager.wait("EXTEND_TIMEOUT_USEC")) > 60_000_000
    manager.wait("READY")
    assert daemon.get("/v1/health")[1]["ready"], "ready means that clients are served"
    assert manager.told("STATUS")[-1] == f"{TINY} int8 on onnxruntime cpu"
    manager.wait("WATCHDOG", count=3, seconds=10)

    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.process.send_signal(signal.SIGHUP)
    told = int(manager.wait("MONOTONIC_USEC", seconds=10))
    assert before < told < time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.wait("READY", count=2, seconds=10)

    daemon.worker().kill()
    manager.wait("STATUS", count=len(manager.told("STATUS")) + 1, seconds=10)
    daemon.wait(lambda: "no engine" in " ".join(manager.told("STATUS")))
    daemon.wait(lambda: manager.told("STATUS")[-1] == f"{TINY} int8 on onnxruntime cpu")

    assert daemon.stop() == 0
    assert manager.told("STOPPING") == ["1"]
    assert manager.senders == {daemon.pid}, "systemd takes it from the main process only"


def test_a_command_reloads_it_and_says_what_needs_a_restart(start: Start) -> None:
    daemon, manager = start(sockets={"wyoming": [tcp()], "": [tcp()]})
    manager.wait("READY")
    for name in ("wyoming", "unknown"):
        assert f"systemd listens for {name}, which nobody serves" in daemon.log.read_text()
    file = daemon.folder / "edged.toml"
    file.write_text("[server]\nmax_message_bytes = 4096\n")
    done = edged(daemon, "reload")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "server.max_message_bytes changes with the next start, not now\n"
    assert len(manager.told("RELOADING")) == 1
    file.write_text("[server]\nprot = 1\n")
    done = edged(daemon, "reload")
    assert done.returncode == 1
    assert f"{file}, line 2: server.prot: unknown key" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    manager.wait("READY", count=3, seconds=10)
    assert daemon.get("/v1/health")[1]["ready"]


def test_without_a_daemon_reload_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edged", "reload", "--url", f"unix:{tmp_path}/none"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No daemon answers" in done.stderr
    assert "edged run" in done.stderr


def test_an_engine_that_cannot_run_is_said_and_is_no_reason_to_start_anew(start: Start) -> None:
    daemon, manager = start(engine_device="nowhere", engine_fallback="fail")
    manager.wait("READY")
    assert "no engine; engine: onnxruntime has no device nowhere" in manager.told("STATUS")[-1]
    assert daemon.get("/v1/health")[0] == 503


# -- sockets --------------------------------------------------------------------------------------


def sockets_of(process: psutil.Process) -> set[str]:
    """The sockets that a process holds: socket:[inode]"""
    found = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has been closed meanwhile
            found.add(str(link.readlink()))
    return {target for target in found if target.startswith("socket:")}


def test_it_serves_on_the_sockets_that_it_is_given(start: Start, tmp_path: Path) -> None:
    http, local, wyoming = tcp(), unix(tmp_path / "http.sock"), tcp()
    given = {"http": [http, local], "wyoming": [wyoming]}
    daemon, manager = start(sockets=given, wyoming_enabled=1)
    # Whoever connects before it runs is answered when it does.
    address = f"http://127.0.0.1:{http.getsockname()[1]}/openapi.json"
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert answer.status == 200
    manager.wait("READY")
    assert daemon.port == http.getsockname()[1]
    assert Address(f"unix:{tmp_path}/http.sock").get("/v1/health")["ready"]
    assert not daemon.unix_socket.exists()
    with socket.create_connection(wyoming.getsockname(), timeout=30) as client:
        client.sendall(b'{"type": "describe"}\n')
        assert json.loads(client.makefile().readline())["type"] == "info"
    assert "port 10300 is not used: systemd's socket unit listens on" in daemon.log.read_text()

    inode = str(Path(f"/proc/self/fd/{http.fileno()}").readlink())
    assert inode in sockets_of(psutil.Process(daemon.pid))
    for child in psutil.Process(daemon.pid).children(recursive=True):
        assert inode not in sockets_of(child), "no child inherits it"
        assert not {name for name in child.environ() if name.startswith("LISTEN_")}

    assert daemon.stop() == 0
    for sock in (http, wyoming):  # systemd goes on to take connections meanwhile
        socket.create_connection(sock.getsockname(), timeout=5).close()


def test_a_given_socket_must_not_reach_further_than_the_configuration(start: Start) -> None:
    daemon, _ = start(sockets={"http": [tcp("0.0.0.0")]})
    assert daemon.process.wait(30) == 2
    [line] = daemon.log.read_text().splitlines()
    assert "systemd listens on 0.0.0.0 for http" in line
    assert "ListenStream=" in line
