"""The daemon: the one place where the parts are put together, started, stopped and reloaded."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import msgspec

from edged import mute, paths, profiles
from edged.config import Configuration, RecorderSection, check_exposure, read_token
from edged.engine import choose
from edged.engine.assembly import admission, ladder, make_supervisor
from edged.engine.launch import Launched
from edged.engine.patrol import Patrol
from edged.engine.stream import Listener, Stream
from edged.errors import EdgedError, EngineError
from edged.hub import Hub
from edged.log import fields, get_logger, set_up
from edged.messages import (
    Closed,
    EngineChanged,
    EngineState,
    Event,
    Final,
    Hello,
    Message,
    MicrophoneChanged,
    Mute,
    Turns,
)
from edged.meters import Meters
from edged.microphone import Microphone, MicrophoneState, SourceOptions
from edged.models.inventory import store
from edged.notify import notify, reloading
from edged.plugins import Plugins
from edged.recognizer import SAMPLE_RATE
from edged.sinks import Sinks
from edged.tap import Tap
from edged.transcripts import TranscriptStore

if TYPE_CHECKING:
    from edged.recorder.recorder import Recorder

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose audio a stream is."""

    protocol: str
    """microphone, or what its client speaks: edged, openai, vosk, sherpa, wyoming"""
    began: float
    """CLOCK_MONOTONIC, seconds"""


FINISH_SECONDS = 10.0
"""Longest wait, when stopping, for the finals of what was said"""
MICROPHONE = "microphone"
"""The name of the microphone's stream"""


class Daemon:
    """All parts of `edged run`."""

    def __init__(
        self,
        configuration: Configuration,
        read_again: Callable[[], Configuration],
        early: Launched | None = None,
    ) -> None:
        self.configuration = configuration
        self.token = read_token(configuration.server)
        self._read_again = read_again
        self.plugins = Plugins.discover()
        self.models = store()
        self.hub = Hub(lambda: self.configuration.server.client_queue)
        self.transcripts: TranscriptStore | None = None
        self.unkept: str | None = None
        """Why transcripts are not kept although they should be"""
        self.sinks = Sinks([], {})
        self.recorder = _recorder(configuration.recorder)
        self.supervisor = make_supervisor(configuration, self._engine_changed, self.recorder, early)
        self._announced: EngineState | None = None
        """The engine that clients know of"""
        self.meters = Meters()
        self.moves = 0
        """Changes of the engine since the start"""
        self.engine_listeners: set[Callable[[EngineChanged], None]] = set()
        """Client streams that want to know of a change"""
        self.microphone: Microphone | None = None
        self.tap = Tap()
        """The microphone's audio"""
        self._stream: Stream | None = None
        self._muted = configuration.microphone.muted or mute.remembered()
        """Whether it was ordered so; the switch is the capture process's"""
        self.heard = time.monotonic()
        """When audio last came from the microphone, CLOCK_MONOTONIC"""
        self._serving = False
        """Whether systemd knows that we serve"""
        self._reloading = asyncio.Lock()
        self.ros_offset: float | None = None
        """What the robot adds to CLOCK_MONOTONIC, in seconds, once it has said so"""
        self.started = time.monotonic()
        self.stopping = asyncio.Event()
        self.clients = 0
        """WebSocket and event-stream clients"""
        self.streams = 0
        """Client audio streams"""
        self.origins: WeakKeyDictionary[Stream, Origin] = WeakKeyDictionary()
        """Of the streams that have a name; the others are recordings"""
        self._ending: asyncio.Task[None] | None = None
        self._patrol: asyncio.Task[None] | None = None

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the engine and the microphone; neither is waited for. Raises EdgedError."""
        self._open_transcripts()
        if self.recorder:
            self.recorder.start()
            recording = fields("recording", path=self.recorder.folder)
            log.info("what is heard is recorded in %s", self.recorder.folder, extra=recording)
        self._start_sinks()
        self.supervisor.start()
        patrol = Patrol(self.supervisor, profiles.matching().governor)
        self._patrol = asyncio.create_task(patrol.run())
        if self.configuration.microphone.enabled:
            self._start_microphone()

    def _open_transcripts(self) -> None:
        """Whatever the disk is like, edged hears. Raises EdgedError if another edged has them."""
        section = self.configuration.transcripts
        path = section.path or paths.state_directory() / "transcripts.sqlite"
        if not section.enabled:
            if path.exists():
                log.warning(
                    "transcripts are not kept; those of before are still in %s",
                    path,
                    extra=fields("store_left", path=path),
                )
            return
        try:
            self.transcripts = TranscriptStore(path, section.max_days * 86400, section.max_bytes)
        except EdgedError as error:
            if error.code == "store_in_use":
                raise
            self.unkept = error.message
            unkept = fields("store_unusable", path=path, code=error.code)
            log.error("transcripts are not kept: %s", error.message, extra=unkept)

    def recorded_since(self, since: float) -> list[Path]:
        """The flight recorder's files that were written to since a Unix time."""
        from edged.recorder.tape import written_since

        return written_since(self.configuration.recorder, since)

    def _start_sinks(self) -> None:
        loop = asyncio.get_running_loop()

        def mute(muted: bool) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self.mute, muted)

        self.sinks = Sinks(self.plugins.sinks(), self.configuration.sinks, mute)
        self._tell_sinks()

    def _tell_sinks(self) -> None:
        """What is so from now on."""
        self.sinks.put(MICROPHONE, self.hello(MICROPHONE))

    def announce(self) -> None:
        """Tell systemd that clients are served."""
        self._serving = True
        notify("READY=1", f"STATUS={self.status}")

    @property
    def status(self) -> str:
        """What runs, and what is amiss, in one line."""
        engine = self.supervisor.state.effective
        line = "; ".join([str(engine or "no engine"), *self.reasons()])
        return " ".join(line.split())

    async def finish(self) -> None:
        """Send the finals of what was said; clients are told that it is over."""
        self.stopping.set()
        notify("STOPPING=1")
        await self._stop_microphone()
        self._publish(Closed("stopping"))
        deadline = time.monotonic() + FINISH_SECONDS
        while self.streams and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End every process."""
        if self._patrol:
            self._patrol.cancel()
        await self._stop_microphone()
        await self.supervisor.stop()
        await asyncio.to_thread(self.sinks.stop)
        if self.recorder:
            await asyncio.to_thread(self.recorder.close)
        if self.transcripts:
            self.transcripts.close()

    async def reload(self) -> list[str]:
        """Read the configuration again, one time after the other; returns what needs a restart, a
        sentence each. Raises EdgedError, and nothing has changed."""
        async with self._reloading:
            if self.stopping.is_set():
                return []
            if self._serving:
                reloading()
            try:
                sentences = await self._reload()
            except EdgedError as error:
                refused = fields("reload_refused", code=error.code)
                log.error("the old configuration stays: %s", error.message, extra=refused)
                raise
            finally:
                if self._serving:
                    notify("READY=1", f"STATUS={self.status}")
            for sentence in sentences:
                log.warning("%s", sentence, extra=fields("reload_needs_restart"))
            log.info("configuration reloaded", extra=fields("reloaded"))
            return sentences

    async def _reload(self) -> list[str]:
        old, new = self.configuration, self._read_again()
        token = read_token(new.server)
        check_exposure(new, token)
        rungs, options = ladder(new), choose.worker_options(new)
        self.configuration, self.token = new, token
        set_up(new.log.level)
        if new.microphone != old.microphone:
            await self._change_microphone()
        if new.engine != old.engine or new.provider_options() != old.provider_options():
            await self.supervisor.replace(rungs, options, admission(new))
        fixed = [
            name
            for name in ("host", "port", "unix_socket", "max_message_bytes")
            if getattr(new.server, name) != getattr(old.server, name)
        ]
        sentences = [f"server.{name} changes with the next start, not now" for name in fixed]
        sentences += [
            f"{name} changes with the next start, not now"
            for name in ("transcripts", "recorder", "sinks", "vosk", "sherpa", "wyoming", "trace")
            if getattr(new, name) != getattr(old, name)
        ]
        return sentences

    # -- engine -----------------------------------------------------------------------------------

    def _engine_changed(self, after: EngineState) -> None:
        self._tell_sinks()
        notify(f"STATUS={self.status}")
        before, self._announced = self._announced, after if after.effective else self._announced
        if after.effective is None or before is None:
            return
        if (before.effective, before.pace) == (after.effective, after.pace):
            return
        self.moves += 1
        cause = self.supervisor.cause
        self.meters.moved(cause)
        event = EngineChanged(before.effective, after.effective, after.reason or "", cause)
        self._note(event)
        self._publish(event)
        for listener in list(self.engine_listeners):
            listener(event)

    @property
    def refusal(self) -> EngineError | None:
        """What to tell a client that wants nothing less than what is asked for, if that is so."""
        if self.degraded is None:
            return None
        return EngineError(
            f"The engine that was asked for does not run: {self.degraded}", code="engine_degraded"
        )

    @property
    def most_streams(self) -> int:
        """How many clients may send audio at once, so that everybody's finals come in time."""
        most, capacity = self.configuration.server.max_streams, self.supervisor.capacity
        if capacity is None:
            return most
        return max(1, min(most, capacity - self.configuration.microphone.enabled))

    @property
    def degraded(self) -> str | None:
        """Why what serves is less than what is asked for; None while it is not."""
        state = self.supervisor.state
        if state.effective and choose.meets(self.configuration.engine, state.effective):
            return None
        return state.reason or "it is not ready"

    # -- microphone -----------------------------------------------------------------------------

    def _start_microphone(self) -> None:
        section = self.configuration.microphone
        stream = self._open(MICROPHONE, MICROPHONE, self._heard, words=True, live=True)
        self._stream = stream
        self.tap.begin(stream)
        self.microphone = Microphone(
            SourceOptions(
                section.source,
                section.channel,
                section.rate,
                section.encoding,
                section.channels,
                section.mute_file,
                section.mute_command,
                self.configuration.trace.folder,
            ),
            stream,
            muted=self._muted,
            on_audio=lambda: self._take_in(stream),
            on_gap=lambda start, end, reason: self._miss(stream, start, end, reason),
            on_quiet=lambda: self._fall_silent(stream),
            on_end=lambda: self._source_ended(stream),
            on_change=self._microphone_changed,
        )
        self.microphone.start()

    def _take_in(self, stream: Stream) -> None:
        """There is more of the microphone's audio."""
        self.heard = time.monotonic()
        self.supervisor.notify(stream)
        self.tap.flow(stream)

    def _miss(self, stream: Stream, start: int, end: int, reason: str) -> None:
        """There is none from `start` to `end`."""
        self.supervisor.gap(stream, start, end, reason)
        self.tap.skip(end)

    def _fall_silent(self, stream: Stream) -> None:
        """Muted or lost: what was being said ends here."""
        self.supervisor.flush(stream)

    def _heard(self, event: Event) -> None:
        """An event of the microphone's stream."""
        if self.microphone:
            self.microphone.allow()
        self._publish(event)

    def _publish(self, event: Event) -> None:
        """Tell everybody who follows the microphone."""
        self.hub.publish(self.remember(MICROPHONE, event))

    def remember(self, stream: str, event: Event) -> Event:
        """Store a final that says something, and tell the sinks; returns it with its number."""
        stored = self._store(stream, event)
        if isinstance(stored, Final):
            self._log_final(stream, stored)
        self.sinks.put(stream, stored)
        return stored

    def _log_final(self, stream: str, final: Final) -> None:
        """What was said is logged only where that is wished, whatever the level."""
        about = fields(
            "final",
            stream=stream,
            utterance=final.utterance,
            transcript=final.id,
            rung=final.engine.effective,
            seconds=round(final.end - final.start, 3),
            latency=round(final.latency.total, 3),
        )
        if self.configuration.log.texts:
            log.info("%s: %s", stream, final.text, extra=about)
        else:
            log.debug("%s: utterance %d is final", stream, final.utterance, extra=about)

    def _store(self, stream: str, event: Event) -> Event:
        if not isinstance(event, Final) or not event.text or self.transcripts is None:
            return event
        started = time.time() - (time.monotonic() - event.clock)
        return self.transcripts.add(stream, event, started)

    def _source_ended(self, stream: Stream) -> None:
        position = self.supervisor.flush(stream)

        async def say_so() -> None:
            with contextlib.suppress(EngineError):
                await stream.reached(position)
                self._publish(Closed("source_ended"))

        self._ending = asyncio.create_task(say_so())

    async def _stop_microphone(self) -> None:
        microphone, stream = self.microphone, self._stream
        self.microphone = self._stream = None
        if microphone is None or stream is None:
            return
        await microphone.stop()
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                if not self.supervisor.problem:
                    await stream.reached(self.supervisor.flush(stream))
        except TimeoutError:
            log.error(
                "the last words cannot be recognised in time and are given up",
                extra=fields("words_given_up"),
            )
            stream.skip(stream.written, "overrun")
        self.supervisor.close(stream)

    async def _change_microphone(self) -> None:
        await self._stop_microphone()
        if self.configuration.microphone.enabled:
            self._start_microphone()

    def _microphone_changed(self, event: MicrophoneChanged) -> None:
        self._tell_sinks()
        self._publish(event)

    def mute(self, muted: bool) -> None:
        """Mute or unmute, where audio is captured; a restart changes nothing about it."""
        changed, self._muted = muted != self._muted, muted
        mute.remember(muted)
        if self.microphone:
            self.microphone.mute(muted)
        else:
            self._tell_sinks()
        if changed:
            self._note(Mute(muted))

    async def muting(self) -> None:
        """Wait until the last order to mute or unmute is in force."""
        if self.microphone:
            await self.microphone.obeyed()

    @property
    def muted(self) -> bool:
        return self.microphone_state.muted

    @property
    def microphone_state(self) -> MicrophoneState:
        if self.microphone is None:
            source, ordered = self.configuration.microphone.source, self._muted
            return MicrophoneState("off", source, ("order",) if ordered else ())
        return self.microphone.state

    # -- for clients ----------------------------------------------------------------------------

    def open_stream(
        self,
        name: str,
        protocol: str,
        listener: Listener,
        *,
        partials: bool,
        words: bool,
        tokens: bool = False,
        turns: Turns | None = None,
    ) -> Stream:
        return self._open(
            name, protocol, listener, partials=partials, words=words, tokens=tokens, turns=turns
        )

    def _open(self, name: str, protocol: str, listener: Listener, **options: Any) -> Stream:
        """A stream whose events are counted before anybody is told."""

        def counted(event: Event) -> None:
            self.meters.heard(stream, event)
            event = self._in_ros_time(event)
            if self.recorder and stream.trace:
                self.recorder.told(stream, event)
            listener(event)

        trace = name == MICROPHONE or self.configuration.recorder.clients
        stream = self.supervisor.open(
            counted, name=name, trace=trace and self.recorder is not None, **options
        )
        self.origins[stream] = Origin(protocol, time.monotonic())
        return stream

    def _note(self, message: Message) -> None:
        """Something that concerns more than one stream, at its place in the microphone's."""
        if self.recorder:
            self.recorder.note(message, self._stream)

    def _in_ros_time(self, event: Event) -> Event:
        if self.ros_offset is None or not isinstance(event, Final):
            return event
        return msgspec.structs.replace(event, ros_time=round(event.clock + self.ros_offset, 4))

    def stream_named(self, name: str) -> Stream:
        """One that is open. Raises EngineError naming those that are."""
        named = {stream.name: stream for stream in self.supervisor.streams if stream.name}
        if name not in named:
            raise EngineError(
                f"No stream is called {name!r} now; there are: {', '.join(named) or 'none'}",
                code="no_stream",
            )
        return named[name]

    def hello(self, stream: str) -> Hello:
        engine = self.supervisor.state
        model = engine.effective.model if engine.effective else None
        last = self.transcripts.last if self.transcripts else None
        return Hello(stream, model, engine, SAMPLE_RATE, self.muted, last=last)

    def reasons(self) -> list[str]:
        """Why something is not as it should be."""
        reasons = []
        if not self.supervisor.ready:
            reasons.append(f"engine: {self.supervisor.state.reason or 'loading'}")
        elif self.degraded and self.configuration.engine.fallback == "degrade":
            reasons.append(f"engine: less than asked for serves: {self.degraded}")
        state = self.microphone_state
        if state.state == "waiting" or state.reason:
            reasons.append(f"microphone: {state.reason or 'not open yet'}")
        store = self.transcripts
        trouble = (store.problem or store.notice) if store else self.unkept
        if trouble:
            reasons.append(f"transcripts: {trouble}")
        if self.recorder and self.recorder.problem:
            reasons.append(f"recorder: {self.recorder.problem}")
        return reasons


def _recorder(section: RecorderSection) -> Recorder | None:
    if not section.enabled:
        return None
    from edged.recorder.recorder import Recorder
    from edged.recorder.tape import recordings

    return Recorder(recordings(section), section.max_bytes, section.max_hours * 3600)
