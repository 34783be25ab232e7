"""What a reader of the captions saw: how the text of each utterance changed under their eyes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import NamedTuple

from edged.bench.client import Arrival

TROUBLE = ("error", "gap", "engine")
"""Events that have no place in a quiet measurement"""
_PUNCTUATION = re.compile(r"[^\w\s']")


@dataclass(frozen=True, slots=True)
class Flicker:
    """Words that were shown, and words that were taken back."""

    shown: int = 0
    """Words newly shown"""
    changed: int = 0
    """Words changed or removed after they were shown"""
    changed_by_finals: int = 0
    """Those of them that only the final changed"""

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(
            self.shown + other.shown,
            self.changed + other.changed,
            self.changed_by_finals + other.changed_by_finals,
        )

    @property
    def rate(self) -> float:
        return self.changed / self.shown if self.shown else 0.0


def words(text: str) -> list[str]:
    """The words of a display, compared in lower case without punctuation."""
    return _PUNCTUATION.sub(" ", text.lower()).split()


def utterances(arrivals: Iterable[Arrival]) -> list[list[Arrival]]:
    """The displays of each utterance: its partials, then its final."""
    found: dict[int, list[Arrival]] = {}
    for arrival in arrivals:
        if arrival.event["type"] in {"partial", "final"}:
            found.setdefault(arrival.event["utterance"], []).append(arrival)
    return list(found.values())


def flicker(displays: Sequence[Arrival]) -> Flicker:
    """How one utterance's text changed."""
    shown = changed = by_final = 0
    before: list[str] = []
    for display in displays:
        now = words(display.event["text"])
        kept = _common(before, now)
        shown += len(now) - kept
        changed += len(before) - kept
        if display.event["type"] == "final":
            by_final += len(before) - kept
        before = now
    return Flicker(shown, changed, by_final)


def _common(before: Sequence[str], now: Sequence[str]) -> int:
    """Words of the common prefix."""
    pairs = zip(before, now, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def intervals(displays: Sequence[Arrival]) -> Iterator[float]:
    """Seconds from each partial of one utterance to the next."""
    partials = [display.at for display in displays if display.event["type"] == "partial"]
    return (after - before for before, after in pairwise(partials))


class Broken(NamedTuple):
    """A promise of the protocol that was not kept."""

    kind: str
    detail: str


def broken_promises(arrivals: Sequence[Arrival]) -> list[Broken]:
    """Where a connection broke the protocol's word about utterances and stable text."""
    events = [arrival.event for arrival in arrivals]
    began = [event["utterance"] for event in events if event["type"] == "speech_started"]
    ended = [event["utterance"] for event in events if event["type"] == "final"]
    broken = [Broken(f"{e['type']} event", str(e)) for e in events if e["type"] in TROUBLE]
    if began != ended:
        broken.append(Broken("not one final each", f"{began} began, finals came for {ended}"))
    for displays in utterances(arrivals):
        broken += _unstable([display.event for display in displays])
    return broken


def _unstable(displays: Sequence[dict[str, str]]) -> Iterator[Broken]:
    """Displays that took back what an earlier one had called stable."""
    stable = ""
    for display in displays:
        text = display["text"]
        if not text.startswith(stable):
            kept = words(text)[: len(words(stable))] == words(stable)
            what = "punctuation or case" if kept else "words"
            kind = f"stable {what} changed by a {display['type']}"
            yield Broken(kind, f"{stable!r} became {text!r}")
        stable = display.get("stable", "")


def count_kinds(broken: Iterable[Broken]) -> list[tuple[str, int]]:
    """How often each kind of promise was broken, the most frequent first."""
    return Counter(promise.kind for promise in broken).most_common()
