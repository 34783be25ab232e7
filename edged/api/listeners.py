"""Every socket that clients come in by: our own server, and those that are switched on beside it.

What is not switched on is not imported.
"""

from __future__ import annotations

from typing import Protocol

from edged.api.app import create_app
from edged.api.server import HttpServer
from edged.daemon import Daemon


class Listener(Protocol):
    """Sockets that are bound, and served until `stop`."""

    async def serve(self) -> None:
        """Serve; returns once stopped, when every connection is closed."""

    def stop(self) -> None:
        """Take no more clients, and let go of those that are there."""


def open_listeners(daemon: Daemon) -> list[Listener]:
    """Bind everything that is configured. Raises PortInUseError and ConfigurationError."""
    configuration = daemon.configuration
    listeners: list[Listener] = [HttpServer(configuration.server, create_app(daemon))]
    if configuration.vosk.enabled:
        from edged.api import vosk

        listeners.append(vosk.listen(daemon))
    if configuration.sherpa.enabled:
        from edged.api import sherpa

        listeners.append(sherpa.listen(daemon))
    if configuration.wyoming.enabled:
        from edged.api import wyoming

        listeners.append(wyoming.Listener(daemon))
    return listeners
