"""Takes the measurements: by rounds, and in each round by turns where there are two to compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
QUICK_CLIPS = 6
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


def measure(wish: Wish, progress: Progress) -> list[Result]:
    """Ours, and that of the edged that it is measured against. Raises EdgedError."""
    installations = [OURS, *([Installation.of(wish.against)] if wish.against else [])]
    heard = clips.of_folder(wish.audio) if wish.audio else []
    subjects = [_Subject(one, wish, heard, progress) for one in installations]
    names = [name for name in MEASUREMENTS if not wish.only or name in wish.only]
    steps = [(number, name) for number in range(wish.rounds) for name in names]
    with environment.watched() as stolen:
        for done, (number, name) in enumerate(steps):
            for subject in subjects if number % 2 == 0 else reversed(subjects):
                progress(f"{name}, round {number + 1}", done / len(steps))
                subject.result.add(MEASUREMENTS[name](subject.room), number)
    for subject in subjects:
        for sentence in stolen:
            subject.result.note(sentence)
    return [subject.result for subject in subjects]


class _Subject:
    """An edged that is measured."""

    def __init__(
        self, installation: Installation, wish: Wish, heard: Sequence[Clip], progress: Progress
    ) -> None:
        progress("starting edged", 0.0)
        described = environment.describe(installation)
        self._installation = installation
        self._settings = _cache_apart(described["build_version"])
        self.result = begin(described, wish.rounds)
        for sentence in environment.spoilers():
            self.result.note(sentence)
        rung = self._find_rung(wish.model)
        self.result.rung = rung
        recordings = heard or clips.of_model(store().get(rung.model))
        self.result.recordings = {clip.name: round(clip.seconds, 3) for clip in recordings}
        spoken = recordings if wish.audio else recordings[:QUICK_CLIPS]
        self.room = Room(installation, rung, recordings, spoken, self._settings)

    def _find_rung(self, model: str) -> Rung:
        """The one that serves; builds the model if need be, and warms the page cache."""
        with running(
            model, self._settings, installation=self._installation, patience=BUILD_SECONDS
        ) as daemon:
            health = daemon.address.get("/v1/health")
        return msgspec.convert(health["engine"]["effective"], Rung)


def _cache_apart(build_version: int) -> dict[str, object]:
    """Another edged that builds models otherwise would build ours anew, and we its own."""
    if build_version == BUILD_VERSION:
        return {}
    return {"cache_dir": paths.cache_directory() / "bench" / f"build-{build_version}"}
