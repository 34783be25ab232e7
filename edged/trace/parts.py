"""What the processes have noted, read back."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from edged.audio.tracing import BLOCK
from edged.errors import EdgedError
from edged.tracer import ENDING, Event, decode


def read(folder: Path) -> list[Event]:
    """All of it from the first sound on, in the order in which it began. Raises EdgedError."""
    events = [event for file in sorted(folder.glob(f"*{ENDING}")) for event in _lines(file)]
    heard = [event.ts for event in events if event.name == BLOCK]
    if not heard:
        raise EdgedError(
            f"There is nothing in {folder} of a microphone that was heard. "
            "Start the daemon with trace.folder set, and stop it when it has heard enough",
            code="no_trace",
        )
    first = min(heard)
    kept = (event for event in events if event.ph == "M" or event.ts >= first)
    return sorted(kept, key=lambda event: (event.ts, -event.end))


def _lines(file: Path) -> Iterator[Event]:
    for line in file.read_bytes().splitlines():
        try:
            yield decode(line)
        except msgspec.DecodeError:
            continue  # its process was ended while it wrote this


class Spans:
    """Spans by name, each kind in the order in which they began."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._named: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.ph == "X":
                self._named[event.name].append(event)
        self._starts = {name: [e.ts for e in found] for name, found in self._named.items()}

    def named(self, name: str) -> Sequence[Event]:
        return self._named.get(name, [])

    def inside(self, name: str, outer: Event) -> list[Event]:
        """Those that a span of the same thread encloses."""
        starts = self._starts.get(name, [])
        first, last = bisect_left(starts, outer.ts), bisect_right(starts, outer.end)
        found = self.named(name)[first:last]
        return [event for event in found if (event.pid, event.tid) == (outer.pid, outer.tid)]
