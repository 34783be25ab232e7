"""An HTTP client for tests that sends exactly what it is told to, over TCP or a Unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemon import DaemonProcess

SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    """By name in small letters"""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def kind(self) -> str:
        """The media type, without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def ask(
    daemon: DaemonProcess,
    path: str,
    *,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    body: Any = None,
    address: str = "127.0.0.1",
    port: int | None = None,
    unix: bool = False,
) -> Answer:
    """One request; an iterator as `body` is sent in chunks, of unannounced length."""
    if unix:
        connection: http.client.HTTPConnection = _UnixConnection(daemon.unix_socket)
    else:
        connection = http.client.HTTPConnection(address, port or daemon.port, timeout=SECONDS)
    try:
        connection.request(
            method, path, body, headers or {}, encode_chunked=isinstance(body, Iterator)
        )
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


def form(file: bytes | None, name: str = "speech.wav", **fields: str) -> dict[str, Any]:
    """`headers` and `body` of a form with a file, for `ask`."""
    boundary = "edged-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    if file is not None:
        heading = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"'
        parts.append(f"{heading}\r\n\r\n".encode() + file + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    return {
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        "body": b"".join(parts),
    }


@contextmanager
def event_stream(
    daemon: DaemonProcess, path: str, headers: dict[str, str] | None = None
) -> Iterator[Iterator[dict[str, Any]]]:
    """Server-sent events, each with its `event`, its `id` if it has one, and its data as `json`."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=SECONDS)
    try:
        connection.request("GET", path, headers=headers or {})
        with connection.getresponse() as response:
            assert response.status == 200, response.read()
            assert response.headers.get_content_type() == "text/event-stream"
            yield _server_sent(response)
    finally:
        connection.close()


def _server_sent(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in lines:
        name, colon, value = line.decode().rstrip("\n").partition(": ")
        if colon and name:
            event[name] = value
        elif not name and event:
            event["json"] = json.loads(event.pop("data"))
            yield event
            event = {}
