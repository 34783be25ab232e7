"""Sockets and the HTTP server on them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from edged import paths
from edged.activation import Sockets, internet, local
from edged.config import ServerSection
from edged.errors import PortInUseError
from edged.log import get_logger

log = get_logger(__name__)

SHUTDOWN_SECONDS = 3
TICK_SECONDS = 1.0
KEEPALIVE_SECONDS = 30
UNREAD_SECONDS = 30
"""A client that takes nothing of what it is sent for so long is cut off by the system"""
SOCKET_NAME = "edged.sock"


def _is_news(record: logging.LogRecord) -> bool:
    """Whether uvicorn tells of something wrong: it calls a WebSocket refused by an answer an error,
    and any page could fill the log with that."""
    return record.msg != "ASGI callable returned without completing handshake."


class _Server(uvicorn.Server):
    """uvicorn, with the signals left to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Until `stop`, with the Date header set anew each second: ten ticks a second, as there
        would be, are a fifth of what a quiet stream costs."""
        self._stopping = asyncio.Event()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopping.wait()

    def stop(self) -> None:
        self.should_exit = True
        if hasattr(self, "_stopping"):
            self._stopping.set()


class _WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's, which at the end says goodbye to a client that has said it before and only takes
    what was left: the library calls that an InvalidState, and the end would stop there."""

    def shutdown(self) -> None:
        if self.conn.state in {State.CONNECTING, State.OPEN}:
            super().shutdown()


class HttpServer:
    """Serves an application on TCP and on a Unix socket."""

    def __init__(self, section: ServerSection, app: ASGIApp, passed: Sockets = ()) -> None:
        """Bind, but for what systemd has bound. Raises PortInUseError."""
        self._bind(section, app, "--port", passed)
        self._unix_path: Path | None = None
        path = None if local(passed) else _unix_path(section)
        if path and (unix := listen_unix(path)):
            self._sockets.append(unix)
            self._unix_path = path

    def _bind(self, section: ServerSection, app: ASGIApp, setting: str, passed: Sockets) -> None:
        self._section, self._app = section, app
        tcp = tcp_sockets(passed, section.host, section.port, setting)
        self._host, self.port = tcp[0].getsockname()[:2]
        self._sockets = [*tcp, *local(passed)]

    @property
    def url(self) -> str:
        return f"http://{address(self._host, self.port)}"

    async def serve(self) -> None:
        """Serve until `stop`."""
        configuration = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            ws=_WebSocket,
            ws_max_size=self._section.max_message_bytes,
            ws_per_message_deflate=False,
            # A client that is made to wait answers a ping only after all it has sent before;
            # TCP's own keepalive finds those that are gone.
            ws_ping_timeout=None,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            backlog=128,
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        self._server = _Server(configuration)
        unix = "".join(f" and {sock.getsockname()}" for sock in local(self._sockets))
        log.info("listening on %s%s", self.url, unix)
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            if self._unix_path:
                self._unix_path.unlink(missing_ok=True)

    async def started(self) -> None:
        """Wait until connections are answered."""
        while not (hasattr(self, "_server") and self._server.started):
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        self._server.stop()


class GuestServer(HttpServer):
    """Serves the WebSockets of another project's protocol, on a TCP port of its own."""

    def __init__(
        self,
        section: ServerSection,
        app: ASGIApp,
        port: int,
        protocol: str,
        passed: Sockets = (),
    ) -> None:
        """Bind, but for what systemd has bound; `protocol` is a section of the configuration.
        Raises PortInUseError."""
        section = section.model_copy(update={"port": port})
        self._bind(section, app, f"{protocol}.port", passed)
        self._unix_path = None
        self._protocol = protocol

    @property
    def url(self) -> str:
        return f"ws://{address(self._host, self.port)} for clients of {self._protocol}"


def address(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def tcp_sockets(passed: Sockets, host: str, port: int, setting: str) -> list[socket.socket]:
    """Those that systemd listens on, else one of our own. Raises PortInUseError."""
    sockets = internet(passed)
    if not sockets:
        return [listen_tcp(host, port, setting)]
    ports = {sock.getsockname()[1] for sock in sockets}
    if port not in {0, *ports}:
        log.warning("port %d is not used: systemd's socket unit listens on %s", port, ports)
    for sock in sockets:
        _keep_alive(sock)
    return sockets


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS * 1000)


def listen_tcp(host: str, port: int, setting: str) -> socket.socket:
    """Listen on a port, which `setting` changes. Raises PortInUseError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _keep_alive(sock)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise PortInUseError(
            f"Cannot listen on {host} port {port} ({error.strerror}). "
            f"Another edged may be running; else choose another port with {setting}"
        ) from error
    sock.listen(128)
    sock.setblocking(False)
    return sock


def _unix_path(section: ServerSection) -> Path | None:
    if section.unix_socket == "auto":
        return paths.runtime_directory() / SOCKET_NAME
    return Path(section.unix_socket) if section.unix_socket else None


def listen_unix(path: Path) -> socket.socket | None:
    """Listen on a path, for this user and group; None, with a log line, where that cannot be."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if _is_stale(path):
            path.unlink()
        before = os.umask(0o117)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        sock.listen(128)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        log.warning("there is no Unix socket at %s: %s", path, error.strerror)
        return None
    return sock


def _is_stale(path: Path) -> bool:
    """Whether a socket lies there that nobody listens on."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False
