"""PulseAudio, or PipeWire in its place: which sources it has, which one feeds us, and their sound.

PortAudio sees a sound server as one device, is moved from one microphone to another without a word,
and gives an array's channels in another order, or as silence. So a server's sources are recorded by
libpulse itself, and watched by pulsectl.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from edged.errors import DeviceError, MissingLibraryError

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


# -- recording ------------------------------------------------------------------------------------

_RECORD, _FLOAT32 = 2, 5
_AS_SERVER_LIKES = 2**32 - 1


class _Spec(ctypes.Structure):
    _fields_ = (("format", ctypes.c_int), ("rate", ctypes.c_uint32), ("channels", ctypes.c_uint8))


class _ChannelMap(ctypes.Structure):
    _fields_ = (("channels", ctypes.c_uint8), ("map", ctypes.c_int * 32))


class _Buffer(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize")
    )


class Recorder:
    """Sound of one source. Blocks whoever reads, for ever if the server is frozen."""

    def __init__(self, source: str, rate: int, channels: tuple[str, ...], frames: int) -> None:
        """Frames of `channels` (names of the server's) at `rate` hertz, `frames` at a time: what
        the source has not as it is, the server makes of it. Raises DeviceError and
        MissingLibraryError."""
        self._pulse, self._simple = _libraries()
        spec = _Spec(_FLOAT32, rate, len(channels))
        layout = _ChannelMap()
        self._pulse.pa_channel_map_parse(ctypes.byref(layout), ",".join(channels).encode())
        self._block = (ctypes.c_char * (4 * len(channels) * frames))()
        buffer = _Buffer(*[_AS_SERVER_LIKES] * 4, len(self._block))
        self._error = ctypes.c_int()
        self._stream = self._simple.pa_simple_new(
            None, b"edged", _RECORD, source.encode(), b"microphone",
            *map(ctypes.byref, (spec, layout, buffer, self._error)),
        )  # fmt: skip
        if not self._stream:
            raise DeviceError(f"{source} cannot be opened: {self._why()}", code="device_busy")

    def read(self) -> memoryview | None:
        """The next block, valid until the one after it is read; None when there will be none."""
        size = len(self._block)
        failed = self._simple.pa_simple_read(
            self._stream, self._block, size, ctypes.byref(self._error)
        )
        return None if failed else memoryview(self._block).cast("B")

    def _why(self) -> str:
        text: bytes = self._pulse.pa_strerror(self._error)
        return text.decode("utf-8", "replace")


def _libraries() -> tuple[Any, Any]:
    """libpulse and its simple half. Raises MissingLibraryError."""
    try:
        pulse, simple = ctypes.CDLL("libpulse.so.0"), ctypes.CDLL("libpulse-simple.so.0")
    except OSError as error:
        raise MissingLibraryError(
            f"The sound server's library is not installed ({error}). "
            "Run: sudo apt-get install libpulse0"
        ) from error
    pulse.pa_strerror.restype = ctypes.c_char_p
    simple.pa_simple_new.restype = ctypes.c_void_p
    simple.pa_simple_new.argtypes = [
        *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p),
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
    ]
    simple.pa_simple_read.argtypes = [
        *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    ]
    return pulse, simple
