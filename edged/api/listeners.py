"""Every socket that clients come in by: our own server, and those that are switched on beside it.

What is not switched on is not imported.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Protocol

from edged.activation import Passed
from edged.api.app import create_app
from edged.api.server import HttpServer
from edged.config import Configuration
from edged.daemon import Daemon
from edged.log import get_logger

log = get_logger(__name__)


class Listener(Protocol):
    """Sockets that are bound, and served until `stop`."""

    async def serve(self) -> None:
        """Serve; returns once stopped, when every connection is closed."""

    def stop(self) -> None:
        """Take no more clients, and let go of those that are there."""


def open_listeners(daemon: Daemon, passed: Passed = MappingProxyType({})) -> list[Listener]:
    """Bind everything that is configured, but for what systemd has bound. Raises PortInUseError and
    ConfigurationError."""
    configuration = daemon.configuration
    _warn_of_unused(passed, configuration)
    http = HttpServer(configuration.server, create_app(daemon), passed.get("http", ()))
    listeners: list[Listener] = [http]
    if configuration.vosk.enabled:
        from edged.api import vosk

        listeners.append(vosk.listen(daemon, passed.get("vosk", ())))
    if configuration.sherpa.enabled:
        from edged.api import sherpa

        listeners.append(sherpa.listen(daemon, passed.get("sherpa", ())))
    if configuration.wyoming.enabled:
        from edged.api import wyoming

        listeners.append(wyoming.Listener(daemon, passed.get("wyoming", ())))
    return listeners


def _warn_of_unused(passed: Passed, configuration: Configuration) -> None:
    """Whoever connects to a socket that nobody serves waits for ever."""
    guests = ("vosk", "sherpa", "wyoming")
    served = {"http", *(name for name in guests if getattr(configuration, name).enabled)}
    for name in passed.keys() - served:
        log.error(
            "systemd listens for %s, which nobody serves: switch it on ([%s] enabled = true), or "
            "have the socket unit say FileDescriptorName=http, vosk, sherpa or wyoming",
            name,
            name,
        )
