"""A headless Chromium that is told what to run, by its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
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


class RefusedError(Exception):
    """The browser could not do it: there is no page yet, or it has just gone."""


class Browser:
    """One page; its microphone hears a recording, again and again."""

    def __init__(self, folder: Path, microphone: Path, url: str, *flags: str) -> None:
        assert PROGRAM is not None
        folder.mkdir()
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--remote-debugging-port=0",
                f"--user-data-dir={folder}", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream", "--autoplay-policy=no-user-gesture-required",
                f"--use-file-for-fake-audio-capture={microphone}", *flags,
                "about:blank",
            ],
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        self._open = ExitStack()
        page = connect(self._page_address(folder), max_size=None, ping_interval=None)
        self._page = self._open.enter_context(page)
        self._number = 0
        self.requested: list[str] = []
        """Addresses that the page has asked for"""
        self.faults: list[str] = []
        """What it has thrown, and where it went against its policy"""
        for domain in ("Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.open(url)

    def open(self, url: str) -> None:
        """Go to a page; what was noted of the last one is forgotten."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.protocol === 'about:'")
        self.requested.clear()
        self.faults.clear()
        if url != "about:blank":
            self.call("Page.navigate", url=url)
            self.wait("location.protocol !== 'about:' && document.readyState === 'complete'")

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

    def call(self, method: str, **parameters: Any) -> Any:
        """The answer to an order of the DevTools protocol."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        self._page.send(json.dumps(order))
        while (answer := json.loads(self._page.recv(SECONDS))).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["result"]

    def _note(self, event: dict[str, Any]) -> None:
        """Something that happened in the page."""
        told = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])
            case "Network.webSocketCreated":
                self.requested.append(told["url"])
            case "Runtime.exceptionThrown":
                self.faults.append(str(told["exceptionDetails"]))
            case "Log.entryAdded" if told["entry"]["source"] in {"security", "violation", "other"}:
                self.faults.append(told["entry"]["text"])

    def run(self, code: str) -> Any:
        """The value of an expression, awaited. Fails with what it throws."""
        parameters = {"expression": code, "awaitPromise": True, "returnByValue": True}
        result = self.call("Runtime.evaluate", userGesture=True, **parameters)
        fault = result.get("exceptionDetails")
        assert not fault, fault.get("exception", fault)
        return result["result"].get("value")

    def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Show the page on such a screen, in pixels of CSS."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def photograph(self, path: Path) -> None:
        """A picture of what is seen, as PNG."""
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture))

    def press(self, key: str) -> None:
        """One key, by its name: Tab, Enter, a."""
        for kind in ("keyDown", "keyUp"):
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                text=text,
                windowsVirtualKeyCode={"Tab": 9, "Enter": 13, "Escape": 27}.get(key, 0),
            )

    def wait(self, code: str, seconds: float = SECONDS) -> Any:
        """The value of an expression, once it is true."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(RefusedError):
                if value := self.run(code):
                    return value
            assert time.monotonic() < deadline, code
            time.sleep(0.05)

    def close(self) -> None:
        self._open.close()
        self._process.kill()
        self._process.wait()
        self._log.close()
