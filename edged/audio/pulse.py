"""The sound of one source of a sound server, by libpulse.

Not by its simple half, which hands each block from a thread of its own to ours, and cannot be told
that larger ones will do: waking up is most of what listening to a silent room costs.
"""

from __future__ import annotations

import ctypes
import time
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from typing import Any

from edged.errors import DeviceError, MissingLibraryError

_FLOAT32 = 5
_AS_SERVER_LIKES = 2**32 - 1
_NO_AUTOSPAWN, _ADJUST_LATENCY = 0x1, 0x2000
_CONTEXT_READY, _CONTEXT_ENDED = 4, (5, 6)
_STREAM_READY, _STREAM_ENDED = 2, (3, 4)


class _Spec(ctypes.Structure):
    _fields_ = (("format", c_int), ("rate", c_uint32), ("channels", ctypes.c_uint8))


class _ChannelMap(ctypes.Structure):
    _fields_ = (("channels", ctypes.c_uint8), ("map", c_int * 32))


class _Buffer(ctypes.Structure):
    _fields_ = tuple(
        (name, c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize")
    )


_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "pa_strerror": (c_char_p, (c_int,)),
    "pa_channel_map_parse": (c_void_p, (c_void_p, c_char_p)),
    "pa_mainloop_new": (c_void_p, ()),
    "pa_mainloop_get_api": (c_void_p, (c_void_p,)),
    "pa_mainloop_iterate": (c_int, (c_void_p, c_int, c_void_p)),
    "pa_mainloop_free": (None, (c_void_p,)),
    "pa_context_new": (c_void_p, (c_void_p, c_char_p)),
    "pa_context_connect": (c_int, (c_void_p, c_char_p, c_int, c_void_p)),
    "pa_context_get_state": (c_int, (c_void_p,)),
    "pa_context_errno": (c_int, (c_void_p,)),
    "pa_context_disconnect": (None, (c_void_p,)),
    "pa_context_unref": (None, (c_void_p,)),
    "pa_stream_new": (c_void_p, (c_void_p, c_char_p, c_void_p, c_void_p)),
    "pa_stream_connect_record": (c_int, (c_void_p, c_char_p, c_void_p, c_int)),
    "pa_stream_get_state": (c_int, (c_void_p,)),
    "pa_stream_readable_size": (c_size_t, (c_void_p,)),
    "pa_stream_peek": (c_int, (c_void_p, POINTER(c_void_p), POINTER(c_size_t))),
    "pa_stream_drop": (c_int, (c_void_p,)),
    "pa_stream_set_buffer_attr": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "pa_stream_unref": (None, (c_void_p,)),
    "pa_operation_unref": (None, (c_void_p,)),
}


class Recorder:
    """Sound of one source. Blocks whoever reads, for ever if the server is frozen. Its methods are
    for one thread."""

    def __init__(self, source: str, rate: int, channels: tuple[str, ...], frames: int) -> None:
        """Frames of `channels` (names of the server's) at `rate` hertz, about `frames` at a time:
        what the source has not as it is, the server makes of it. Raises DeviceError and
        MissingLibraryError."""
        self._pulse = _library()
        self.frame_bytes = 4 * len(channels)
        self._rate = rate
        self.frames = self._asked = frames
        """How many are wished at a time; may be changed"""
        self._got = 0
        """How many the server gave last"""
        self._rested_at = 0.0
        """When we last let it gather, by the monotonic clock, in seconds"""
        self._loop = self._pulse.pa_mainloop_new()
        api = self._pulse.pa_mainloop_get_api(self._loop)
        self._context = self._pulse.pa_context_new(api, b"edged")
        self._stream: int | None = None
        self._held = False
        """Whether a block is in our hands"""
        try:
            self._connect()
            self._open(source, rate, channels)
        except DeviceError as error:
            self.close()
            raise DeviceError(f"{source} cannot be opened: {error}", code="device_busy") from None

    def _connect(self) -> None:
        pulse = self._pulse
        if pulse.pa_context_connect(self._context, None, _NO_AUTOSPAWN, None) < 0:
            raise DeviceError(self._why())
        while (state := pulse.pa_context_get_state(self._context)) != _CONTEXT_READY:
            if state in _CONTEXT_ENDED or self._turn() < 0:
                raise DeviceError(self._why())

    def _open(self, source: str, rate: int, channels: tuple[str, ...]) -> None:
        pulse = self._pulse
        spec, layout = _Spec(_FLOAT32, rate, len(channels)), _ChannelMap()
        pulse.pa_channel_map_parse(byref(layout), ",".join(channels).encode())
        self._stream = pulse.pa_stream_new(self._context, b"microphone", byref(spec), byref(layout))
        wish = self._wish()
        if not self._stream or pulse.pa_stream_connect_record(
            self._stream, source.encode(), byref(wish), _ADJUST_LATENCY
        ):
            raise DeviceError(self._why())
        while (state := pulse.pa_stream_get_state(self._stream)) != _STREAM_READY:
            if state in _STREAM_ENDED or self._turn() < 0:
                raise DeviceError(self._why())

    def read(self) -> memoryview | None:
        """The next block, of whole frames, valid until the one after it is read; None when there
        will be none."""
        self._drop()
        if self.frames != self._asked:
            self._ask()
        data, size = c_void_p(), c_size_t()
        while self._pulse.pa_stream_get_state(self._stream) == _STREAM_READY:
            if self._pulse.pa_stream_peek(self._stream, byref(data), byref(size)) < 0:
                return None
            if size.value:
                self._held = True
                self._got = size.value // self.frame_bytes
                return _block(data.value, size.value)
            if not self._await():
                return None
        return None

    def _await(self) -> bool:
        """Take in what lies there, or else wait for more; whether it may go on."""
        taken = self._turn(wait=False)
        if taken != 0:
            return taken > 0
        self._rest()
        return self._turn() >= 0

    def _rest(self) -> None:
        """Let a server that sends less at a time than was wished gather so much: waking up twice
        for each piece, once for its head, is most of what they cost."""
        if self._got < self._asked:
            due = self._rested_at + self._asked / self._rate
            time.sleep(max(0.0, due - time.monotonic()))
            self._rested_at = time.monotonic()

    def _drop(self) -> None:
        if self._held:
            self._pulse.pa_stream_drop(self._stream)
            self._held = False

    def _ask(self) -> None:
        """Have the server gather so much before it sends it; not every server does."""
        self._asked = self.frames
        wish = self._wish()
        operation = self._pulse.pa_stream_set_buffer_attr(self._stream, byref(wish), None, None)
        if operation:
            self._pulse.pa_operation_unref(operation)

    def _wish(self) -> _Buffer:
        return _Buffer(*[_AS_SERVER_LIKES] * 4, self._asked * self.frame_bytes)

    def _turn(self, wait: bool = True) -> int:
        """Do what the server asks; how many things it asked, less than 0 once it is over."""
        return int(self._pulse.pa_mainloop_iterate(self._loop, wait, None))

    def _why(self) -> str:
        text: bytes = self._pulse.pa_strerror(self._pulse.pa_context_errno(self._context))
        return text.decode("utf-8", "replace")

    def close(self) -> None:
        """Let the source go. Nothing may be read afterwards."""
        if self._stream:
            self._pulse.pa_stream_unref(self._stream)
        self._pulse.pa_context_disconnect(self._context)
        self._pulse.pa_context_unref(self._context)
        self._pulse.pa_mainloop_free(self._loop)


def _block(address: int | None, size: int) -> memoryview:
    """The server's memory, or silence for a hole: there it has lost something."""
    if address is None:
        return memoryview(bytes(size))
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _library() -> Any:
    """libpulse. Raises MissingLibraryError."""
    try:
        pulse = ctypes.CDLL("libpulse.so.0")
    except OSError as error:
        raise MissingLibraryError(
            f"The sound server's library is not installed ({error}). "
            "Run: sudo apt-get install libpulse0"
        ) from error
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(pulse, name)
        function.restype, function.argtypes = result, arguments
    return pulse
