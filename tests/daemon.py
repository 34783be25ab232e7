"""A daemon for tests: the real command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from typing import Any

import psutil

from edged.bench import daemon
from edged.errors import EdgedError


class DaemonProcess(daemon.DaemonProcess):
    """`edged run` on a free port, with folders of its own, and what a test asks it."""

    def _failed(self, what: str) -> EdgedError:
        return EdgedError(f"The daemon {what}. Its log:\n{self.log.read_text()}")

    def stop(self) -> int:
        """As above; what it said goes beside the failure of a test that wants another exit code."""
        if code := super().stop():
            print(f"The daemon left with exit code {code}. Its log:\n{self.log.read_text()}")
        return code

    def ws(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def guest(self, protocol: str) -> str:
        """The address of another protocol's server, likewise: ws://... or tcp://..."""
        for line in self.log.read_text().splitlines():
            if "listening on " in line and line.endswith(f" for clients of {protocol}"):
                return line.split("listening on ")[1].split()[0]
        raise self._failed("is not listening yet")

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
