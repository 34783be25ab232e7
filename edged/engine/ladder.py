"""The rungs in their order, which of them serves, and when a better one may be tried again.

Pure: time is handed in (seconds of any clock that does not jump), nothing is started here. Each
time a rung is left its wait doubles, so that a rung that cannot stay is not tried for ever; a rung
that has stayed long is trusted again. That is what keeps the ladder from flapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edged.messages import Rung

HOLD_SECONDS = 30.0
"""Wait before a rung that was left is tried again, the first time"""
LONGEST_HOLD_SECONDS = 3600.0
TRUST_SECONDS = 600.0
"""A rung that has served so long is as good as new"""
SLOW_PACE = 3.0
"""The last step: the last rung, with partials this many times less often"""


@dataclass(slots=True)
class Step:
    """One place on the ladder."""

    rung: Rung
    pace: float = 1.0
    """Factor on the time between partials"""
    reason: str | None = None
    """Why it was left the last time"""
    failures: int = 0
    until: float = 0.0
    """Not tried again before"""
    absent: bool = False
    """Whether its device is unplugged"""

    def __str__(self) -> str:
        return str(self.rung) if self.pace == 1 else f"{self.rung}, fewer partials"


class Ladder:
    """Steps, best first, and the one that serves or is about to."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        """`rungs` best first, at least one."""
        self.steps = [Step(rung) for rung in rungs]
        if rungs:
            self.steps.append(Step(rungs[-1], SLOW_PACE))
        self.index = 0
        self.reason: str | None = None
        """Why the first step does not serve"""
        self.pinned = False
        self._since = 0.0

    @property
    def step(self) -> Step:
        return self.steps[self.index]

    @property
    def requested(self) -> Rung | None:
        return self.steps[0].rung if self.steps else None

    def restart(self) -> None:
        """Begin again at the top: nothing works."""
        self.index, self.reason = 0, None

    @property
    def next_rung(self) -> int | None:
        """The first step below with another rung."""
        below = (i for i in self._below() if self.steps[i].rung != self.step.rung)
        return next(below, None)

    def _below(self) -> Iterator[int]:
        """The steps below whose device is there."""
        return (i for i in range(self.index + 1, len(self.steps)) if not self.steps[i].absent)

    def lower(self) -> int | None:
        """The step below; None at the bottom, or while pinned."""
        return None if self.pinned else next(self._below(), None)

    def higher(self, now: float) -> int | None:
        """The best step above that may be tried again."""
        if self.pinned:
            return None
        above = enumerate(self.steps[: self.index])
        return next((i for i, step in above if step.until <= now and not step.absent), None)

    def leave(self, index: int, reason: str, now: float, lasting: bool = False) -> None:
        """Go to a lower step; a `lasting` reason makes the one that is left wait longest."""
        if now - self._since > TRUST_SECONDS:
            self.step.failures = 0
        self.refuse(self.index, reason, now)
        if lasting:
            self.step.until = now + LONGEST_HOLD_SECONDS
        self.reason = reason
        self._enter(index, now)

    def refuse(self, index: int, reason: str, now: float) -> None:
        """A step does not work, or not any more: it has to wait."""
        step = self.steps[index]
        step.failures += 1
        step.reason = reason
        step.until = now + min(HOLD_SECONDS * 2 ** (step.failures - 1), LONGEST_HOLD_SECONDS)

    def attend(self, device: str, present: bool) -> None:
        """A device, such as "openvino npu", was plugged in or unplugged; a new one is as good as
        new."""
        for step in self.steps:
            if step.rung.accelerator == device:
                step.absent = not present
                step.until = 0.0

    def climb(self, index: int, now: float) -> None:
        """Go to a higher step."""
        self._enter(index, now)
        above = [step.reason for step in self.steps[:index] if step.reason]
        self.reason = above[0] if above else None

    def pin(self, index: int, now: float) -> None:
        """Stay on a step, whatever the governor says, until released."""
        self.pinned = True
        self._enter(index, now)
        self.reason = "pinned" if index else None

    def _enter(self, index: int, now: float) -> None:
        self.index, self._since = index, now
