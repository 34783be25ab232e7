"""The policy's contract: of the rungs that may serve, which one is best for what is wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from edged.messages import Rung


@dataclass(frozen=True, slots=True)
class Demand:
    """What is wanted of the engine."""

    streams: int = 1
    """Utterances at once: the size of the batch, worked off one after the other"""
    decode_seconds: float = 0.35
    """How long the recognition of a final may take"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rung that may serve here, and what is known of it."""

    rung: Rung
    kind: str
    """Of its device: cpu, gpu, npu, tpu or dsp"""
    wish: int | None
    """Its place in the hardware profile's order, 0 first; None where that does not name it"""
    real_time_factor: float | None
    """Seconds of work for a second of audio, measured on this machine; None before it was"""


class Policy(ABC):
    """Decides on precision and batching. Pure: the same question has the same answer."""

    name: ClassVar[str]

    @abstractmethod
    def order(self, candidates: Sequence[Candidate], demand: Demand) -> list[Rung]:
        """The rungs of one model to use, best first; what is left out does not serve."""

    @abstractmethod
    def interval(self, usual: float, demand: Demand) -> float:
        """Seconds of new audio that a run for a partial waits for, to take them together; `usual`
        is the hardware profile's."""
