"""What was measured: every single value, so that two results can be compared later."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edged.engine.peaks import Peaks
from edged.engine.prove import GraphRate
from edged.errors import EdgedError
from edged.messages import Rung

Statistic = Literal["mean", "p50", "p95", "p99", "p99/p50"]
LATENCY: tuple[Statistic, ...] = ("mean", "p50", "p95", "p99", "p99/p50")


class Observation(msgspec.Struct, frozen=True, array_like=True):
    """One value."""

    of: str
    """What it was taken of: a recording, or a number"""
    value: float
    weight: float = 1.0
    """What it is divided by in the mean: seconds of audio, words"""
    round: int = 0


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Values of one kind."""

    name: str
    """`streaming final`: the measurement, then what of it"""
    unit: str
    statistics: tuple[Statistic, ...] = ("mean",)
    """The figures made of it; the mean is the sum of the values over that of the weights"""
    better: Literal["lower", "higher"] = "lower"
    observations: list[Observation] = []


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """So many streams at once."""

    streams: int
    kept: bool
    """Whether the bound was kept, by the rung that was asked for, for all of them"""
    final_p50: float | None = None
    """Seconds; null where there was none"""
    final_p95: float | None = None
    finals_per_recording: float = 0.0
    client_processor: float = 0.0
    """Cores that those who spoke used, on the same machine"""
    trouble: str = ""
    """Why not all were served, where that is so"""
    round: int = 0


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """What the graphs reach, and what the processor and its memory can do at most."""

    peaks: Peaks
    graphs: dict[str, GraphRate]

    def roof(self, operations_per_byte: float) -> tuple[float, Literal["memory", "compute"]]:
        """The most GFLOP/s at this intensity, and what sets that bound."""
        by_memory = operations_per_byte * self.peaks.measured_gigabytes_per_second
        by_compute = self.peaks.measured_gigaflops
        return (by_memory, "memory") if by_memory < by_compute else (by_compute, "compute")


@dataclass(frozen=True)
class Found:
    """What one measurement found in one round."""

    series: Sequence[Series] = ()
    levels: Sequence[Level] = ()
    roofline: Roofline | None = None
    notes: Sequence[str] = ()


class Result(msgspec.Struct, kw_only=True):
    """Of one run of `edged bench`."""

    schema_version: Literal[1] = 1
    time: float
    """When it began: Unix time, seconds"""
    environment: dict[str, Any]
    rung: Rung | None = None
    rounds: int = 1
    recordings: dict[str, float] = {}
    """Seconds of each"""
    series: list[Series] = []
    levels: list[Level] = []
    roofline: Roofline | None = None
    notes: list[str] = []
    """What may have spoilt it, and what was left out"""

    def add(self, found: Found, number: int) -> None:
        """Take in what the round of this number found."""
        self.levels += [msgspec.structs.replace(level, round=number) for level in found.levels]
        self.roofline = found.roofline or self.roofline
        self.notes += [sentence for sentence in found.notes if sentence not in self.notes]
        for series in found.series:
            if not series.observations:
                continue
            dated = [msgspec.structs.replace(one, round=number) for one in series.observations]
            known = self.of(series.name)
            if known is None:
                self.series.append(msgspec.structs.replace(series, observations=dated))
            else:
                known.observations.extend(dated)

    def of(self, name: str) -> Series | None:
        return next((series for series in self.series if series.name == name), None)


def begin(environment: dict[str, Any], rounds: int) -> Result:
    return Result(time=time.time(), environment=environment, rounds=rounds)


def write(path: Path, result: Result) -> None:
    """Raises EdgedError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(result) + b"\n")
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> EdgedError:
    """A file or folder of the user's."""
    return EdgedError(
        f"{path} cannot be written ({error.strerror}). Choose another place", code="unwritable"
    )


def read(path: Path) -> Result:
    """Raises EdgedError when it is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise EdgedError(f"{path} cannot be read: {error.strerror}", code="no_file") from error
    except msgspec.DecodeError as error:
        raise EdgedError(
            f"{path} is no result of this version's `edged bench` ({error}). "
            "Make one: edged bench --output FILE",
            code="bad_result",
        ) from error
