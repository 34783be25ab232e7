"""The capture process: one audio source, written to the ring, and nothing else.

    python -m edged.audio.capture --socket FD --ring FD --source SOURCE ...

A process of its own because PortAudio freezes its device list when it starts, and because a device
that vanished can hang it for ever: killing a process always works. It leaves when its source is
lost; the daemon starts another.

Sources: `auto` or a microphone's identity, `program:COMMAND` (anything that writes PCM to stdout),
`file:PATH` (at the pace of time), `fast:PATH` (as fast as it is recognised), `SCHEME:ADDRESS` of a
plugin's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from edged import channel
from edged.audio.devices import find_input, list_inputs, portaudio
from edged.audio.ring import SAMPLE_BYTES, AudioRing
from edged.errors import EdgedError
from edged.messages import (
    Allow,
    Beat,
    Captured,
    CaptureReport,
    Ended,
    Lost,
    Message,
    Mute,
    Opened,
    Waiting,
    decode_capture_command,
    encode,
)
from edged.source import AudioSource

SAMPLE_RATE = 16000
BLOCK_SECONDS = 0.032
"""One window of the voice detector: fewer wake-ups would make text later, more cost power"""
STALL_SECONDS = 0.5
"""Silence of a device after which it is lost: PortAudio does not say so itself"""
BEAT_SECONDS = 1.0
"""Time between two signs of life"""
SMALLEST_GAP = SAMPLE_RATE // 10
"""Samples; shorter ones are jitter"""


class Output:
    """Writes blocks to the ring and tells the daemon; keeps muted and missed audio out."""

    def __init__(self, sock: socket.socket, ring: AudioRing, position: int, clock: float) -> None:
        self._socket = sock
        self._ring = ring
        self.position = position
        self._clock = clock
        """When the last sample was written; 0 before the first"""
        self._muted = False
        self._resumed = "device_lost"
        """Why the next block may be late"""
        self._lock = threading.Lock()
        self.last_block = time.monotonic()

    def write(self, block: Any) -> None:
        """Take a bytes-like block of float32 mono at 16 kHz that ends now."""
        now = time.monotonic()
        self.last_block = now
        with self._lock:
            if self._muted:
                return
            if self._clock:
                self._close_gap(now - memoryview(block).nbytes / SAMPLE_BYTES / SAMPLE_RATE)
            self.position = self._ring.write(self.position, block)
            self._clock = now
        self._count(Captured(self.position, now))

    def write_at_will(self, block: Any) -> None:
        """Take a block of a source that is not bound to time."""
        if self._muted:
            return
        self.position = self._ring.write(self.position, block)
        self._count(Captured(self.position, time.monotonic()))

    def _close_gap(self, begin: float) -> None:
        """Leave room for the time in which nothing was captured, if there was any."""
        if not self._resumed:
            return
        missing = round((begin - self._clock) * SAMPLE_RATE)
        if missing >= SMALLEST_GAP:
            start = self.position
            self.position = self._silence(start + missing)
            self.send(Lost(start, self.position, self._resumed))
        self._resumed = ""

    def _silence(self, position: int) -> int:
        """Zeros before `position`, so that the detector's context holds nothing old."""
        zeros = bytes(512 * SAMPLE_BYTES)
        return self._ring.write(position - 512, zeros)

    def mute(self, muted: bool) -> None:
        """Stop or resume writing; what is said meanwhile never reaches the ring."""
        with self._lock:
            if muted and not self._muted and not self._clock:
                self._clock = time.monotonic()
            self._muted = muted
            self._resumed = "muted"

    def send(self, message: Message) -> None:
        self._socket.send(encode(message))

    def _count(self, message: Captured) -> None:
        """A count that the daemon is too busy to take is made up for by the next."""
        with contextlib.suppress(BlockingIOError):
            self._socket.send(encode(message), socket.MSG_DONTWAIT)


class Source:
    """Where audio comes from. Runs until it is lost or at its end."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self.options = options
        self.output = output
        self.done: Message | None = None
        """Why it is over"""

    def start(self) -> None:
        """Begin to deliver. Raises EdgedError when it cannot."""
        raise NotImplementedError

    def check(self) -> None:
        """Look whether it still delivers; called ten times a second."""

    def allow(self, until: int) -> None:
        """A source that is not bound to time may write up to here."""


class Microphone(Source):
    """A device of PortAudio's."""

    def start(self) -> None:
        sd = portaudio()
        device = find_input(self.options.source, list_inputs())
        rate, channels, self._mixer = _layout(sd, device, self.options.channel)
        self._channels = channels
        callback = self._mixed if self._mixer else self._direct
        try:
            self._stream = sd.RawInputStream(
                device=device.index,
                samplerate=rate,
                channels=channels,
                dtype="float32",
                blocksize=round(rate * BLOCK_SECONDS),
                latency="low",
                callback=callback,
                finished_callback=self._finished,
            )
            self._stream.start()
        except sd.PortAudioError as error:
            raise EdgedError(
                f"{device.label} cannot be opened: {error}", code="device_busy"
            ) from error
        self.output.send(Opened(device.identity, device.label, rate, channels))

    def _direct(self, block: Any, frames: int, when: Any, status: Any) -> None:
        self.output.write(block)

    def _mixed(self, block: Any, frames: int, when: Any, status: Any) -> None:
        import numpy as np

        samples = np.frombuffer(block, np.float32).reshape(-1, self._channels)
        mixed = self._mixer.feed(samples)
        if len(mixed):
            self.output.write(mixed)

    def _finished(self) -> None:
        self.done = Waiting("device_lost", "the sound system ended the stream")

    def check(self) -> None:
        if time.monotonic() - self.output.last_block > STALL_SECONDS:
            self.done = Waiting("device_lost", "the device delivers nothing")


def _layout(sd: Any, device: Any, channel: int | None) -> tuple[int, int, Any]:
    """Rate and channels to open with, and the mixer that makes 16 kHz mono of them."""
    if channel is None:
        with contextlib.suppress(sd.PortAudioError):
            sd.check_input_settings(device.index, 1, "float32", None, SAMPLE_RATE)
            return SAMPLE_RATE, 1, None
    from edged.audio.pcm import Mixer

    channels = min(device.channels, 32)
    return device.rate, channels, Mixer(device.rate, channels, channel)


class Program(Source):
    """Any program that writes PCM to its standard output."""

    def start(self) -> None:
        from edged.audio.pcm import PcmConverter, PcmFormat

        options = self.options
        layout = PcmFormat(options.rate, options.encoding, options.channels)
        self._converter = PcmConverter(layout, options.channel)
        command = options.source.partition(":")[2]
        self._process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE)  # noqa: S602
        self._read_bytes = layout.frame_bytes * round(options.rate * BLOCK_SECONDS)
        self.output.send(Opened(f"program:{command}", command, options.rate, options.channels))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        while data := self._process.stdout.read(self._read_bytes):
            samples = self._converter.feed(data)
            if len(samples):
                self.output.write(samples)
        code = self._process.wait()
        if code:
            self.done = Waiting("program_failed", f"the program left with exit code {code}")
        else:
            self.done = Ended(self.output.position)


class Recording(Source):
    """A sound file, played as a microphone would hear it, or as fast as it is taken."""

    def start(self) -> None:
        from edged.audio.files import open_recording

        kind, _, path = self.options.source.partition(":")
        self._fast = kind == "fast"
        self._allowed = threading.Condition()
        self._until = 0
        blocks = open_recording(path)
        self.output.send(Opened(self.options.source, path, SAMPLE_RATE, 1))
        threading.Thread(target=self._play, args=(blocks,), daemon=True).start()

    def _play(self, blocks: Iterator[Any]) -> None:
        started = time.monotonic()
        played = 0
        try:
            for block in blocks:
                for piece in _pieces(block, round(SAMPLE_RATE * BLOCK_SECONDS)):
                    played += len(piece)
                    self._deliver(piece, started + played / SAMPLE_RATE)
        except EdgedError as error:  # damaged: what came before it was heard
            sys.stderr.write(f"{error.message}\n")
        self.done = Ended(self.output.position)

    def _deliver(self, piece: Any, due: float) -> None:
        if self._fast:
            with self._allowed:
                self._allowed.wait_for(lambda: self.output.position + len(piece) <= self._until)
            self.output.write_at_will(piece)
        else:
            time.sleep(max(0.0, due - time.monotonic()))
            self.output.write(piece)

    def allow(self, until: int) -> None:
        with self._allowed:
            self._until = until
            self._allowed.notify()


def _pieces(block: Any, size: int) -> Iterator[Any]:
    for first in range(0, len(block), size):
        yield block[first : first + size]


class Plugged(Source):
    """A source that a plugin brings."""

    def __init__(
        self, options: argparse.Namespace, output: Output, kind: type[AudioSource]
    ) -> None:
        super().__init__(options, output)
        self._kind = kind

    def start(self) -> None:
        from edged.audio.pcm import Mixer

        try:
            self._source = self._kind(self.options.source.partition(":")[2])
        except Exception as error:
            raise _of_stranger(error) from error
        rate, channels = self._source.rate, self._source.channels
        self._mixer = Mixer(rate, channels, self.options.channel)
        label = self._source.label or self.options.source
        self.output.send(Opened(self.options.source, label, rate, channels))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for block in self._source.blocks():
                self._take(block)
        except Exception as error:  # noqa: BLE001  a stranger's code
            problem = _of_stranger(error)
            self.done = Waiting(problem.code, problem.message)
        else:
            self.done = Ended(self.output.position)

    def _take(self, block: Any) -> None:
        import numpy as np

        frames = np.asarray(block, np.float32).reshape(-1, self._source.channels)
        samples = self._mixer.feed(frames)
        if len(samples):
            self.output.write(samples)


def _of_stranger(error: Exception) -> EdgedError:
    """What a plugin raised, as an error of ours."""
    if isinstance(error, EdgedError):
        return error
    return EdgedError(f"the source failed: {error!r}", code="source_failed")


OURS = {"program": Program, "file": Recording, "fast": Recording}
IDENTITIES = {"usb", "alsa", "name"}
"""What a microphone's identity begins with"""


def _source(options: argparse.Namespace, output: Output) -> Source:
    scheme, colon, _ = options.source.partition(":")
    if scheme in OURS:
        return OURS[scheme](options, output)
    if colon and scheme not in IDENTITIES:
        from edged.plugins import Plugins

        if kind := Plugins.discover().source(scheme):
            return Plugged(options, output, kind)
    return Microphone(options, output)


def _run(source: Source, connection: channel.Channel[Any]) -> CaptureReport | Message:
    """Obey the daemon until the source is over; why it is."""
    source.output.send(Beat())
    source.start()
    source.output.last_block = time.monotonic()
    beat = time.monotonic()
    while source.done is None:
        if time.monotonic() - beat > BEAT_SECONDS:
            beat = time.monotonic()
            source.output.send(Beat())
        received = connection.receive(0.1)
        if received:
            match received[0]:
                case Mute(muted=muted):
                    source.output.mute(muted)
                case Allow(until=until):
                    source.allow(until)
        source.check()
    return source.done


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edged-capture")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--ring", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--position", type=int, default=0)
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--muted", action="store_true")
    parser.add_argument("--channel", type=int)
    parser.add_argument("--rate", type=int, default=SAMPLE_RATE)
    parser.add_argument("--encoding", default="s16le")
    parser.add_argument("--channels", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=options.socket)
    connection = channel.Channel(sock, decode_capture_command)
    output = Output(sock, AudioRing(options.ring), options.position, options.clock)
    if options.muted:
        output.mute(True)
    try:
        output.send(_run(_source(options, output), connection))
    except EdgedError as error:
        output.send(Waiting(error.code, error.message))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    _end_program()
    # PortAudio may hang in its clean-up when the device is gone: do not wait for it.
    sys.stderr.flush()
    os._exit(0)


def _end_program() -> None:
    """End what a program source has started; the daemon gave us a process group of our own."""
    if os.getpgrp() == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    main()
