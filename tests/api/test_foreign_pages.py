"""What pages of others get from us, in a real browser: nothing.

A page on another origin asks by every way that HTML has; another has pointed its own name at this
machine (DNS rebinding). What each saw is looked at, and what the daemon did. The same page, its
origin allowed, shows that the tries are good ones.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from wyoming.client import AsyncClient
from wyoming.ping import Ping

from tests.api.browser import Browser
from tests.api.http import ask
from tests.conftest import GUESTS, TINY
from tests.daemon import DaemonProcess

Open = Callable[[str], Browser]
Outcomes = dict[str, str]
ATTACK = (Path(__file__).parent / "attack.js").read_text("utf-8")
EVIL, FRIEND = "evil.test", "friend.test"
PAGES = ["/", "/edged.js", "/docs", "/openapi.json", "/asyncapi.json"]
"""What the reference does not name"""
HARMLESS = [("GET", "/v1/health"), ("GET", "/v1/transcripts"), ("POST", "/v1/microphone")]
HARMLESS += [("GET", "/v1/transcripts/events")]
"""What a page that is let in tries"""
SOCKETS = ["/v1/stream", "/v1/transcripts", "/v1/realtime"]
REFUSED = {"TypeError", "opaque", "error", "unreadable", "nothing", "sent", "closed 1006"}
"""What is nothing: no answer, or one that the browser keeps from the page"""


class _Page(BaseHTTPRequestHandler):
    """An empty page, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>page</title>")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def page_port() -> Iterator[int]:
    """A web server of somebody else's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, recording: Path, page_port: int
) -> Iterator[DaemonProcess]:
    """Has heard somebody, speaks every protocol, and allows one page."""
    flags = ("--model", TINY, "--source", f"fast:{recording}")
    allowed = json.dumps([f"http://{FRIEND}:{page_port}"])
    settings = {**GUESTS, "server_allowed_origins": allowed}
    started = DaemonProcess(tmp_path_factory.mktemp("daemon"), flags, settings)
    started.wait_ready()
    started.wait(lambda: started.get("/v1/transcripts")[1]["transcripts"])
    yield started
    assert started.stop() == 0


@pytest.fixture
def browse(tmp_path: Path, recording: Path) -> Iterator[Open]:
    if reason := Browser.missing():
        pytest.skip(reason)
    browsers: list[Browser] = []

    def start(url: str) -> Browser:
        rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP {FRIEND} 127.0.0.1"
        folder = tmp_path / f"browser{len(browsers)}"
        browsers.append(Browser(folder, recording, url, rules))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


def attack(
    page: Browser, daemon: DaemonProcess, calls: list[tuple[str, str]], name: str = "127.0.0.1"
) -> Outcomes:
    """Every try, at the daemon by a name of its."""
    guests = [daemon.guest(protocol).rsplit(":", 1)[1] for protocol in ("vosk", "sherpa")]
    wyoming = daemon.guest("wyoming").rsplit(":", 1)[1]
    targets = {
        "calls": [
            *([method, f"http://{name}:{daemon.port}{path}"] for method, path in calls),
            *(["GET", f"http://{name}:{port}/"] for port in guests),
        ],
        "sockets": [
            *(f"ws://{name}:{daemon.port}{path}" for path in SOCKETS),
            *(f"ws://{name}:{port}/" for port in guests),
        ],
        "ports": [f"http://{name}:{wyoming}/"],
    }
    outcomes: Outcomes = page.run(f"({ATTACK})({json.dumps(targets)})")
    return outcomes


def all_calls(daemon: DaemonProcess) -> list[tuple[str, str]]:
    """Whatever can be asked for."""
    paths = ask(daemon, "/openapi.json").json["paths"]
    return [
        *(("GET", page) for page in PAGES),
        *((method.upper(), path) for path, methods in paths.items() for method in methods),
    ]


def untouched(daemon: DaemonProcess) -> None:
    """Nothing that a page tried had an effect."""
    health = daemon.get("/v1/health")[1]
    assert not health["microphone"]["muted"]
    assert {entry["stream"] for entry in daemon.get("/v1/transcripts")[1]["transcripts"]} == {
        "microphone"
    }
    with connect(daemon.ws("/v1/stream")) as websocket:
        assert json.loads(websocket.recv())["stream"] == "stream-1", "none was opened before"
    assert not [line for line in daemon.log.read_text().splitlines() if "ERROR" in line]
    metrics = ask(daemon, "/metrics").text
    assert not re.search(r'cause="(asked|pinned)"\} [1-9]', metrics), "the engine was moved"
    [clients] = re.findall(r"^edged_clients (\d+)", metrics, re.MULTILINE)
    assert int(clients) <= 1, "a connection to Wyoming's port that a browser holds for a while"


async def ping(daemon: DaemonProcess) -> str:
    async with AsyncClient.from_uri(daemon.guest("wyoming")) as client:
        await client.write_event(Ping("still there?").event())
        event = await client.read_event()
        assert event is not None
        return event.type


def test_pages_of_other_origins_and_rebound_names_get_nothing(
    daemon: DaemonProcess, page_port: int, browse: Open
) -> None:
    calls = all_calls(daemon)
    elsewhere = attack(browse(f"http://{EVIL}:{page_port}/"), daemon, calls)
    same_machine = attack(browse(f"http://127.0.0.1:{page_port}/"), daemon, calls)
    rebound = attack(browse(f"http://{EVIL}:{daemon.port}/"), daemon, calls, EVIL)
    for outcomes in (elsewhere, same_machine):
        assert len(outcomes) > 100
        assert {name: got for name, got in outcomes.items() if got not in REFUSED} == {}
    seen = {name: got for name, got in rebound.items() if got not in REFUSED}
    assert seen, "of its own origin it may read the refusal"
    assert {name: got for name, got in seen.items() if '"unknown_host"' not in got} == {}
    untouched(daemon)
    assert asyncio.run(ping(daemon)) == "pong"

    friend = browse(f"http://{FRIEND}:{page_port}/")
    let_in(attack(friend, daemon, HARMLESS), daemon)


def let_in(outcomes: Outcomes, daemon: DaemonProcess) -> None:
    """The tries succeed where they may."""
    here = f"127.0.0.1:{daemon.port}"
    assert outcomes[f"fetch GET http://{here}/v1/health"].startswith('200 {"live":true')
    assert "best of times" in outcomes[f"fetch GET http://{here}/v1/transcripts"]
    assert outcomes[f"events http://{here}/v1/transcripts/events"] in {"open", "hello"}
    for path in SOCKETS[:2]:
        assert outcomes[f"socket ws://{here}{path}"] == "open"
    assert outcomes[f"socket ws://{here}/v1/realtime realtime"] == "open"
    for protocol in ("vosk", "sherpa"):
        assert outcomes[f"socket {daemon.guest(protocol)}/"] == "open"
    assert daemon.get("/v1/health")[1]["microphone"]["muted"]
