"""The transcript sink's contract: is told everything that is heard, as it is published.

A sink runs in a thread of its own and is never waited for: what it has no time for is dropped,
counted and logged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class TranscriptSink(ABC):
    """Somebody who wants to know what was said."""

    name: ClassVar[str]
    needs_settings: ClassVar[bool] = False
    """Whether it is opened only where the configuration has `[sinks.NAME]`"""

    @abstractmethod
    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Open it with `[sinks.NAME]` of the configuration. What raises is tried again later."""

    @abstractmethod
    def take(self, stream: str, event: dict[str, Any]) -> None:
        """One event of the microphone or of a client's stream, as clients get it (docs/api.md).

        The microphone's `hello` comes first, and again whenever something in it has changed: the
        engine, or whether it is muted.
        """

    def may_mute(self, mute: Callable[[bool], None]) -> None:  # noqa: B027  most only listen
        """Called once after opening, where `[sinks.NAME]` has `allow_commands = true`.

        `mute(True)` mutes the microphone, `mute(False)` ends that; from any thread, at any time.
        """

    def close(self) -> None:  # noqa: B027  many have nothing to close
        """edged stops; there are two seconds at the most."""
