"""What the machine itself says: not heard, or recognised and taken out again.

While it plays something of which the text is not known, its streams hear nothing (a gate). Where
the text is known, words that it explains are taken out of what is recognised, and the rest stays,
so that somebody may speak in between. Positions count samples of the stream; no clock inside.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher, get_close_matches
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from msgspec.structs import replace

from edged.messages import Heard, Said

ALIKE = 0.75
"""Least likeness of a word to one of the text's for which it may be that one misheard, 0 to 1"""
ALIKE_IN_PLACE = 0.5
"""The same of words between those that were recognised"""
SHORT = 4
"""Letters below which nothing is misheard: `not` does not explain `no`"""
NEAR = 2
"""Words that may lie between a single word and those that are surely the machine's own"""
REMEMBERED = 16
"""Texts that late finals are still held against"""

Reason = Literal["stopped", "replaced", "timed_out"]


@dataclass(slots=True)
class Playback:
    """Something that is played."""

    start: int
    end: int
    """Where it is over at the latest; earlier once that is known"""
    words: tuple[str, ...] | None
    """Of its text, bare; None for a gate"""
    reason: Reason = "timed_out"
    """Why it is over then"""
    heard: int = 0
    """How many of its words were recognised so far"""
    kept_out: int = field(init=False)
    """How far a gate has kept audio out"""

    def __post_init__(self) -> None:
        self.kept_out = self.start

    @property
    def mode(self) -> Literal["gate", "words"]:
        return "gate" if self.words is None else "words"

    def end_at(self, position: int, reason: Reason) -> None:
        if position < self.end:
            self.end, self.reason = position, reason


class OwnVoice:
    """Of one stream."""

    def __init__(self) -> None:
        self.current: Playback | None = None
        self._texts: deque[Playback] = deque(maxlen=REMEMBERED)

    def start(self, position: int, longest: int, text: str | None) -> Playback:
        """From here on, for `longest` samples at the most, in place of what was played."""
        words = None if text is None else tuple(filter(None, map(bare, text.split())))
        self.current = playback = Playback(position, position + longest, words)
        if words is not None:
            self._texts.append(playback)
        return playback

    def keep_out(self, written: int) -> tuple[int, int] | None:
        """The audio before `written` that is new and not to be heard."""
        gate = self.current
        if gate is None or gate.mode != "gate":
            return None
        start, gate.kept_out = gate.kept_out, max(gate.kept_out, min(written, gate.end))
        return (start, gate.kept_out) if start < gate.kept_out else None

    def missed(self, end: int) -> None:
        """There is no audio before `end` that a gate would still have to keep out."""
        if self.current:
            self.current.kept_out = max(self.current.kept_out, end)

    def over(self, written: int) -> Playback | None:
        """What is over by now, once."""
        ended = self.current
        if ended is None or written < ended.end:
            return None
        self.current = None
        return ended

    # -- words ----------------------------------------------------------------------------------

    def taken_out(self, said: Said) -> tuple[Said, str | None]:
        """A final without the machine's own words, and those, if there are any."""
        playing = self._playing(said.start, said.speech_end)
        heard = said.text.split()
        own = _own(heard, playing)
        if len(said.words) == len(heard):
            for number, word in enumerate(said.words):
                own[number] &= _was_playing(playing, word.start, word.end)
        if not any(own):
            return said, None
        _remember(playing, _explained(_all_bare(heard), *_text(playing)))
        words = [word for word, is_own in zip(said.words, own, strict=False) if not is_own]
        rest = replace(said, text=_those(heard, own, False), words=words, tokens=[])
        return rest, _those(heard, own, True)

    def taken_out_yet(self, heard: Heard) -> Heard:
        """A partial likewise; what may still turn out to be the machine's own is not stable."""
        playing = self._playing(heard.start, heard.end)
        if not playing:
            return heard
        words = heard.text.split()
        own = _own(words, playing)
        vocabulary = _vocabulary(_text(playing)[0])
        sure = 0
        for word in heard.text[: heard.stable].split():
            if _nearest(bare(word), vocabulary):
                break
            sure += 1
        return replace(heard, text=_those(words, own, False), stable=len(" ".join(words[:sure])))

    def _playing(self, start: int, end: int) -> list[Playback]:
        return [text for text in self._texts if text.start < end and start < text.end]


def _was_playing(playing: Sequence[Playback], start: int, end: int) -> bool:
    return any(text.start < end and start < text.end for text in playing)


def _own(heard: Sequence[str], playing: Sequence[Playback]) -> list[bool]:
    if not playing:
        return [False] * len(heard)
    return [place is not None for place in _explained(_all_bare(heard), *_text(playing))]


def _text(playing: Sequence[Playback]) -> tuple[list[str], int]:
    """The words of all texts in a row, and which of them is expected next."""
    words: list[str] = []
    expected = 0
    for text in playing:
        if text.heard:
            expected = len(words) + text.heard
        words += text.words or ()
    return words, expected


def _remember(playing: Sequence[Playback], places: Sequence[int | None]) -> None:
    """How far the texts were heard, for the finals that follow."""
    first = 0
    for text in playing:
        count = len(text.words or ())
        reached = [place for place in places if place is not None and place < first + count]
        text.heard = max(text.heard, max(reached, default=first - 1) + 1 - first)
        first += count


def _those(words: Sequence[str], own: Sequence[bool], which: bool) -> str:
    return " ".join(word for word, is_own in zip(words, own, strict=True) if is_own is which)


def _all_bare(words: Sequence[str]) -> list[str]:
    return [bare(word) for word in words]


def bare(word: str) -> str:
    """Letters and digits alone, small."""
    return re.sub(r"[\W_]", "", word.casefold())


def _explained(heard: Sequence[str], spoken: Sequence[str], expected: int) -> list[int | None]:
    """For each word that was heard the place of the spoken one that explains it, or None.

    Two in a row are no accident. One alone counts beside such, or where it is what was to come
    next: anybody may say a word that the text has somewhere.
    """
    vocabulary = _vocabulary(spoken)
    known = [_nearest(word, vocabulary) for word in heard]
    # Longest runs first, so that what is repeated finds its own place.
    blocks = SequenceMatcher(None, known, spoken, autojunk=False).get_matching_blocks()[:-1]
    places: list[int | None] = [None] * len(heard)
    sure = [(0, expected), *((b.a, b.b) for b in blocks if b.size > 1)]
    sure += [(b.a + b.size, b.b + b.size) for b in blocks if b.size > 1]
    for block in blocks:
        if block.size > 1 or any(_is_near(block.a, block.b, a, b) for a, b in sure):
            places[block.a : block.a + block.size] = range(block.b, block.b + block.size)
    _fill(places, heard, spoken)
    return places


def _fill(places: list[int | None], heard: Sequence[str], spoken: Sequence[str]) -> None:
    """Beside and between its own words, what sounds like those it says there is its own too."""
    own = [(number, place) for number, place in enumerate(places) if place is not None]
    if not own:
        return
    (first, begin), (last, end) = own[0], own[-1]
    after = len(heard) - last
    edges = [(-1, max(-1, begin - first - 1)), *own, (len(heard), end + after)]
    for (first, begin), (last, end) in pairwise(edges):
        between, said = heard[first + 1 : last], spoken[begin + 1 : end]
        if 0 < len(between) <= NEAR and len(said) <= 2 * NEAR and _sound_alike(between, said):
            places[first + 1 : last] = [max(begin, 0)] * len(between)


def _sound_alike(some: Sequence[str], others: Sequence[str]) -> bool:
    return SequenceMatcher(None, "".join(some), "".join(others)).ratio() >= ALIKE_IN_PLACE


def _is_near(a: int, b: int, sure_a: int, sure_b: int) -> bool:
    """Whether two pairs of places lie in the same order, and close together."""
    return abs(a - sure_a) <= NEAR and abs(b - sure_b) <= NEAR and (a < sure_a) == (b < sure_b)


def _vocabulary(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(words)))


@lru_cache(4096)
def _nearest(word: str, vocabulary: tuple[str, ...]) -> str | None:
    """The word of a text that this one is, or may be the mishearing of."""
    if word in vocabulary:
        return word
    if len(word) < SHORT:
        return None
    return next(iter(get_close_matches(word, vocabulary, 1, ALIKE)), None)
