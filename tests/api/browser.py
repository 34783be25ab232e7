"""A headless Chromium that is told what to run, by its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 60.0


class Browser:
    """One page; its microphone hears a recording, again and again."""

    def __init__(self, folder: Path, microphone: Path, url: str) -> None:
        assert PROGRAM is not None
        folder.mkdir()
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--remote-debugging-port=0",
                f"--user-data-dir={folder}", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required",
                f"--use-file-for-fake-audio-capture={microphone}", url,
            ],
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        self._open = ExitStack()
        page = connect(self._page_address(folder), max_size=None)
        self._page = self._open.enter_context(page)
        self._number = 0
        self.wait("location.protocol === 'http:' && document.readyState === 'complete'")

    @staticmethod
    def missing() -> str | None:
        """Why there can be no browser here."""
        return None if PROGRAM else "chromium is not installed"

    def _page_address(self, folder: Path) -> str:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                port = (folder / "DevToolsActivePort").read_text().split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                    pages = [page for page in json.load(answer) if page["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            except (OSError, IndexError):
                pass
            time.sleep(0.05)
        raise RuntimeError((folder / "log").read_text())

    def run(self, code: str) -> Any:
        """The value of an expression, awaited. Fails with what it throws."""
        self._number += 1
        parameters = {"expression": code, "awaitPromise": True, "returnByValue": True}
        parameters["userGesture"] = True
        order = {"id": self._number, "method": "Runtime.evaluate", "params": parameters}
        self._page.send(json.dumps(order))
        while (answer := json.loads(self._page.recv(SECONDS))).get("id") != self._number:
            pass
        fault = answer["result"].get("exceptionDetails")
        assert not fault, fault.get("exception", fault)
        return answer["result"]["result"].get("value")

    def wait(self, code: str, seconds: float = SECONDS) -> Any:
        """The value of an expression, once it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(code)):
            assert time.monotonic() < deadline, code
            time.sleep(0.05)
        return value

    def close(self) -> None:
        self._open.close()
        self._process.kill()
        self._process.wait()
        self._log.close()
