"""Whether everything was heard: word by word against an undisturbed run of the same audio."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.soak.script import Block
from bench.soak.talkers import Word

AROUND_SECONDS = 5.0
"""Words so far outside a block still belong to it"""
MARGIN_SECONDS = 0.75
"""Words so near a gap may suffer from it"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one run differs from the undisturbed one, in words."""

    expected: int
    equal: int
    in_gaps: int
    """Missing or changed, in audio that was announced as missing"""
    missing: list[Word]
    """Others that are missing"""
    changed: list[tuple[str, str]]
    """Others that are different words"""
    added: int
    outside: int
    """Words that were written in noise"""


def judge(
    expected: Sequence[Word],
    heard: Sequence[Word],
    blocks: Sequence[Block],
    gaps: Sequence[tuple[float, float, str]] = (),
    offset: float = 0.0,
) -> Judgement:
    """`offset` is about how much later than the script the axis of `heard` and `gaps` is."""
    equal = in_gaps = added = outside = total = 0
    missing: list[Word] = []
    changed: list[tuple[str, str]] = []
    taken = 0
    for block in blocks:
        here = _within(expected, block, 0.0)
        there = _within(heard, block, offset)
        taken += len(there)
        total += len(here)
        offset = _shift(here, there, offset)
        for gone, come in _differences(here, there):
            excused = [word for word in gone if _is_in_gap(word.at + offset, gaps)]
            others = [word for word in gone if word not in excused]
            in_gaps += len(excused)
            pairs = list(zip(others, come, strict=False))
            changed += [(old.text, new.text) for old, new in pairs]
            missing += others[len(pairs) :]
            added += max(0, len(come) - len(gone))
        equal += len(here) - sum(len(gone) for gone, _ in _differences(here, there))
    outside = len(heard) - taken
    return Judgement(total, equal, in_gaps, missing, changed, added, outside)


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
