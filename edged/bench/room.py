"""Where a measurement takes place: an installed edged, a model, recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from edged.bench.client import exchange
from edged.bench.clips import Clip
from edged.bench.daemon import NOTHING, DaemonProcess, Installation, running
from edged.messages import Rung


@dataclass(frozen=True)
class Room:
    """Of one round."""

    installation: Installation
    rung: Rung
    """What serves when nothing is in the way"""
    clips: Sequence[Clip]
    """All"""
    spoken: Sequence[Clip]
    """Those that are heard at the pace of time: that takes long"""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of every daemon that is started, as environment variables without their prefix"""

    def running(
        self,
        settings: Mapping[str, object] = NOTHING,
        source: Sequence[str] = ("--no-microphone",),
    ) -> AbstractContextManager[DaemonProcess]:
        """A daemon of its own for each measurement: none finds what another left behind."""
        merged = {**self.settings, **settings}
        return running(self.rung.model, merged, source, self.installation)

    def warm(self, daemon: DaemonProcess) -> None:
        """Let it hear a recording that does not count."""
        exchange(daemon.url, self.clips[0].samples, partials=False)
