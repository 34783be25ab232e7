"""A stream as the daemon knows it: its ring, how far it is filled, and what is done with.

It outlives every worker. A new worker goes on at `resume`; whatever it says again is recognised by
its position and not said twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edged.audio.loudness import IDLE_NEWS, NEWS, Loudness
from edged.audio.ring import AudioRing
from edged.engine.arrivals import Arrivals
from edged.engine.own_voice import OwnVoice
from edged.errors import EngineError
from edged.messages import (
    USUAL_NEWS,
    Began,
    EngineState,
    Event,
    EventWord,
    Final,
    Gap,
    Heard,
    Latency,
    Mark,
    Partial,
    Passed,
    Playback,
    Said,
    SpeechStarted,
    Turns,
)
from edged.recognizer import SAMPLE_RATE

RING_SECONDS = 60
MARGIN = 2 * SAMPLE_RATE
"""Samples kept free between the writer and what a worker may still read"""
PACED = 0.8
"""Audio that took at least this share of its length to come was spoken as it came"""

IDLE_CHUNK = 3 * NEWS
"""Samples that may wait in a client's socket while nobody speaks"""

Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Audio that came, in samples."""

    taken: int = 0
    """All of it was written into a ring: the one copy"""
    copied: int = 0
    """What was copied before that, to be converted"""

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.taken + other.taken, self.copied + other.copied)


class Stream:
    """One microphone or client."""

    def __init__(
        self,
        number: int,
        listener: Listener,
        *,
        partials: bool = True,
        words: bool = False,
        live: bool = False,
        tokens: bool = False,
        turns: Turns | None = None,
        name: str = "",
        trace: bool = False,
        ring_seconds: float = RING_SECONDS,
    ) -> None:
        self.number = number
        self.partials = partials
        self.words = words
        self.live = live
        self.tokens = tokens
        self.turns = turns
        self.name = name
        """What clients call it; that of a recording has none"""
        self.trace = trace
        """Whether a witness sees it"""
        self.ring = AudioRing.create(round(ring_seconds * SAMPLE_RATE))
        self.written = 0
        self.told = 0
        """How far the worker knows it to be filled"""
        self._awaited = USUAL_NEWS
        """How far it is to be filled before the worker need know"""
        self._sooner = asyncio.Event()
        """That is less than it was"""
        self.copied = 0
        """Samples that were copied on their way, beyond being written into the ring"""
        self._loudness = Loudness()
        self.resume = 0
        """Where a new worker begins"""
        self.floor = 0
        """The first sample that may still be needed"""
        self.marks: list[Mark] = []
        """Flushes and gaps not yet reached"""
        self.engine = EngineState(None, None)
        self.own_voice = OwnVoice()
        self._listener = listener
        self._utterance = 0
        self._open: int | None = None
        """First sample of the utterance that has begun"""
        self._shown = False
        """Whether any of its text was shown, which can be taken back"""
        self._arrivals = Arrivals()
        self._progress = asyncio.Event()
        self._closed = False
        self._begun = 0
        """Where it was taken over"""

    def begin(self, written: int, position: int, floor: int) -> None:
        """Take over a stream that was heard before, up to here."""
        self.written = self._begun = written
        self.tell()
        self.resume, self.floor = position, floor

    # -- audio in -------------------------------------------------------------------------------

    def write(self, samples: Any) -> None:
        """Copy float32 samples into the ring. The caller has waited for `room`."""
        self.copied += len(samples)
        self.wrote(self.ring.write(self.written, samples), time.monotonic())

    def fill(self, samples: int, make: Callable[[Any], None]) -> None:
        """Let `make` write so many float32 samples into the ring itself; as for `write`."""
        make(self.ring.place(self.written, samples))
        self.wrote(self.written + samples, time.monotonic())

    def wrote(self, written: int, clock: float) -> None:
        """The ring is filled up to `written`, whose last sample was there at `clock`."""
        self.written = written
        self._arrivals.add(written, clock)

    @property
    def traffic(self) -> Traffic:
        """What has come so far."""
        return Traffic(self.written - self._begun, self.copied)

    @property
    def speaking(self) -> bool:
        """Whether an utterance has begun and its final is owed."""
        return self._open is not None

    @property
    def chunk_seconds(self) -> float:
        """How much audio is worth handling at once."""
        missing = self._awaited - self.written if self.speaking else IDLE_CHUNK
        return max(missing, NEWS) / SAMPLE_RATE

    async def rest(self, kept: float) -> None:
        """As long as what comes at the pace of time, after the `kept` seconds of audio that have
        come, is not worth handling."""
        self._sooner.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.chunk_seconds - kept):
                await self._sooner.wait()

    def is_news(self) -> bool:
        """Whether there is enough that the worker does not know of to wake it."""
        news = self.written - self.told
        if self.speaking:
            return self.written >= self._awaited
        return news >= IDLE_NEWS or (news >= NEWS and self._is_louder())

    def tell(self) -> None:
        """The worker is told of all that has come."""
        self.told = self.written
        self._awaited = self.written + USUAL_NEWS

    def awaits(self, written: int) -> None:
        """The worker wants to know sooner."""
        self._awaited = min(self._awaited, written)
        self._sooner.set()

    def _is_louder(self) -> bool:
        samples = self.ring.view(self.told, self.written)
        return self._loudness.rises(math.sqrt(float(samples @ samples) / len(samples)))

    @property
    def free(self) -> int:
        """Samples that can be written before something needed is overwritten."""
        missing = sum(
            mark.end - max(mark.start, self.floor)
            for mark in self.marks
            if self.floor < mark.end <= self.written
        )
        return self.ring.capacity - MARGIN - (self.written - self.floor - missing)

    async def room(self, samples: int) -> None:
        """Wait until so many samples can be written. Raises EngineError once it is closed."""
        while self.free < samples:
            await self._news()

    async def reached(self, position: int) -> None:
        """Wait until everything before `position` is done with. Raises EngineError when closed."""
        while self.resume < position:
            await self._news()

    async def _news(self) -> None:
        if self._closed:
            raise EngineError("The stream is closed", code="stream_closed")
        self._progress.clear()
        await self._progress.wait()

    def clock_of(self, position: int) -> float:
        """CLOCK_MONOTONIC at which the sample before `position` arrived, in seconds."""
        clock = self._arrivals.clock_of(position)
        return time.monotonic() if clock is None else clock

    def is_paced(self, start: int, end: int) -> bool:
        """Whether this audio came at the pace of time, so that latency means something."""
        took = self.clock_of(end) - self.clock_of(start)
        return took >= PACED * (end - start) / SAMPLE_RATE

    # -- reports from a worker ------------------------------------------------------------------

    def take(self, report: Began | Heard | Said | Passed) -> None:
        """Turn a worker's report into an event, unless it was said before."""
        match report:
            case Began():
                self._begin(report.start)
            case Heard():
                self._hear(report)
            case Said():
                self._say(report)
            case Passed():
                self._pass(report.position, report.floor)

    def _begin(self, start: int) -> None:
        if self._open is not None or start < self.floor:
            return
        self._open = start
        self._shown = False
        self._utterance += 1
        self._listener(SpeechStarted(self._utterance, _seconds(start)))

    def _hear(self, report: Heard) -> None:
        if self._open != report.start:
            return
        report = self.own_voice.taken_out_yet(report)
        if not (report.text or self._shown):
            return
        self._shown = True
        self._listener(
            Partial(
                utterance=self._utterance,
                text=report.text,
                stable=report.text[: report.stable],
                start=_seconds(report.start),
                end=_seconds(report.end),
                age=round(time.monotonic() - self.clock_of(report.end), 4),
            )
        )

    def _say(self, report: Said) -> None:
        if report.start < self.floor or report.resume <= self.resume:
            return
        self._begin(report.start)
        final = self._final(*self.own_voice.taken_out(report))
        self._open = None
        # Room is made before anybody is told, who may want to write.
        self._pass(report.resume, min(report.end, report.resume))
        self._listener(final)

    def _final(self, report: Said, own_voice: str | None = None) -> Final:
        now = time.monotonic()
        clock = self.clock_of(report.start)
        decided = self.clock_of(report.decided)
        latency = Latency(
            endpoint=_seconds(report.decided - report.speech_end),
            decode=round(max(0.0, now - decided), 4),
            total=round(max(0.0, now - self.clock_of(report.speech_end)), 4),
        )
        words = [
            EventWord(w.text, _seconds(w.start), _seconds(w.end), round(w.confidence, 3))
            for w in report.words
        ]
        return Final(
            utterance=self._utterance,
            text=report.text,
            start=_seconds(report.start),
            end=_seconds(report.end),
            confidence=round(report.confidence, 3),
            engine=self.engine,
            latency=latency,
            clock=round(clock, 4),
            sample=report.start,
            time=round(time.time() - (now - clock), 4),
            own_voice=own_voice,
            words=words if self.words else None,
            tokens=report.tokens if self.tokens else None,
        )

    def _abandon(self, end: int) -> None:
        """Give the open utterance its final, without text."""
        if self._open is None:
            return
        empty = Said(self.number, self._open, end, end, end, "", 0.0, end)
        self._listener(self._final(empty))
        self._open = None

    def _pass(self, position: int, floor: int) -> None:
        if self._open is not None and floor > self._open:
            self._abandon(floor)  # another worker, of another kind, did not find it
        self.resume = max(self.resume, position)
        self.floor = max(self.floor, floor)
        self.marks = [mark for mark in self.marks if mark.end > self.resume]
        self._progress.set()

    # -- what the daemon decides ----------------------------------------------------------------

    def mark(self, start: int, end: int) -> Mark:
        """Finish the open utterance at `start`; audio goes on at `end`."""
        mark = Mark(self.number, start, end)
        if self.marks and self.marks[-1].end == start < end:
            self.marks[-1] = Mark(self.number, self.marks[-1].start, end)
        else:
            self.marks.append(mark)
        self.own_voice.missed(end)
        return mark

    def announce_gap(self, start: int, end: int, reason: Any) -> None:
        self._listener(Gap(_seconds(start), _seconds(end), reason))

    def skip(self, end: int, reason: Any) -> None:
        """Give up everything before `end`: say so, and close the utterance that had begun."""
        start = self.floor if self._open is None else self._open
        self._abandon(end)
        self._pass(end, end)
        self.announce_gap(start, end, reason)

    # -- what the machine itself says -----------------------------------------------------------

    def play(self, text: str | None, longest: int) -> None:
        """It speaks from now on, for `longest` samples at the most."""
        if self.own_voice.current:
            self.own_voice.current.end_at(self.written, "replaced")
            self._end_playback()
        playing = self.own_voice.start(self.written, longest, text)
        self._listener(Playback("started", playing.mode, _seconds(playing.start)))

    def stop_playing(self, tail: int) -> None:
        """It is done; `tail` samples later all is as ever."""
        if self.own_voice.current:
            self.own_voice.current.end_at(self.written + tail, "stopped")

    def keep_out(self) -> tuple[int, int] | None:
        """What came while it spoke, and is not to be heard."""
        kept_out = self.own_voice.keep_out(self.written)
        self._end_playback()
        return kept_out

    def _end_playback(self) -> None:
        ended = self.own_voice.over(self.written)
        if ended is None:
            return
        start, end = _seconds(ended.start), _seconds(ended.end)
        if ended.mode == "gate" and end > start:
            self._listener(Gap(start, end, "playback"))
        self._listener(Playback("stopped", ended.mode, start, end, ended.reason))

    def close(self) -> None:
        self._closed = True
        self._arrivals = Arrivals()  # who still holds the stream need not hold that
        self.ring.close()
        self._progress.set()


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, 3)
