"""Which stretches of a recording are to be heard again, and how the engine learned of them.

An utterance depends on its samples, on where its stream was taken up, and on the marks in it: all
of that was recorded. From such a place on the same rung writes the same finals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edged.messages import Introduced, Mark, Passed, Said
from edged.recognizer import SAMPLE_RATE
from edged.recorder.lines import Line, Sound
from edged.recorder.recording import Track

CONTEXT = SAMPLE_RATE
"""Samples before an utterance that count: what the detector remembers, and some to be sure"""
AFTER = 2 * SAMPLE_RATE
"""Samples after the last utterance that may still show that it is longer now. At the end of a
recording, so much is not compared: its finals may not have been written any more"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream can be taken up: nothing that was heard before counts there."""

    introduced: Introduced
    position: int
    floor: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """One that was recorded."""

    line: Line
    said: Said
    place: Place | None
    """The last one before it"""


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a stream that is heard in one go."""

    track: Track
    place: Place
    wanted: list[Utterance]
    """What was recognised in it"""
    until: int
    """Where its audio ends"""
    limit: int
    """What comes after the last of them and is over later than here is not compared"""

    @property
    def begin(self) -> int:
        """Where its audio begins."""
        return max(0, self.place.floor - CONTEXT)

    @property
    def engine(self) -> tuple[object, ...]:
        """What has to be loaded for it."""
        how = self.place.introduced
        return how.rung, how.detector, how.encoder_threads, how.decoder_threads

    def steps(self) -> Iterator[int | Mark]:
        """What the engine learned, in order: how far there is audio, and marks."""
        position = self.place.position
        yield position
        for line in self.track.lines:
            match line.what:
                case Sound(ends=ends):
                    yield from (end for end in ends if position < end < self.until)
                case Mark() as mark if mark.end > position and mark.start < self.until:
                    yield mark
        yield self.until


def plan(track: Track, is_wanted: Callable[[Utterance], bool]) -> tuple[list[Run], int]:
    """The runs of a stream, and how many wanted utterances cannot be heard again."""
    holes = track.holes()
    groups: list[list[Utterance]] = []
    unheard = 0
    last = 0
    for utterance in utterances(track):
        last = utterance.said.resume
        if not is_wanted(utterance):
            continue
        if utterance.place is None or _is_torn(holes, utterance.place.floor, utterance.said):
            unheard += 1
        elif groups and _goes_on(holes, groups[-1], utterance):
            groups[-1].append(utterance)
        else:
            groups.append([utterance])
    return [_run(track, group, last) for group in groups], unheard


def utterances(track: Track) -> Iterator[Utterance]:
    """All that were recorded, each once: a new worker may have said some again."""
    introduced, resume = track.introduced, 0
    place: Place | None = None
    for line in track.lines:
        match line.what:
            case Introduced() as introduced:
                place = Place(introduced, introduced.opening.position, introduced.opening.floor)
            case Said() as said if said.resume > resume:
                yield Utterance(line, said, place)
                resume = said.resume
                if introduced:
                    place = Place(introduced, resume, min(said.end, resume))
            case Passed() as passed if introduced and passed.position >= resume:
                place = Place(introduced, passed.position, passed.floor)


def _run(track: Track, wanted: list[Utterance], last: int) -> Run:
    place, said = wanted[0].place, wanted[-1].said
    assert place is not None
    if said.resume == last:
        return Run(track, place, wanted, track.end, max(said.end, track.end - AFTER))
    return Run(track, place, wanted, min(track.end, said.decided + AFTER), said.end)


def _goes_on(
    holes: Sequence[tuple[int, int]], group: Sequence[Utterance], utterance: Utterance
) -> bool:
    """Whether it was written by the same worker, with all audio since the first one there."""
    first = group[0].place
    assert first is not None
    assert utterance.place is not None
    same = utterance.place.introduced is first.introduced
    return same and not _is_torn(holes, first.floor, utterance.said)


def _is_torn(holes: Sequence[tuple[int, int]], start: int, said: Said) -> bool:
    return any(first < said.decided and start - CONTEXT < last for first, last in holes)
