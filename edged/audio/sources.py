"""Where audio comes from: programs, recordings and what plugins bring. Microphones have their own
module."""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from edged.audio.output import Output
from edged.audio.ring import SAMPLE_RATE
from edged.errors import EdgedError
from edged.messages import Ended, Gone, Message, Opened
from edged.source import AudioSource

BLOCK_SECONDS = 0.032
"""One window of the voice detector: fewer wake-ups would make text later, more cost power"""


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

    @property
    def drift(self) -> float | None:
        """How much faster than CLOCK_MONOTONIC its clock goes, in parts per million, if known."""
        return None

    @property
    def problem(self) -> str | None:
        """What is wrong with what it delivers."""
        return None


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
            self.done = Gone("program_failed", f"the program left with exit code {code}")
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
            self.done = Gone(problem.code, problem.message)
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
