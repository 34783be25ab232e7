"""PulseAudio, or PipeWire in its place: which sources it has, and which one feeds us.

PortAudio sees a sound server as one device, is moved from one microphone to another without a word,
and gives an array's channels in another order, or as silence. So a server's sources are recorded by
libpulse itself (`pulse`), and watched by pulsectl.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

RETRY_SECONDS = 0.5
"""Between two tries to reach a server"""
LOOK_SECONDS = 2.0
"""Between two looks while it tells of nothing new"""
NO_SOURCES = {"auto_null.monitor"}
"""What a server has while it has none"""


class ServerSource(msgspec.Struct, frozen=True):
    """One source of a sound server."""

    name: str
    """The server's own, which stays the same"""
    label: str
    rate: int
    """Hertz"""
    channels: tuple[str, ...]
    """What the server calls them: front-left, aux3"""
    muted: bool
    hardware: tuple[int, int] | None
    """Card and device of ALSA behind it"""


class View(msgspec.Struct, frozen=True):
    """What a sound server offers at a moment."""

    reachable: bool
    sources: tuple[ServerSource, ...] = ()
    default: str | None = None
    """Name of the source that is taken if none is asked for"""
    feeding: str | None = None
    """Name of the source that this process records"""

    def source(self, name: str) -> ServerSource | None:
        return next((source for source in self.sources if source.name == name), None)


class SoundServer:
    """Watches the sound server from a thread: one that is frozen answers nothing at all."""

    def __init__(self) -> None:
        self.view: View | None = None
        """None until it has answered, or there is none"""
        self._preferred = os.environ.get("PULSE_SOURCE")
        self._known = threading.Event()
        threading.Thread(target=self._run, name="sound server", daemon=True).start()

    def wait(self, seconds: float) -> View | None:
        """The first answer; None if it takes longer."""
        self._known.wait(seconds)
        return self.view

    def _run(self) -> None:
        try:
            import pulsectl
            from pulsectl._pulsectl import LibPulse
        except OSError:  # libpulse is not installed, and so no server
            return self._see(View(False))
        pulsectl.PulseSourceInfo._init_from_struct = _keep_rate
        gone = (pulsectl.PulseError, pulsectl.PulseDisconnected, LibPulse.CallError)
        while True:
            with contextlib.suppress(*gone), _connected(pulsectl) as pulse:
                self._follow(pulsectl, pulse)
            self._see(View(False))
            time.sleep(RETRY_SECONDS)

    def _see(self, view: View) -> None:
        self.view = view
        self._known.set()

    def _follow(self, pulsectl: Any, pulse: Any) -> None:
        """Look again with every event. Ends with an exception when the server has gone."""
        news = threading.Event()

        def changed(_event: Any) -> None:
            news.set()
            raise pulsectl.PulseLoopStop

        pulse.event_callback_set(changed)
        pulse.event_mask_set("server", "source", "source_output")
        while True:
            news.clear()
            self._see(self._look(pulse))
            if not news.is_set():
                pulse.event_listen(LOOK_SECONDS)

    def _look(self, pulse: Any) -> View:
        found = {source.index: source for source in pulse.source_list()}
        server = pulse.server_info()
        here = server.host_name == platform.node()
        sources = [_source(one, here) for one in found.values() if one.name not in NO_SOURCES]
        default = self._preferred or server.default_source_name
        return View(True, tuple(sources), default, _feeding(pulse, found))


@contextlib.contextmanager
def _connected(pulsectl: Any) -> Iterator[Any]:
    pulse = pulsectl.Pulse("edged", connect=False)
    try:
        pulse.connect(autospawn=False)
        yield pulse
    finally:
        pulse.close()


def _keep_rate(source: Any, struct: Any) -> None:
    """pulsectl's own hook for more fields. The `sample_spec` that it hands out lies in memory that
    libpulse has freed by then."""
    source.rate = int(struct.sample_spec.rate)


def _source(found: Any, here: bool) -> ServerSource:
    """`here`: whether the server is on this machine, and its cards are ours."""
    card, device = (found.proplist.get(f"alsa.{key}") for key in ("card", "device"))
    return ServerSource(
        name=found.name,
        label=found.description or found.name,
        rate=found.rate,
        channels=tuple(found.channel_list),
        muted=bool(found.mute),
        hardware=(int(card), int(device)) if here and _are_numbers(card, device) else None,
    )


def _are_numbers(*texts: str | None) -> bool:
    return all(text is not None and text.isdecimal() for text in texts)


def _feeding(pulse: Any, sources: dict[int, Any]) -> str | None:
    ours = str(os.getpid())
    for output in pulse.source_output_list():
        if output.proplist.get("application.process.id") == ours and output.source in sources:
            return str(sources[output.source].name)
    return None
