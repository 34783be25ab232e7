"""Whether everything was heard: word by word against an undisturbed run of the same audio."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.soak.script import Block
from bench.soak.talkers import Word

AROUND_SECONDS = 5.0
"""Words so far outside a block still belong to it"""
MARGIN_SECONDS = 0.75
"""Words so near a gap may suffer from it"""

HOLE_WORDS = 3
"""Words in a row of which chance leaves none out"""


@dataclass(slots=True)
class Judgement:
    """How one run differs from the undisturbed one, in words."""

    expected: int = 0
    equal: int = 0
    in_gaps: int = 0
    """Missing or changed, in audio that was announced as missing"""
    missing: list[Word] = field(default_factory=list)
    """Others that are missing"""
    holes: list[list[Word]] = field(default_factory=list)
    """Stretches of those that are too long to be a matter of recognition"""
    changed: list[tuple[str, str]] = field(default_factory=list)
    """Others that are different words"""
    added: int = 0
    outside: int = 0
    """Words that were written in noise"""


def judge(
    expected: Sequence[Word],
    heard: Sequence[Word],
    blocks: Sequence[Block],
    gaps: Sequence[tuple[float, float, str]] = (),
    offset: float = 0.0,
) -> Judgement:
    """`offset` is about how much later than the script the axis of `heard` and `gaps` is."""
    found = Judgement()
    for block in blocks:
        here, there = _within(expected, block, 0.0), _within(heard, block, offset)
        offset = _shift(here, there, offset)
        found.expected += len(here)
        found.equal += len(here)
        found.outside -= len(there)
        for gone, come in _differences(here, there):
            _count(found, gone, come, [_is_in_gap(word.at + offset, gaps) for word in gone])
    found.outside += len(heard)
    return found


def _count(
    found: Judgement, gone: Sequence[Word], come: Sequence[Word], excused: Sequence[bool]
) -> None:
    """One stretch that differs; `excused` says which of `gone` lie in a gap."""
    found.equal -= len(gone)
    found.in_gaps += sum(excused)
    others = [word for word, in_gap in zip(gone, excused, strict=True) if not in_gap]
    pairs = zip(others, come, strict=False)
    found.changed += [(old.text, new.text) for old, new in pairs]
    found.missing += others[len(come) :]
    if len(others) - len(come) >= HOLE_WORDS:
        found.holes.append(others)
    found.added += max(0, len(come) - len(gone))


def _within(words: Sequence[Word], block: Block, offset: float) -> list[Word]:
    first, last = block.start + offset - 1.0, block.end + offset + AROUND_SECONDS - 1.0
    return [word for word in words if first <= word.at < last]


def _shift(here: Sequence[Word], there: Sequence[Word], offset: float) -> float:
    """How much later the words came than they stand in the script."""
    matcher = difflib.SequenceMatcher(None, _texts(here), _texts(there), autojunk=False)
    shifts = [
        there[match.b + k].at - here[match.a + k].at
        for match in matcher.get_matching_blocks()
        for k in range(match.size)
    ]
    return median(shifts) if len(shifts) >= 5 else offset


def _differences(
    here: Sequence[Word], there: Sequence[Word]
) -> list[tuple[Sequence[Word], Sequence[Word]]]:
    """Stretches that differ."""
    matcher = difflib.SequenceMatcher(None, _texts(here), _texts(there), autojunk=False)
    return [
        (here[a:b], there[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"
    ]


def _texts(words: Sequence[Word]) -> list[str]:
    return [re.sub(r"[^\w']", "", word.text.lower()) for word in words]


def _is_in_gap(at: float, gaps: Sequence[tuple[float, float, str]]) -> bool:
    return any(start - MARGIN_SECONDS <= at <= end + MARGIN_SECONDS for start, end, _ in gaps)
