"""A hub on this machine: serves a folder over HTTP with ranges, and fails where it is told to."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it serves, what it does wrong, and what was asked of it."""

    folder: Path
    address: str = ""
    breaks_after: list[int] = field(default_factory=list)
    """For each of the next answers with a file, the bytes after which it breaks off"""
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Paths and ranges"""
    redirects: dict[str, str] = field(default_factory=dict)

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"

    def repository(self) -> dict[str, Any]:
        """As Hugging Face describes one whose files lie in `folder`: .onnx in LFS, the rest not."""
        return {
            "sha": COMMIT,
            "siblings": [_sibling(path, self.folder) for path in sorted(self.folder.rglob("*.*"))],
            "cardData": {"license": "apache-2.0", "language": "en"},
        }


def _sibling(path: Path, folder: Path) -> dict[str, Any]:
    data = path.read_bytes()
    git = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
    lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    entry = {"rfilename": str(path.relative_to(folder)), "size": len(data), "blobId": git}
    return {**entry, "lfs": lfs} if path.suffix == ".onnx" else entry


@contextmanager
def serve(folder: Path) -> Iterator[Hub]:
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, hub)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    path, _, _ = request.path.partition("?")
    wanted = request.headers.get("Range")
    hub.asked.append((path, wanted))
    if path in hub.redirects:
        request.send_response(302)
        request.send_header("Location", hub.redirects[path])
        request.end_headers()
    elif path == f"/api/models/owner/tiny/revision/{COMMIT[:7]}":
        _send(request, json.dumps(hub.repository()).encode(), 200)
    elif (file := hub.folder / _name(path)).is_file():
        _send_file(request, hub, file.read_bytes(), wanted)
    else:
        request.send_error(404)


def _name(path: str) -> str:
    return path.removeprefix(f"/owner/tiny/resolve/{COMMIT}").lstrip("/")


def _send_file(request: BaseHTTPRequestHandler, hub: Hub, data: bytes, wanted: str | None) -> None:
    mark = f'"{hashlib.md5(data).hexdigest()}"'
    start = 0
    if wanted and hub.ranges and request.headers.get("If-Range") == mark:
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
    sent = hub.breaks_after.pop(0) if hub.breaks_after else None
    _send(request, data[start:], 206 if start else 200, {"ETag": mark}, sent)


def _send(
    request: BaseHTTPRequestHandler,
    data: bytes,
    status: int,
    headers: dict[str, str] | None = None,
    sent: int | None = None,
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(data)))
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data[:sent])
    if sent is not None:
        request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True
