"""What an adapter and the harness say to each other, and the loop around every adapter.

In, on stdin, blocks of audio: two little-endian uint32, the stream's number and the number of
samples, then so many int16 samples, mono at 16 kHz. No samples: the stream is at its end. The
streams are heard each for itself; the end of stdin ends the adapter.

Out, on stdout, lines of JSON: `ready` once it can hear, with the ids of the processes that belong
to the system measured and the bytes of its model's files; then `partial` and `final` with `stream`,
`utterance`, `text`, `start` and `end` (seconds of that stream's audio) and `clock` (when it was
written, CLOCK_MONOTONIC); `closed` after the last of a stream.

Adapters run in the Python of their peer, so this needs the standard library and numpy alone.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TextIO

import numpy as np

RATE = 16000
"""Hertz"""
_HEAD = struct.Struct("<II")


class Listener(Protocol):
    """One stream's recogniser."""

    def hear(self, samples: np.ndarray) -> None:
        """Take float32 samples: all that came since the last call."""

    def finish(self) -> None:
        """The audio is at its end: say what is still to be said."""


class Voice:
    """What is said about one stream."""

    def __init__(self, out: Writer, stream: int) -> None:
        self._out = out
        self._stream = stream
        self._utterance = 0

    def partial(self, text: str, start: float, end: float) -> None:
        self._say("partial", text, start, end)

    def final(self, text: str, start: float, end: float) -> None:
        self._say("final", text, start, end)
        self._utterance += 1

    def closed(self) -> None:
        self._out.write({"type": "closed", "stream": self._stream})

    def _say(self, kind: str, text: str, start: float, end: float) -> None:
        place = {"stream": self._stream, "utterance": self._utterance}
        self._out.write({"type": kind, **place, "text": text, "start": start, "end": end})


class Writer:
    """Lines of JSON, from several threads."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def write(self, message: dict[str, Any]) -> None:
        line = json.dumps({**message, "clock": time.monotonic()}) + "\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()


class _Stream(threading.Thread):
    """Hands over what has come, all of it at once: who falls behind catches up in one step."""

    def __init__(self, listen: Callable[[Voice], Listener], voice: Voice) -> None:
        super().__init__(daemon=True)
        self._listen = listen
        self._voice = voice
        self.blocks: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()

    def run(self) -> None:
        try:
            self._hear()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)  # half an adapter would be measured as a bad peer

    def _hear(self) -> None:
        listener = self._listen(self._voice)
        while (samples := self._waiting()) is not None:
            listener.hear(samples)
        listener.finish()
        self._voice.closed()

    def _waiting(self) -> np.ndarray | None:
        """Everything that has come; None at the end."""
        blocks = [self.blocks.get()]
        while len(blocks[-1]) and not self.blocks.empty():
            blocks.append(self.blocks.get())
        if not len(blocks[-1]):
            self.blocks.put(blocks.pop())
        return np.concatenate(blocks).astype(np.float32) / 32768 if blocks else None


class _Offline:
    """A listener that waits for the whole recording."""

    def __init__(self, transcribe: Callable[[np.ndarray], str], voice: Voice) -> None:
        self._transcribe = transcribe
        self._voice = voice
        self._samples = np.empty(0, np.float32)

    def hear(self, samples: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def finish(self) -> None:
        self._voice.final(self._transcribe(self._samples), 0.0, len(self._samples) / RATE)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options of every adapter."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--offline", action="store_true", help="whole recordings, no endpoints")
    made.add_argument("--threads", type=int, help="of the recogniser; its documentation's")
    return made


def cores() -> int:
    return len(os.sched_getaffinity(0))


def serve(
    listen: Callable[[Voice], Listener] | None,
    transcribe: Callable[[np.ndarray], str],
    *,
    offline: bool,
    model: Iterable[Path],
    processes: Sequence[int] = (),
) -> None:
    """Hear until stdin ends. `model` are the files that were loaded; without `listen` it hears
    whole recordings alone."""

    def start(voice: Voice) -> Listener:
        return _Offline(transcribe, voice) if offline or not listen else listen(voice)

    out = Writer(sys.stdout)
    size = sum(path.stat().st_size for path in model)
    ids = list(processes) or [os.getpid()]
    out.write({"type": "ready", "processes": ids, "model_bytes": size})
    streams: dict[int, _Stream] = {}
    for number, samples in _blocks(sys.stdin.buffer):
        if number not in streams:
            streams[number] = _Stream(start, Voice(out, number))
            streams[number].start()
        streams[number].blocks.put(samples)
        if not len(samples):
            del streams[number]


def _blocks(source: BinaryIO) -> Iterable[tuple[int, np.ndarray]]:
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        number, count = _HEAD.unpack(head)
        yield number, np.frombuffer(source.read(2 * count), "<i2")
