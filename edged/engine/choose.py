"""Which rungs to try, in which order, and whether one is fast enough to stay."""

from __future__ import annotations

from pathlib import Path

from edged.config import EngineSection
from edged.messages import Ready, Rung
from edged.models.sources import SOURCES

AUTO = "auto"
CHECK_CLIP_SECONDS = 6.0
MEMORY_TO_SPARE = 128 << 20
"""Bytes that must still be available when `auto` keeps the better model"""


def ladder(section: EngineSection, built: list[str]) -> list[Rung]:
    """The rungs that the configuration asks for, best first.

    `auto` is every default model that is built, best first; a model by name is that model alone.
    """
    names = [section.model]
    if section.model == AUTO:
        names = [source.name for source in SOURCES if source.name in built]
    return [Rung(name, section.provider, section.device, section.precision) for name in names]


def too_slow(ready: Ready, room_to_spare: float) -> str | None:
    """Why a rung has no room to spare on this machine, or None."""
    available = _available_memory()
    if available < MEMORY_TO_SPARE:
        return f"it leaves {available >> 20} MB of memory"
    share = ready.check_seconds / CHECK_CLIP_SECONDS
    if share <= room_to_spare:
        return None
    return (
        f"it needs {share:.3f} s for a second of audio here; "
        f"auto wants {room_to_spare} s at the most"
    )


def _available_memory() -> int:
    """Bytes that can be had without swapping."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return MEMORY_TO_SPARE
