"""Who may come in: Host, Origin, token, sizes and numbers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect, unix_connect

from edged.api.access import AccessControl, is_loopback
from edged.config import ServerSection
from tests.api.conftest import Shared
from tests.api.http import ask, form
from tests.daemon import DaemonProcess

FOREIGN = [
    "evil.example",
    "evil.example:7333",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "192.168.1.5",
    "0.0.0.0",
    "[::1",
    "",
]
OURS = ["localhost", "LocalHost:7333", "127.0.0.1", "127.0.0.1:1", "[::1]:7333"]
WEBSOCKETS = ["/v1/stream", "/v1/transcripts"]


def handshake(daemon: DaemonProcess, path: str, *, host: str | None = None, **more: Any) -> int:
    """The status that a WebSocket's handshake is answered with."""
    with socket.create_connection(("127.0.0.1", daemon.port)) as sock:
        try:
            with connect(f"ws://{host or f'127.0.0.1:{daemon.port}'}{path}", sock=sock, **more):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code


def goodbye(websocket: ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """The events to the end of a connection, and its close code."""
    events = []
    try:
        while True:
            events.append(json.loads(websocket.recv(timeout=30)))
    except ConnectionClosed:
        return events, websocket.close_code


# -- Host ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", FOREIGN)
def test_a_request_that_calls_this_machine_by_a_foreign_name_is_refused(
    daemon: DaemonProcess, host: str
) -> None:
    answer = ask(daemon, "/v1/health", headers={"Host": host})
    assert (answer.status, answer.kind) == (403, "application/problem+json")
    assert answer.json["code"] == "unknown_host"
    assert answer.json["status"] == 403


@pytest.mark.parametrize("host", OURS)
def test_a_request_that_calls_this_machine_by_its_name_is_answered(
    daemon: DaemonProcess, host: str
) -> None:
    assert ask(daemon, "/v1/health", headers={"Host": host}).status == 200


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_a_websocket_by_a_foreign_name_is_refused_in_its_handshake(
    daemon: DaemonProcess, path: str
) -> None:
    assert handshake(daemon, path, host="evil.example") == 403
    assert handshake(daemon, path, host="localhost") == 101


def test_a_name_that_is_rebound_to_loopback_does_not_get_in(daemon: DaemonProcess) -> None:
    """DNS rebinding: the page's Host and Origin agree, and both are its own."""
    page = f"rebound.example:{daemon.port}"
    answer = ask(daemon, "/v1/health", headers={"Host": page, "Origin": f"http://{page}"})
    assert answer.status == 403
    assert handshake(daemon, "/v1/transcripts", host=page, origin=f"http://{page}") == 403


def test_the_refusal_of_a_websocket_is_a_problem_too(daemon: DaemonProcess) -> None:
    with (
        socket.create_connection(("127.0.0.1", daemon.port)) as sock,
        pytest.raises(InvalidStatus) as refused,
        connect("ws://evil.example/v1/stream", sock=sock),
    ):
        pass
    assert json.loads(refused.value.response.body)["code"] == "unknown_host"


def test_every_path_is_guarded(daemon: DaemonProcess) -> None:
    for path in ("/", "/openapi.json", "/dashboard.js", "/v1/nothing", "/v1/transcripts/events"):
        assert ask(daemon, path, headers={"Host": "evil.example"}).status == 403


# -- Origin -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://localhost.evil.example",
        "null",
        "",
        "http://[",
        "file://",
        "http://127.0.0.1:1",
    ],
)
def test_pages_of_others_are_refused(daemon: DaemonProcess, origin: str) -> None:
    answer = ask(daemon, "/v1/health", headers={"Origin": origin})
    assert (answer.status, answer.kind) == (403, "application/problem+json")
    assert answer.json["code"] == "unknown_origin"
    assert handshake(daemon, "/v1/stream", additional_headers={"Origin": origin}) == 403


def test_our_own_page_may_connect(daemon: DaemonProcess) -> None:
    assert ask(daemon, "/v1/health", headers={"Origin": daemon.url}).status == 200
    assert handshake(daemon, "/v1/transcripts", origin=daemon.url) == 101


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text("secret\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def guarded(shared_daemon: Shared, token_file: Path) -> DaemonProcess:
    """A daemon that other machines reach, with a token, an allowed origin and an allowed host."""
    return shared_daemon(
        "--no-microphone",
        server_host="0.0.0.0",
        server_token_file=token_file,
        server_allowed_origins='["http://robot.example"]',
        server_allowed_hosts='["robot.example"]',
    )


def test_an_allowed_origin_may_connect_and_read(guarded: DaemonProcess) -> None:
    origin = "http://robot.example"
    answer = ask(guarded, "/v1/health", headers={"Origin": origin})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert handshake(guarded, "/v1/transcripts", origin=origin) == 101
    other = ask(guarded, "/v1/health", headers={"Origin": "http://other.example"})
    assert other.status == 403


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/microphone"), ("DELETE", "/v1/transcripts")]
)
def test_an_allowed_origin_may_ask_before_it_sends_a_token(
    guarded: DaemonProcess, method: str, path: str
) -> None:
    headers = {
        "Origin": "http://robot.example",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answer = ask(guarded, path, method="OPTIONS", headers=headers)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://robot.example"


def test_an_allowed_host_is_a_name_of_ours(guarded: DaemonProcess) -> None:
    assert ask(guarded, "/v1/health", headers={"Host": "robot.example:80"}).status == 200
    assert ask(guarded, "/v1/health", headers={"Host": "evil.example"}).status == 403


# -- token --------------------------------------------------------------------------------------


def test_it_refuses_to_listen_off_loopback_without_a_token(tmp_path: Path) -> None:
    folders = {f"EDGED_{name}_DIR": str(tmp_path) for name in ("STATE", "RUNTIME", "CONFIG")}
    command = [sys.executable, "-m", "edged", "run", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(
        [*command, "--no-microphone"],
        env=os.environ | folders,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "server.token_file" in line
    assert not done.stdout


def own_address() -> str:
    """An address of this machine that is not loopback's; skips where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # chooses an interface, sends nothing
        except OSError:
            pytest.skip("this machine has no network interface")
        return str(sock.getsockname()[0])


def test_over_the_network_nothing_is_answered_without_the_token(guarded: DaemonProcess) -> None:
    address = own_address()
    for method, path in (("GET", "/v1/health"), ("DELETE", "/v1/transcripts?since=0")):
        answer = ask(guarded, path, method=method, address=address)
        assert (answer.status, answer.json["code"]) == (401, "token_required")
    token = {"Authorization": "Bearer secret"}
    assert ask(guarded, "/v1/health", address=address, headers=token).status == 200
    url = f"ws://{address}:{guarded.port}/v1/stream"
    with pytest.raises(InvalidStatus), connect(url):
        pass
    with connect(url + "?access_token=secret") as websocket:
        assert json.loads(websocket.recv())["type"] == "hello"
    url = f"ws://{address}:{guarded.port}/v1/realtime"
    for key in ("secret2", ""):
        wrong: Any = ["realtime", f"openai-insecure-api-key.{key}"]
        with pytest.raises(InvalidStatus), connect(url, subprotocols=wrong):
            pass
    right: Any = ["realtime", "openai-insecure-api-key.secret"]
    with connect(url, subprotocols=right) as websocket:
        assert json.loads(websocket.recv())["type"] == "session.created"


def test_the_page_comes_without_the_token_to_ask_for_it(guarded: DaemonProcess) -> None:
    address = own_address()
    for path in ("/", "/dashboard.js", "/edged.js"):
        assert ask(guarded, path, address=address).status == 200
        assert ask(guarded, path, address=address, method="POST").status == 401
        foreign = {"Host": "evil.example"}
        assert ask(guarded, path, address=address, headers=foreign).status == 403
    for path in ("/openapi.json", "/index.html", "//", "/../", "/dashboard.js/"):
        assert ask(guarded, path, address=address).status == 401


def passes(
    *,
    peer: str | None,
    token: str | None = "secret",
    query: str = "",
    kind: str = "http",
    server: tuple[str, int | None] = ("192.0.2.7", 7333),
    method: str = "GET",
    **headers: str,
) -> int:
    """The status that the middleware lets an application answer, or answers itself."""
    section = ServerSection(host="0.0.0.0", allowed_hosts=["robot.example"])
    daemon: Any = SimpleNamespace(configuration=SimpleNamespace(server=section), token=token)
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": method,
        "path": "/v1/health",
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in ({"host": "192.0.2.7:7333"} | headers).items()
        ],
        "client": (peer, 5000) if peer else None,
        "server": server,
        "extensions": {"websocket.http.response": {}},
    }
    asyncio.run(AccessControl(application, daemon)(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_peer_from_elsewhere_needs_the_token(kind: str) -> None:
    assert passes(peer="192.0.2.9", kind=kind) == 401
    assert passes(peer="192.0.2.9", kind=kind, authorization="Bearer secret") == 200
    assert passes(peer="192.0.2.9", kind=kind, query="words=1&access_token=secret") == 200


@pytest.mark.parametrize(
    "value",
    ["Bearer", "Bearer ", "Bearer Secret", "Bearer secret2", "Bearer secre", "Basic secret", "é"],
)
def test_a_wrong_token_is_no_token(value: str) -> None:
    assert passes(peer="192.0.2.9", authorization=value) == 401


def test_the_scheme_of_the_token_may_be_written_in_any_case() -> None:
    assert passes(peer="192.0.2.9", authorization="bearer secret") == 200


def test_a_browser_that_asks_for_a_page_we_trust_needs_no_token() -> None:
    ask_first = {"method": "OPTIONS", "access_control_request_method": "GET"}
    assert passes(peer="192.0.2.9", origin="http://192.0.2.7:7333", **ask_first) == 200
    assert passes(peer="192.0.2.9", origin="http://evil.example", **ask_first) == 403
    assert passes(peer="192.0.2.9", **ask_first) == 401
    assert passes(peer="192.0.2.9", origin="http://192.0.2.7:7333", method="OPTIONS") == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_a_page_elsewhere_embeds_is_refused_and_a_link_is_not(site: str) -> None:
    """Browsers send no Origin with an image, a script or a frame."""
    for kind in ("image", "script", "iframe", "object", "empty"):
        assert passes(peer="127.0.0.1", sec_fetch_site=site, sec_fetch_dest=kind) == 403
    assert passes(peer="127.0.0.1", sec_fetch_site=site, sec_fetch_dest="document") == 200
    assert passes(peer="127.0.0.1", sec_fetch_site="same-origin", sec_fetch_dest="empty") == 200


def test_a_peer_on_this_machine_needs_no_token() -> None:
    assert passes(peer="127.0.0.1") == 200
    assert passes(peer="::1") == 200


def test_a_peer_that_nothing_is_known_of_needs_the_token() -> None:
    assert passes(peer=None) == 401


def test_without_a_token_nobody_else_gets_in() -> None:
    """A reload can take the token away while the socket is still open to the network."""
    assert passes(peer="192.0.2.9", token=None) == 401
    assert passes(peer="127.0.0.1", token=None) == 200


def test_a_peer_of_the_unix_socket_needs_neither_token_nor_name() -> None:
    assert passes(peer=None, server=("/run/edged/edged.sock", None), host="evil.example") == 200


def test_off_loopback_an_address_is_trusted_and_a_strange_name_is_not() -> None:
    assert passes(peer="127.0.0.1", host="10.1.2.3:7333") == 200
    assert passes(peer="127.0.0.1", host=socket.gethostname()) == 200
    assert passes(peer="127.0.0.1", host="evil.example") == 403


def test_loopback_is_known_by_every_name() -> None:
    assert all(is_loopback(name) for name in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(name) for name in ("0.0.0.0", "::", "10.0.0.1", "edged.local", ""))


# -- Unix socket --------------------------------------------------------------------------------


def test_the_unix_socket_takes_any_host(guarded: DaemonProcess) -> None:
    answer = ask(guarded, "/v1/health", unix=True, headers={"Host": "anything.example"})
    assert answer.status == 200
    with unix_connect(str(guarded.unix_socket), "ws://anything.example/v1/stream") as websocket:
        assert json.loads(websocket.recv())["type"] == "hello"


def test_the_unix_socket_is_for_its_user_and_group(guarded: DaemonProcess) -> None:
    assert guarded.unix_socket.stat().st_mode & 0o777 == 0o660


# -- sizes and numbers --------------------------------------------------------------------------

LIMIT = 4096


@pytest.fixture(scope="module")
def narrow(shared_daemon: Shared) -> DaemonProcess:
    """A daemon with small limits."""
    return shared_daemon(
        "--no-microphone",
        server_max_body_bytes=LIMIT,
        server_max_message_bytes=LIMIT,
        server_max_clients=3,
        server_max_streams=1,
    )


def long_order(size: int) -> bytes:
    """Valid JSON of `size` bytes."""
    return b'{"muted": false' + b" " * (size - 16) + b"}"


JSON = {"Content-Type": "application/json"}


def test_a_body_that_announces_too_much_is_refused(narrow: DaemonProcess) -> None:
    order = long_order(LIMIT + 1)
    answer = ask(narrow, "/v1/microphone", method="POST", headers=JSON, body=order)
    assert (answer.status, answer.kind) == (413, "application/problem+json")
    assert answer.json["code"] == "body_too_large"


def test_a_body_that_grows_too_large_is_refused(narrow: DaemonProcess) -> None:
    pieces = iter([long_order(LIMIT + 1)[:LIMIT], b" }"])
    answer = ask(narrow, "/v1/microphone", method="POST", headers=JSON, body=pieces)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


def test_a_body_at_the_limit_is_taken(narrow: DaemonProcess) -> None:
    order = long_order(LIMIT)
    assert ask(narrow, "/v1/microphone", method="POST", headers=JSON, body=order).status == 200
    pieces = iter([order[:100], order[100:]])
    assert ask(narrow, "/v1/microphone", method="POST", headers=JSON, body=pieces).status == 200


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_that_is_too_large_is_refused_as_openai_would(
    narrow: DaemonProcess, announced: bool
) -> None:
    upload = form(b"RIFF" + bytes(LIMIT))
    if not announced:
        whole = upload["body"]
        upload["body"] = iter([whole[:1000], whole[1000:]])
    answer = ask(narrow, "/v1/audio/transcriptions", method="POST", **upload)
    assert answer.status == 413
    assert answer.json["error"]["code"] == "body_too_large"


def test_a_message_that_is_too_large_ends_the_connection(narrow: DaemonProcess) -> None:
    with connect(narrow.ws("/v1/stream")) as websocket:
        websocket.recv()
        websocket.send(bytes(LIMIT))
        websocket.send('{"type": "nothing"}')
        assert json.loads(websocket.recv())["code"] == "bad_message", "the first one was taken"
        websocket.send(bytes(LIMIT + 1))
        assert goodbye(websocket) == ([], 1009)


def until_free(daemon: DaemonProcess) -> None:
    """Wait until nobody has a place any more."""
    places = {"edged_clients 0.0", "edged_streams 0.0"}
    daemon.wait(lambda: places <= set(ask(daemon, "/metrics").text.splitlines()))


def test_one_client_too_many_is_told_so(narrow: DaemonProcess) -> None:
    until_free(narrow)
    url = narrow.ws("/v1/transcripts")
    with connect(url) as first, connect(url) as second, connect(url) as third:
        for websocket in (first, second, third):
            assert json.loads(websocket.recv())["type"] == "hello"
        with connect(url) as fourth:
            [error], code = goodbye(fourth)
        assert (error["type"], error["code"], error["fatal"]) == ("error", "too_many_clients", True)
        assert code == 1013
        answer = ask(narrow, "/v1/transcripts/events")
        assert (answer.status, answer.json["code"]) == (503, "too_many_clients")
    until_free(narrow)


def test_one_stream_too_many_is_told_so(narrow: DaemonProcess) -> None:
    until_free(narrow)
    with connect(narrow.ws("/v1/stream")) as first:
        assert json.loads(first.recv())["type"] == "hello"
        with connect(narrow.ws("/v1/stream")) as second:
            [error], code = goodbye(second)
        assert (error["type"], error["code"], error["fatal"]) == ("error", "too_many_clients", True)
        assert code == 1013
    until_free(narrow)
