"""A daemon for tests: the real command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

READY_SECONDS = 60.0


class DaemonProcess:
    """`edged run` on a free port, with folders of its own."""

    def __init__(
        self,
        folder: Path,
        flags: Sequence[str],
        settings: Mapping[str, object],
        launcher: tuple[Sequence[str], Sequence[int]] = ((), ()),
    ) -> None:
        """`settings` are environment variables without their prefix: server_port=1. `launcher` is
        what stands before the command, and the descriptors that it inherits."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "log"
        self.unix_socket = folder / "edged.sock"
        environment = {
            **os.environ,
            "EDGED_STATE_DIR": str(folder),
            "EDGED_RUNTIME_DIR": str(folder),
            "EDGED_CONFIG_DIR": str(folder),
        }
        environment |= {f"EDGED_{k.upper()}": str(v) for k, v in settings.items()}
        port = [] if "--port" in flags else ["--port", "0"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher[0], sys.executable, "-m", "edged", "run", *port, *flags],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=launcher[1],
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        """The TCP port, from the log's line about it."""
        for line in self.log.read_text().splitlines():
            if "listening on http://" in line:
                return int(line.split("listening on http://")[1].split()[0].rsplit(":", 1)[1])
        raise RuntimeError(f"not listening yet:\n{self.log.read_text()}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ws(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def guest(self, protocol: str) -> str:
        """The address of another protocol's server, likewise: ws://... or tcp://..."""
        for line in self.log.read_text().splitlines():
            if "listening on " in line and line.endswith(f" for clients of {protocol}"):
                return line.split("listening on ")[1].split()[0]
        raise RuntimeError(f"not listening yet:\n{self.log.read_text()}")

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and JSON of a POST of JSON."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def wait(self, condition: Any, seconds: float = READY_SECONDS) -> Any:
        """Wait until condition() is true; its value. Fails with the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError, OSError):
                if value := condition():
                    return value
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"waited in vain:\n{self.log.read_text()}")

    def wait_ready(self) -> None:
        self.wait(lambda: self.get("/v1/health")[1]["ready"])

    def child(self, module: str) -> psutil.Process | None:
        """Our child process that runs a module: edged.engine.worker, edged.audio.capture."""
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if module in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    return child
        return None

    def worker(self) -> psutil.Process:
        """The engine worker's process."""
        found: psutil.Process = self.wait(lambda: self.child("edged.engine.worker"))
        return found

    def stop(self) -> int:
        """Ask it to stop; its exit code. A daemon that does not leave is killed, and fails."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise AssertionError(f"it did not stop:\n{self.log.read_text()}") from None
        return self.process.returncode
