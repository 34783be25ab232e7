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
import os
import signal
import socket
import sys
import time
from typing import Any

from edged import channel
from edged.audio.output import Output
from edged.audio.ring import SAMPLE_RATE, AudioRing
from edged.audio.sources import Plugged, Program, Recording, Source
from edged.audio.switch import Switch
from edged.errors import EdgedError
from edged.messages import Allow, Attend, Beat, Gone, Message, Mute, Muted, decode_capture_command

BEAT_SECONDS = 1.0
"""Time between two signs of life"""
CHECK_SECONDS = 0.1
"""Time between two looks at the source and the mute switch"""
OURS = {"program": Program, "file": Recording, "fast": Recording}
IDENTITIES = {"usb", "alsa", "pulse", "name"}
"""What a microphone's identity begins with"""


class Muting:
    """Lets nothing into the ring while it was ordered so, or the switch says so."""

    def __init__(self, output: Output, switch: Switch, ordered: bool) -> None:
        self._output = output
        self._switch = switch
        self._ordered = ordered
        self._said: Muted | None = None
        self.check()

    def order(self, muted: bool) -> None:
        self._ordered = muted
        self._said = None  # an order is answered, whatever it changes
        self.check()

    def check(self) -> None:
        """Look at the switch; the daemon is told when the state has been put in force."""
        switched, problem = self._switch.read()
        now = Muted(self._ordered, switched, problem)
        if now != self._said:
            self._output.mute(now.ordered or now.switched)
            self._output.send(now)
            self._said = now


def _source(options: argparse.Namespace, output: Output) -> Source:
    scheme, colon, _ = options.source.partition(":")
    if scheme in OURS:
        return OURS[scheme](options, output)
    if colon and scheme not in IDENTITIES:
        from edged.plugins import Plugins

        if kind := Plugins.discover().source(scheme):
            return Plugged(options, output, kind)
    from edged.audio.microphone import Microphone

    return Microphone(options, output)


def _run(source: Source, muting: Muting, connection: channel.Channel[Any]) -> Message:
    """Obey the daemon until the source is over; why it is."""
    source.output.send(Beat())
    source.start()
    beat = look = time.monotonic()
    while source.done is None:
        received = connection.receive(max(0.0, look - time.monotonic()))
        match received and received[0]:
            case Mute(muted=muted):
                muting.order(muted)
            case Attend(closely=closely):
                source.output.closely = closely
            case Allow(until=until):
                source.allow(until)
        if time.monotonic() >= look:
            look = time.monotonic() + CHECK_SECONDS
            muting.check()
            source.check()
        if time.monotonic() >= beat:
            beat = time.monotonic() + BEAT_SECONDS
            source.output.send(Beat(source.drift, source.problem))
    return source.done


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="edged-capture")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--ring", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--position", type=int, default=0)
    parser.add_argument("--clock", type=float, default=0.0)
    parser.add_argument("--muted", action="store_true")
    parser.add_argument("--mute-file")
    parser.add_argument("--mute-command")
    parser.add_argument("--channel", type=int)
    parser.add_argument("--trace", default="")
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
    try:
        if options.trace:
            from edged.audio.tracing import watch

            watch(output, options.trace)
        muting = Muting(output, Switch(options.mute_file, options.mute_command), options.muted)
        output.send(_run(_source(options, output), muting, connection))
    except EdgedError as error:
        output.send(Gone(error.code, error.message))
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
