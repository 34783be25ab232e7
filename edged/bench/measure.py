"""Takes the measurements: by rounds, and in each round by turns where there are two to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edged import paths
from edged.bench import (
    clips,
    concurrency,
    copies,
    environment,
    idle,
    memory,
    offline,
    roofline,
    start,
    streaming,
    switching,
)
from edged.bench.clips import Clip
from edged.bench.daemon import OURS, Installation, running
from edged.bench.result import Found, Result, begin
from edged.bench.room import Room
from edged.errors import EdgedError
from edged.messages import Rung
from edged.models.inventory import store
from edged.models.store import BUILD_VERSION

MEASUREMENTS: dict[str, Callable[[Room], Found]] = {
    "offline": offline.measure,
    "streaming": streaming.measure,
    "idle": idle.measure,
    "start": start.measure,
    "memory": memory.measure,
    "concurrency": concurrency.measure,
    "roofline": roofline.measure,
    "copies": copies.measure,
    "switch": switching.measure,
}
QUICK_CLIPS = 5
"""Of the model's own, so many are heard at the pace of time"""
BUILD_SECONDS = 600.0
"""Longest first start: the model may have to be built"""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Wish:
    """What is to be measured."""

    model: str = "auto"
    audio: Path | None = None
    only: Sequence[str] = ()
    """Measurements; all, if none"""
    rounds: int = 1
    against: Path | None = None
    """The Python of another edged"""


def parse_only(words: str | None) -> list[str]:
    """`offline,start` as a list. Raises EdgedError."""
    names = [name.strip() for name in (words or "").split(",") if name.strip()]
    for name in names:
        if name not in MEASUREMENTS:
            raise EdgedError(
                f"There is no measurement {name!r}; there are {', '.join(MEASUREMENTS)}",
                code="unknown_measurement",
            )
    return names


def measure(wish: Wish, progress: Progress, warn: Callable[[str], None]) -> list[Result]:
    """Ours, and that of the edged that it is measured against. Raises EdgedError.

    `warn` is told beforehand what may spoil the figures.
    """
    recordings = clips.of_folder(wish.audio) if wish.audio else []
    installations = [OURS, *([Installation.of(wish.against)] if wish.against else [])]
    results = [begin(environment.describe(one), wish.rounds) for one in installations]
    notes = environment.spoilers()
    for sentence in notes:
        warn(f"These figures may be spoilt: {sentence}")
    rooms = _rooms(installations, results, recordings, wish.model, progress)
    with environment.watched() as stolen:
        _measure(rooms, wish, progress)
    for result in results:
        result.notes[:0] = [*notes, *stolen]
    return results


_Rooms = Sequence[tuple[Room, Result]]


def _rooms(
    installations: Sequence[Installation],
    results: Sequence[Result],
    recordings: Sequence[Clip],
    model: str,
    progress: Progress,
) -> _Rooms:
    """Another's edged gets our model and recordings, whatever it would choose."""
    rooms = []
    spoken = recordings
    for installation, result in zip(installations, results, strict=True):
        progress("starting edged", 0.0)
        settings = _cache_apart(result.environment["build_version"])
        rung = result.rung = _find_rung(model, settings, installation)
        model = rung.model
        if not recordings:
            recordings = clips.of_model(store().get(model))
            spoken = recordings[:QUICK_CLIPS]
        result.recordings = {clip.name: round(clip.seconds, 3) for clip in recordings}
        rooms.append((Room(installation, rung, recordings, spoken, settings), result))
    return rooms


def _find_rung(model: str, settings: Mapping[str, object], installation: Installation) -> Rung:
    """The one that serves; builds the model if need be, and warms the page cache."""
    with running(model, settings, installation=installation, patience=BUILD_SECONDS) as daemon:
        health = daemon.address.get("/v1/health")
    return msgspec.convert(health["engine"]["effective"], Rung)


def _measure(rooms: _Rooms, wish: Wish, progress: Progress) -> None:
    """Everything in every round, in even ones ours first, in odd ones the other."""
    names = [name for name in MEASUREMENTS if not wish.only or name in wish.only]
    steps = [(number, name) for number in range(wish.rounds) for name in names]
    for done, (number, name) in enumerate(steps):
        for room, result in rooms if number % 2 == 0 else reversed(rooms):
            progress(f"{name}, round {number + 1}", done / len(steps))
            result.add(MEASUREMENTS[name](room), number)


def _cache_apart(build_version: int) -> dict[str, object]:
    """Another edged that builds models otherwise would build ours anew, and we its own."""
    if build_version == BUILD_VERSION:
        return {}
    return {"cache_dir": paths.cache_directory() / "bench" / f"build-{build_version}"}
