"""Wyoming: events as lines of JSON with audio behind them, over TCP or a Unix socket."""

from edged.api.wyoming.listener import Listener

__all__ = ["Listener"]
