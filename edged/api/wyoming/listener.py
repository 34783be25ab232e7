"""Wyoming's sockets."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from edged.activation import Sockets, local
from edged.api.intake import attendance
from edged.api.server import SHUTDOWN_SECONDS, address, listen_unix, tcp_sockets
from edged.api.wyoming.frame import HEADER_BYTES
from edged.api.wyoming.session import Session
from edged.config import is_loopback
from edged.daemon import Daemon
from edged.errors import EngineError
from edged.log import get_logger

log = get_logger(__name__)


class Listener:
    """Serves Wyoming on TCP and, if configured, on a Unix socket."""

    def __init__(self, daemon: Daemon, passed: Sockets = ()) -> None:
        """Bind, but for what systemd has bound. Raises PortInUseError, and ConfigurationError
        without the package for zeroconf."""
        self._daemon = daemon
        self._section = daemon.configuration.wyoming
        self._host = daemon.configuration.server.host
        if self._announces:
            from edged.api.wyoming import announcement

            announcement.require()
        self._tcp = tcp_sockets(passed, self._host, self._section.port, "wyoming.port")
        self.port: int = self._tcp[0].getsockname()[1]
        self._unix = local(passed)
        self._unix_path: Path | None = None
        path = Path(self._section.unix_socket) if self._section.unix_socket else None
        if path and not self._unix and (unix := listen_unix(path)):
            self._unix = [unix]
            self._unix_path = path
        self._stopping = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()

    @property
    def _announces(self) -> bool:
        return self._section.zeroconf and not is_loopback(self._host)

    async def serve(self) -> None:
        """Serve until `stop`."""
        servers = [
            await asyncio.start_server(self._meet, sock=sock, limit=HEADER_BYTES)
            for sock in self._tcp
        ]
        servers += [
            await asyncio.start_unix_server(self._meet, sock=sock, limit=HEADER_BYTES)
            for sock in self._unix
        ]
        unix = "".join(f" and {sock.getsockname()}" for sock in self._unix)
        log.info("listening on tcp://%s%s for clients of wyoming", self._address, unix)
        try:
            async with self._announced():
                await self._stopping.wait()
        finally:
            for server in servers:
                server.close()
            await self._end_sessions()
            if self._unix_path:
                self._unix_path.unlink(missing_ok=True)

    def stop(self) -> None:
        self._stopping.set()

    @property
    def _address(self) -> str:
        return address(self._host, self.port)

    def _announced(self) -> contextlib.AbstractAsyncContextManager[None]:
        if not self._announces:
            return contextlib.nullcontext()
        from edged.api.wyoming import announcement

        return announcement.announced(self._host, self.port)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._sessions.add(task)
        try:
            await self._speak(Session(self._daemon, reader, writer))
        finally:
            await _close(writer)
            self._sessions.discard(task)

    async def _speak(self, session: Session) -> None:
        try:
            with attendance(self._daemon):
                await session.run()
        except EngineError as error:
            await session.refuse(error)

    async def _end_sessions(self) -> None:
        """They end by themselves when the daemon stops; who does not in time is cut off."""
        if self._sessions:
            _, late = await asyncio.wait(self._sessions, timeout=SHUTDOWN_SECONDS)
            for session in late:
                session.cancel()


async def _close(writer: asyncio.StreamWriter) -> None:
    """Hang up once the client has read all, or has had the time for it."""
    writer.close()
    try:
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
    except OSError:
        pass  # it was gone before
