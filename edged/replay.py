"""`edged replay`: what was recorded, through the engine again, and where it comes out otherwise."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
import numpy as np
from msgspec.structs import replace

from edged.config import Configuration
from edged.engine import choose
from edged.engine.stream import Stream
from edged.engine.supervisor import Beginning, Supervisor
from edged.engine.witness import Witness
from edged.errors import EngineError, RecordingError
from edged.messages import Introduced, Mark, Message, Said, Turns
from edged.models.inventory import store
from edged.recognizer import SAMPLE_RATE
from edged.recorder.plan import Run, Utterance, plan
from edged.recorder.recording import Recording

PIECE = SAMPLE_RATE
"""Most samples written at once"""
LEAD = 512
"""Samples of silence after a gap, as the capture process leaves them"""

Progress = Callable[[str, float], None]
Hear = Callable[[Run], Awaitable[list[Said]]]


class Wish(msgspec.Struct, frozen=True):
    """What to replay, and what shall be otherwise than it was."""

    since: str | None = None
    until: str | None = None
    stream: str | None = None
    rung: dict[str, str] = {}
    """Fields of the rung"""
    turns: Turns | None = None


def changed_turns(
    silence: float | None, early_silence: float | None, onset: float | None
) -> Turns | None:
    """Other rules of endpoints, from seconds; None for those that were recorded."""
    if silence is None and early_silence is None and onset is None:
        return None
    return Turns(onset=onset, early=_samples(early_silence), late=_samples(silence))


def _samples(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SAMPLE_RATE)


class Difference(msgspec.Struct, frozen=True):
    """Something that came out otherwise."""

    stream: str
    time: float
    """Unix time of the utterance's start"""
    start: float
    """The same in seconds of the stream"""
    what: str
    """text, start, end, missing or new"""
    recorded: str
    replayed: str

    @property
    def moment(self) -> str:
        """By this machine's time zone."""
        return datetime.fromtimestamp(self.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


class Result(msgspec.Struct):
    """What a replay has shown."""

    utterances: int = 0
    """That were compared"""
    unheard: int = 0
    """Whose audio is not all there any more"""
    seconds: float = 0.0
    """Of audio that were heard again"""
    differences: list[Difference] = []
    warnings: list[str] = []


async def replay(
    configuration: Configuration, recording: Recording, wish: Wish, progress: Progress
) -> Result:
    """Compare a recording with what the engine writes now. Raises EdgedError."""
    result = Result()
    runs = wanted(recording, wish, result)
    if not runs:
        raise RecordingError(
            "There is no utterance to compare: none in that time, or its audio is gone",
            code="nothing_to_replay",
        )
    total = sum(run.until - run.begin for run in runs) / SAMPLE_RATE
    for engine in dict.fromkeys(run.engine for run in runs):
        some = [run for run in runs if run.engine == engine]
        async with _engine(configuration, some[0], wish, result) as hear:
            for run in some:
                result.differences += _compare(recording, run, await hear(run))
                result.utterances += len(run.wanted)
                result.seconds = round(result.seconds + (run.until - run.begin) / SAMPLE_RATE, 3)
                progress(run.track.name, min(1.0, result.seconds / total))
    result.differences.sort(key=lambda difference: (difference.time, difference.stream))
    return result


def wanted(recording: Recording, wish: Wish, result: Result) -> list[Run]:
    """What is to be heard again, as far as its audio is there."""
    since = recording.moment(wish.since) if wish.since else float("-inf")
    until = recording.moment(wish.until) if wish.until else float("inf")
    runs: list[Run] = []
    for track in recording.tracks:
        if wish.stream not in {None, track.name}:
            continue

        def is_wanted(utterance: Utterance, session: str = track.session) -> bool:
            start = recording.time_of(session, utterance.line, utterance.said.start)
            return since <= start < until

        found, unheard = plan(track, is_wanted)
        runs += found
        result.unheard += unheard
    return runs


# -- the engine ---------------------------------------------------------------------------------


class _Hearer(Witness):
    """Keeps what is said of each stream, and by whom."""

    def __init__(self) -> None:
        self.said: dict[int, list[Said]] = {}
        self.introduced: Introduced | None = None

    def told(self, stream: Stream, message: Message) -> None:
        if isinstance(message, Introduced):
            self.introduced = message
        elif isinstance(message, Said):
            said = self.said.setdefault(stream.number, [])
            if not said or message.resume > said[-1].resume:  # a new worker says some again
                said.append(message)


@asynccontextmanager
async def _engine(
    configuration: Configuration, run: Run, wish: Wish, result: Result
) -> AsyncIterator[Hear]:
    """That which wrote a run, but for what is wished otherwise. Raises EdgedError."""
    then = run.place.introduced
    rung = replace(then.rung, **wish.rung)
    folder = store().get(rung.model).folder
    options = replace(
        choose.worker_options(configuration),
        detector=then.detector,
        encoder_threads=then.encoder_threads,
        decoder_threads=then.decoder_threads,
    )
    hearer = _Hearer()
    supervisor = Supervisor([rung], lambda _rung: folder, options, witness=hearer)
    supervisor.start()

    async def hear(run: Run) -> list[Said]:
        return await _hear(supervisor, hearer, run, wish.turns)

    try:
        await _wait_ready(supervisor)
        yield hear
    finally:
        await supervisor.stop()
    if hearer.introduced and not wish.rung:
        result.warnings += _changes(then, hearer.introduced)


async def _wait_ready(supervisor: Supervisor) -> None:
    try:
        await supervisor.wait_ready()
    except EngineError as error:
        raise RecordingError(error.message, code=error.code) from error


def _changes(then: Introduced, now: Introduced) -> Iterator[str]:
    if then.model != now.model:
        yield f"{then.rung.model} has other files than those that were recorded with"
    if then.runtime != now.runtime:
        yield f"it was recorded with {then.runtime}, this is {now.runtime}"


async def _hear(
    supervisor: Supervisor, hearer: _Hearer, run: Run, turns: Turns | None
) -> list[Said]:
    """What the engine says of a run now."""
    opening = run.place.introduced.opening
    stream = supervisor.open(
        lambda _event: None,
        partials=False,
        words=opening.words,
        tokens=opening.tokens,
        turns=turns or opening.turns,
        trace=True,
        begin=Beginning(run.begin, run.place.position, run.place.floor),
    )
    try:
        for step in run.steps():
            if isinstance(step, Mark):
                supervisor.mark(stream, step.start, step.end)
            else:
                await _write(supervisor, stream, run, step)
        await stream.reached(supervisor.flush(stream))
    finally:
        supervisor.close(stream)
    return hearer.said.pop(stream.number, [])


async def _write(supervisor: Supervisor, stream: Stream, run: Run, until: int) -> None:
    """Go on to there, with the audio that was captured."""
    while stream.written < until:
        start, end = stream.written, min(until, stream.written + PIECE)
        gap = run.track.gap_at(start)
        if gap:
            stream.ring.write(gap - LEAD, np.zeros(LEAD, np.float32))
            stream.wrote(gap, time.monotonic())
        else:
            samples = run.track.samples(start, end)
            await stream.room(len(samples))
            stream.write(samples)
        supervisor.notify(stream)


# -- what is otherwise --------------------------------------------------------------------------


def _compare(recording: Recording, run: Run, replayed: list[Said]) -> Iterator[Difference]:
    """Both in order; those that overlap are held against each other."""
    recorded = [utterance.said for utterance in run.wanted]
    last = recorded[-1].end
    now = [said for said in replayed if said.start < last or said.decided <= run.limit]
    first = run.wanted[0]

    def difference(said: Said, what: str, one: str, other: str) -> Difference:
        return Difference(
            stream=run.track.name,
            time=round(recording.time_of(run.track.session, first.line, said.start), 3),
            start=round(said.start / SAMPLE_RATE, 3),
            what=what,
            recorded=one,
            replayed=other,
        )

    while recorded or now:
        if not now or (recorded and recorded[0].end <= now[0].start):
            said = recorded.pop(0)
            yield difference(said, "missing", said.text, "")
        elif not recorded or now[0].end <= recorded[0].start:
            said = now.pop(0)
            yield difference(said, "new", "", said.text)
        else:
            then, said = recorded.pop(0), now.pop(0)
            for what, one, other in _fields(then, said):
                if one != other:
                    yield difference(then, what, one, other)


def _fields(then: Said, now: Said) -> Iterator[tuple[str, str, str]]:
    yield "start", _seconds(then.start), _seconds(now.start)
    yield "end", _ending(then), _ending(now)
    yield "text", then.text, now.text


def _ending(said: Said) -> str:
    return f"{_seconds(said.end)}, clear at {_seconds(said.decided)} ({said.reason})"


def _seconds(samples: int) -> str:
    return f"{samples / SAMPLE_RATE:.3f} s"
