"""The engine worker: the only process that loads a runtime.

    python -m edged.engine.worker --socket FD

The first message says what to load. It holds that one rung and recognises every stream that the
daemon opens on it. It keeps nothing that matters: audio lies in the rings, and what it has said is
with the daemon. When the socket ends, the daemon is gone, and so is the worker.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edged import channel, paths
from edged.elsewhere import require
from edged.engine import heap
from edged.engine.lanes import Lanes
from edged.errors import EdgedError
from edged.messages import (
    USUAL_NEWS,
    Audio,
    Awaited,
    Canary,
    Close,
    Command,
    Failed,
    Guessed,
    Load,
    Loading,
    Mark,
    Open,
    Pace,
    Ping,
    Pong,
    Ready,
    Refused,
    Report,
    Rung,
    Sang,
    Worked,
    WorkerOptions,
    decode_command,
)
from edged.recognizer import SAMPLE_RATE

if TYPE_CHECKING:
    from edged.engine.schedule import Served
    from edged.engine.tracing import WorkerTrace


TIDY_SECONDS = 10.0
"""After which freed memory is given back again; that takes a few milliseconds"""


class _Engine:
    """The loaded rung."""

    def __init__(self, rung: Rung, folder: Path, options: WorkerOptions) -> None:
        from edged.models.store import read_model
        from edged.plugins import Plugins
        from edged.provider import devices

        started = time.monotonic()
        self.partial_interval = options.partial_interval
        require(rung.provider, options.extra)
        plugins = Plugins.discover()
        self._provider = plugins.provider(rung.provider)
        extra = options.extra.get(self._provider.name, {})
        found = devices(self._provider, extra)
        device = find_device(self._provider.name, found, rung.device)
        open_session = opener(self._provider, device, rung.precision, options)
        self.device = device.name
        model = read_model(folder)
        self._precision = rung.precision
        verdict = _Verification(model, rung.precision, self._provider.formats_on(rung.device))
        nearby = _Nearby(plugins, self._provider.name, options)
        self.detector: Any = _Clocked(plugins.voice_detector(options.detector)(nearby))
        recognizer = plugins.recognizer(model.family)
        try:
            self.recognizer = recognizer(model, rung.precision, open_session)
        except EdgedError:
            verdict.result()  # a broken file is the better explanation
            raise
        verdict.result()
        shared = self._provider.concurrent and recognizer.concurrent
        self.lanes = max(1, min(options.lanes, os.cpu_count() or 1)) if shared else 1
        self.load_seconds = time.monotonic() - started
        self.check_seconds = self._check(model)
        self.digest = model.digest(rung.precision, self._provider.formats_on(rung.device))
        self.runtime = f"{rung.provider} {self._provider.version()}"

    def _check(self, model: Any) -> float:
        """Hold this rung against float32 on the CPU; how long a partial of the clip takes, in
        seconds. Raises ModelError."""
        import numpy as np

        from edged.models import check

        self._clip, self._text = check.read_clip(model.path(check.CHECK_CLIP)), model.check_text
        reference = np.load(model.path(check.REFERENCE))
        check.compare_features(reference, self.recognizer.features(self._clip), self._precision)
        self.sing()
        started = time.monotonic()
        self.recognizer.start().advance(self._clip)
        return time.monotonic() - started

    def sing(self) -> None:
        """Recognise the check clip. Raises ModelError when the text is wrong."""
        from edged.models import check

        check.compare(self._text, self.recognizer.transcribe(self._clip).text, self._precision)


class _Clocked:
    """A voice detector, and how long it took so far."""

    def __init__(self, detector: Any) -> None:
        self.window: int = detector.window
        self.context: int = detector.context
        self.seconds = 0.0
        self._probabilities = detector.probabilities

    def probabilities(self, samples: Any, state: object | None) -> Sequence[tuple[float, object]]:
        started = time.monotonic()
        answer: Sequence[tuple[float, object]] = self._probabilities(samples, state)
        self.seconds += time.monotonic() - started
        return answer


class _Nearby:
    """Loads the graph of a detector that has one: it judges 30 ms at a time, and another device
    than the processor would only be further away. By the rung's own runtime, if that opens such
    files."""

    def __init__(self, plugins: Any, provider: str, options: WorkerOptions) -> None:
        self._providers = sorted(plugins.providers(), key=lambda found: found.name != provider)
        self._options = options
        self.formats = frozenset[str]().union(*(found.formats for found in self._providers))
        self.static = self.compiles = self.concurrent = False

    def __call__(self, path: Path, parallel: bool) -> Any:
        from edged.provider import Opener, SessionOptions

        for provider in self._providers:
            if path.suffix in provider.formats:
                found = provider.probe()
                nearest = next((device for device in found if device.kind == "cpu"), found[0])
                extra = self._options.extra.get(provider.name, {})
                options = SessionOptions(extra=extra, cache=_cache(provider.name))
                return Opener(provider, nearest, options)(path, parallel)
        raise EdgedError(f"No provider opens {path}", code="plugin_missing")


def opener(
    provider: Any, device: Any, precision: str, options: WorkerOptions, inspect: bool = False
) -> Any:
    """Loads a rung's graphs."""
    from edged.provider import Opener, SessionOptions

    extra = options.extra.get(provider.name, {})
    cache = _cache(provider.name)
    session_options = SessionOptions(
        options.threads(False), precision, extra, inspect, cache, options.profiles
    )
    return Opener(provider, device, session_options, options.threads(True))


def _cache(provider: str) -> Path:
    """Where a provider may keep what it compiles."""
    return paths.cache_directory() / "compiled" / provider


def find_device(provider: str, devices: Sequence[Any], name: str) -> Any:
    """The device of that name among a provider's. Raises EdgedError naming what there is."""
    for device in devices:
        if device.name == name:
            return device
    known = ", ".join(device.name for device in devices) or "none"
    raise EdgedError(
        f"{provider} has no device {name} here; it has: {known}. Run: edged probe",
        code="device_missing",
    )


class _Verification:
    """Checks the files' hashes while the runtime loads; hashing lets other threads run."""

    def __init__(self, model: Any, precision: str, endings: frozenset[str]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(1)
        self._future = pool.submit(model.verify, precision, endings)
        pool.shutdown(wait=False)

    def result(self) -> None:
        self._future.result()


class Worker:
    """The loop: take what came, listen to every stream, hand out what is to be recognised."""

    def __init__(self, connection: channel.Channel[Command], engine: _Engine) -> None:
        self._channel = connection
        self._engine = engine
        self._lanes = Lanes(engine.lanes)
        self._streams: dict[int, Served] = {}
        self._pace = 1.0
        self._listened = 0.0
        """Seconds that were spent on everything but recognising"""
        self._heard = 0
        """Samples"""
        self._partials = 0.0
        """Seconds that were spent on partials"""
        self._partials_at_work = 0
        self._used = True
        """Whether anything was recognised since memory was last given back"""
        self._tidied_at = time.monotonic()

    def run(self) -> None:
        """For ever. Raises EdgedError when the rung fails."""
        while True:
            if not any(stream.can_go_on for stream in self._streams.values()):
                self._channel.wait(self._lanes.bell)
            started = time.monotonic()
            while (received := self._channel.receive(0)) is not None:
                self._obey(*received)
            self._lanes.collect()
            for number, stream in self._streams.items():
                self._listen(number, stream)
            self._hand_out()
            self._listened += time.monotonic() - started

    def _obey(self, command: Command, fds: list[int]) -> None:
        match command:
            case Open():
                self._streams[command.stream] = self._open(command, fds[0])
            case Audio():
                if command.stream in self._streams:
                    self._streams[command.stream].written = command.written
            case Mark():
                if command.stream in self._streams:
                    self._streams[command.stream].pipeline.mark(command)
            case Close():
                if stream := self._streams.pop(command.stream, None):
                    stream.close()
            case Pace():
                self._pace = command.factor
                self._lanes.count = command.lanes or self._engine.lanes
            case Ping():
                self._channel.send(self._pong(command.number))
                self._tidy()
            case Canary():
                self._lanes.do(self._engine.sing, lambda: self._channel.send(Sang()))

    def _open(self, command: Open, fd: int) -> Served:
        from edged.audio.ring import AudioRing
        from edged.engine.endpointer import rules
        from edged.engine.pipeline import Pipeline
        from edged.engine.schedule import Served

        ring = AudioRing(fd)
        pipeline = Pipeline(
            command.stream,
            ring.view,
            self._engine.detector,
            self._engine.recognizer,
            command.position,
            command.floor,
            command.words,
            rules(command.turns),
            command.tokens,
            command.trace,
        )
        return Served(
            ring,
            pipeline,
            partials=command.partials,
            live=command.live,
            interval=self._engine.partial_interval,
        )

    def _pong(self, number: int) -> Pong:
        return Pong(
            number,
            self._lag(),
            busy=round(self._listened + self._lanes.seconds, 4),
            detecting=round(self._engine.detector.seconds, 4),
            audio=round(self._heard / SAMPLE_RATE, 3),
            partials=round(self._partials, 4),
            copied=self._engine.recognizer.copied,
            stuck=round(self._lanes.longest, 3),
        )

    def _tidy(self) -> None:
        """Keep no memory that long utterances needed."""
        now = time.monotonic()
        if self._used and now - self._tidied_at > TIDY_SECONDS:
            self._used, self._tidied_at = False, now
            heap.give_back()

    def _lag(self) -> float:
        live = (s.behind for s in self._streams.values() if s.live)
        return max(live, default=0) / SAMPLE_RATE

    def _listen(self, number: int, stream: Served) -> None:
        if not stream.can_go_on:
            return
        before = stream.pipeline.position
        for report in stream.go_on():
            self._channel.send(_timed(report, stream.took))
        self._heard += stream.pipeline.position - before
        if stream.pipeline.speaking and not stream.wanted:
            self._await(number, stream)

    def _await(self, number: int, stream: Served) -> None:
        """Ask to be woken sooner than is usual, if there will be something to do."""
        from edged.engine.schedule import speaking

        awaited = stream.next_news(speaking(self._streams.values()), self._pace)
        if awaited <= stream.written + USUAL_NEWS - self._engine.detector.window:
            self._channel.send(Awaited(number, awaited))

    def _hand_out(self) -> None:
        while self._lanes.free > 0 and (stream := self._next()):
            assert stream.wanted is not None
            self._channel.send(stream.wanted)
            self._partials_at_work += not stream.wanted.final
            stream.at_work = True
            self._lanes.do(stream.recognise, partial(self._recognised, stream))

    def _next(self) -> Served | None:
        """Whose turn it is."""
        from edged.engine.schedule import next_final, next_partial

        streams = self._streams.values()
        if final := next_final(streams, time.monotonic()):
            return final
        # Where there are several lanes one is kept for finals.
        if self._partials_at_work < max(1, self._lanes.count - 1) and (
            stream := next_partial(streams, self._pace)
        ):
            stream.begin_partial()
            return stream
        return next_final(streams, math.inf)

    def _recognised(self, stream: Served) -> None:
        assert stream.wanted is not None
        self._used = True
        if not stream.wanted.final:
            self._partials_at_work -= 1
            self._partials += stream.took
        self._channel.send(Worked(stream.wanted.stream))
        stream.recognised()


def _timed(report: Report, seconds: float) -> Report:
    if isinstance(report, Guessed):
        return msgspec.structs.replace(report, seconds=round(seconds, 4))
    return report


def keep_to(processors: Sequence[int]) -> None:
    """Use these only, as far as this process is allowed them."""
    allowed = os.sched_getaffinity(0) & set(processors)
    if allowed:
        os.sched_setaffinity(0, allowed)


def _take_stdout() -> None:
    """Whatever a library prints goes to stderr, before any is imported."""
    os.dup2(2, 1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="edged-worker")
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args(arguments)
    _take_stdout()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = channel.attach(options.socket, decode_command)
    _prepare()
    try:
        _serve(connection, _order(connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        sys.exit(0)


def _prepare() -> None:
    """Import what every rung needs, while the order may still be on its way."""
    import edged.engine.pipeline
    import edged.engine.schedule
    import edged.models.check
    import edged.models.store
    import edged.provider  # noqa: F401
    from edged.plugins import Plugins

    Plugins.discover()


def _order(connection: channel.Channel[Command]) -> Load:
    """What to load. Raises EOFError when the daemon goes without saying so."""
    received = connection.receive()
    assert received is not None
    command, _ = received
    assert isinstance(command, Load)
    return command


def _trace(options: WorkerOptions) -> WorkerTrace | None:
    """What watches all that is done from now on, if that is wanted."""
    if not options.trace:
        return None
    from edged.engine.tracing import WorkerTrace

    return WorkerTrace(options.trace, options.profile)


def _serve(connection: channel.Channel[Command], order: Load) -> None:
    keep_to(order.options.processors)
    connection.send(Loading(f"loading {order.rung}"))
    try:
        trace = _trace(order.options)
        engine = _Engine(order.rung, Path(order.folder), order.options)
        if trace:
            trace.watch(engine, connection)
    except EdgedError as error:
        path = getattr(error, "path", None)
        connection.send(Refused(error.code, error.message, str(path) if path else None))
        sys.exit(3)
    connection.send(
        Ready(
            engine.runtime,
            engine.device,
            engine.load_seconds,
            engine.check_seconds,
            engine.digest,
            engine.lanes,
        )
    )
    try:
        Worker(connection, engine).run()
    except EdgedError as error:
        connection.send(Failed(error.code, error.message))
        sys.exit(4)


if __name__ == "__main__":
    main()
